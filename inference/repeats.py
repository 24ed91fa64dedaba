"""A mark that is tiled over a photo: what its copies tell of each other.

The copies of a mark are alike, the scenes behind them are not. So the probability map is compared
with itself at every shift, and where it matches, each pixel gets the mean evidence of all copies:
what the scene hides of one of them others show, and what only one shows is less certain.

Source: correlation of the overlapping parts as in Padfield, "Masked object registration in the
Fourier domain", TIP 2012; these parts are rectangles here, so that sums replace most transforms.
The constants were chosen on validation photos: EXPERIMENTS.md, 2026-11-29.
"""

import math

import cv2
import numpy as np

from inference.maps import logit, reduced, sigmoid

MIN_CONTRAST = 0.2  # of the probability, between a mark and its ground
COARSE_PX, FINE_PX = 256, 1024  # longest side at which shifts are found, and measured
COARSE_SIGMA = 0.8  # px, of a blur that lets nearly equal copies match
MIN_CORRELATION = 0.55  # of a map with itself, shifted from copy to copy
WEAKEST = 0.7  # of the best shift's correlation, that another one must have
MIN_POWER = 0.3  # of the map's, that overlapping parts count as having: a single blob is no copy
MIN_OVERLAP = 0.15  # of the map, that a shift leaves
PEAK_PX = 9  # within which, at COARSE_PX, there is only one shift
MAX_SHIFTS = 8
OWN_WEIGHT = 4.0  # of a pixel itself, against its copies of at most 1 each
BAND_ROWS = 64  # that are judged together, fast in the cache
REPEATED_LOGIT = 0.4  # the evidence that lies in being repeated
CERTAIN_LOGIT = 3.0  # from which what a single copy shows stays

Shift = tuple[float, float, float]  # correlation, 0..1, px down, px to the right


def share_repeats(probability: np.ndarray, shifts: list[Shift]) -> np.ndarray:
    """Probability (float32, H x W) of each pixel by all copies of a mark that is repeated.

    Args:
        probability: float32, H x W.
        shifts: from copy to copy; see `find_shifts`.
    """
    own, shared = logit(probability, 1e-3), np.empty_like(probability)
    moves = _moves(shifts)
    for top in range(0, len(own), BAND_ROWS):  # of a large photo nothing else is kept whole
        band = range(top, min(top + BAND_ROWS, len(own)))
        total = OWN_WEIGHT * own[band.start : band.stop]
        weights = np.full_like(total, OWN_WEIGHT)
        for weight, down, right in moves:
            rows, from_rows = _overlap(band, len(own), down)
            columns, from_columns = _overlap(range(own.shape[1]), own.shape[1], right)
            total[rows, columns] += weight * own[from_rows, from_columns]
            weights[rows, columns] += weight
        mean = total / weights + REPEATED_LOGIT * (weights > OWN_WEIGHT)
        least = own[band.start : band.stop] - CERTAIN_LOGIT
        shared[band.start : band.stop] = sigmoid(np.maximum(mean, least))
    return shared


def _moves(shifts: list[Shift]) -> list[tuple[float, int, int]]:
    """The shifts and their opposites, in whole pixels."""
    moves = [(weight, round(down), round(right)) for weight, down, right in shifts]
    return moves + [(weight, -down, -right) for weight, down, right in moves]


def _overlap(band: range, length: int, shift: int) -> tuple[slice, slice]:
    """Which places of a band have a copy `shift` farther on in 0..length, and where that lies."""
    first = min(max(band.start, -shift), band.stop)
    stop = max(min(band.stop, length - shift), first)
    return slice(first - band.start, stop - band.start), slice(first + shift, stop + shift)


def find_shifts(probability: np.ndarray) -> list[Shift]:
    """From copy to copy of what a probability map (float32, H x W) shows.

    Returns:
        At most MAX_SHIFTS, best first, without their opposites; none if nothing is repeated.
    """
    if np.ptp(probability) < MIN_CONTRAST:
        return []
    zoom = min(1.0, COARSE_PX / max(probability.shape))
    coarse = cv2.GaussianBlur(reduced(probability, zoom), (0, 0), COARSE_SIGMA)
    correlation, middle = _normalised_autocorrelation(coarse), coarse.shape[1] - 1
    lobes = cv2.connectedComponents((correlation > MIN_CORRELATION / 2).view(np.uint8))[1]
    correlation[lobes == lobes[0, middle]] = -1  # a copy still overlaps itself
    correlation[0, :middle] = -1  # opposites
    peaks = correlation == cv2.dilate(correlation, np.ones((PEAK_PX, PEAK_PX)))
    peaks &= correlation >= MIN_CORRELATION
    found = [(float(correlation[y, x]), y, x - middle) for y, x in np.argwhere(peaks)]
    found = sorted(found, reverse=True)[:MAX_SHIFTS]
    found = [peak for peak in found if peak[0] >= WEAKEST * found[0][0]]
    return _measured(probability, found, zoom) if found else []


def _measured(probability, found: list[Shift], zoom: float) -> list[Shift]:
    """Shifts that were found at `zoom` of the size, to a fraction of a pixel."""
    fine_zoom = min(1.0, FINE_PX / max(probability.shape))
    fine = reduced(probability, fine_zoom)
    products, middle = _autocorrelation(fine - fine.mean()), fine.shape[1] - 1
    scale, measured = fine_zoom / zoom, []
    for correlation, down, right in found:
        place = round(down * scale), round(right * scale) + middle
        down, right = _peak_near(products, place, radius=math.ceil(scale))
        measured.append((correlation, down / fine_zoom, (right - middle) / fine_zoom))
    return measured


def _autocorrelation(values: np.ndarray) -> np.ndarray:
    """float32, H x (2 W - 1): sums of products, shifted down by 0..H-1 and right by 1-W..W-1."""
    height, width = values.shape
    padded = np.zeros([cv2.getOptimalDFTSize(2 * side) for side in values.shape], np.float32)
    padded[:height, :width] = values
    spectrum = cv2.dft(padded, nonzeroRows=height)
    power = cv2.mulSpectrums(spectrum, spectrum, 0, conjB=True)
    products = cv2.idft(power, flags=cv2.DFT_SCALE)[:height]
    return products[:, np.arange(1 - width, width)]  # negative ones lie at the end


def _normalised_autocorrelation(values: np.ndarray) -> np.ndarray:
    """The same by the power of the parts that overlap: -1..1; -1 where too little overlaps."""
    values = values - values.mean()
    squared = np.square(values)
    least = MIN_POWER * squared.sum() + 1e-9  # of a flat map, too
    one, other = _overlap_sums(squared), _overlap_sums(squared[::-1, ::-1])
    correlation = _autocorrelation(values)
    correlation /= np.sqrt(np.maximum(one, least) * np.maximum(other, least))
    correlation[_overlap_sums(np.ones_like(values)) < MIN_OVERLAP * values.size] = -1
    return correlation


def _overlap_sums(values: np.ndarray) -> np.ndarray:
    """Sums over the part that the shifted map covers, at the shifts of `_autocorrelation`."""
    left, right = (part.cumsum(0).cumsum(1)[::-1, ::-1] for part in (values[:, ::-1], values))
    return np.hstack([left[:, :0:-1], right])


def _peak_near(values: np.ndarray, place: tuple[int, int], radius: int) -> tuple[float, float]:
    """Row and column of the highest value within `radius`, by a parabola through its neighbours."""
    corner = [max(0, part - radius) for part in place]
    rows, columns = (slice(low, part + radius + 1) for low, part in zip(corner, place))
    window = values[rows, columns]
    y, x = np.add(corner, np.unravel_index(window.argmax(), window.shape))
    return y + _vertex(values[:, x], y), x + _vertex(values[y], x)


def _vertex(line: np.ndarray, peak: int) -> float:
    """Where between its neighbours, -0.5..0.5, a peak lies."""
    if not 0 < peak < len(line) - 1:
        return 0.0
    before, here, after = line[peak - 1 : peak + 2]
    bend = 2 * here - before - after
    return float(np.clip((after - before) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0
