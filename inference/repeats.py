"""Finds the copies of a tiled mark and combines their evidence.

The copies are alike, but the scenes differ. `find_shifts` compares the probability map with
itself at every shift, and finds the shifts from copy to copy. `share_repeats` then gives each pixel
the mean evidence of all copies. So the other copies reveal a part that the scene hides in one copy,
and a part that only one copy shows becomes less certain.

Source: correlation of the overlapping parts as in Padfield, "Masked object registration in the
Fourier domain", TIP 2012. The parts are rectangles here, so sums replace most transforms.
The constants were chosen on validation photos: log 43 and 46.
"""

import math

import cv2
import numpy as np

from inference.maps import logit, reduced, sigmoid

MIN_CONTRAST = 0.2  # of the probability, between a mark and its ground
COARSE_PX, FINE_PX = 256, 1024  # longest side for finding and for measuring shifts
COARSE_SIGMA = 0.8  # px, of a blur that lets nearly equal copies match
MIN_CORRELATION = 0.55  # of a map with itself, shifted from copy to copy
WEAKEST = 0.7  # correlation of a further shift, as a fraction of the best one's
MIN_POWER = 0.3  # least power of overlapping parts, as a fraction of the map's: a blob is no copy
MIN_OVERLAP = 0.15  # least overlap after a shift, as a fraction of the map
PEAK_PX = 9  # side of the square, at COARSE_PX, that holds one shift at most
MAX_SHIFTS = 8
OWN_WEIGHT = 4.0  # weight of the pixel itself; each copy has at most 1
REPEATED_LOGIT = 0.4  # added where there are copies, because repetition is evidence of a mark
CERTAIN_LOGIT = 3.0  # the copies lower a pixel's logit by this at most

Shift = tuple[float, int, int]  # correlation, 0..1, px down, px to the right


def share_repeats(probability: np.ndarray, shifts: list[Shift]) -> np.ndarray:
    """The probability map (float32, H x W) with the evidence of all copies.

    Args:
        probability: float32, H x W.
        shifts: from copy to copy; see `find_shifts`.
    """
    own = logit(probability, 1e-3)
    total, weights = OWN_WEIGHT * own, np.full_like(own, OWN_WEIGHT)
    for weight, down, right in shifts + [(weight, -y, -x) for weight, y, x in shifts]:
        here, there = zip(*map(_overlap, own.shape, (down, right)))
        total[here] += weight * own[there]
        weights[here] += weight
    mean = total / weights
    mean[weights > OWN_WEIGHT] += REPEATED_LOGIT
    return sigmoid(np.maximum(mean, own - CERTAIN_LOGIT))


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Slice of the pixels in 0..length that have a copy `shift` px farther; slice of the copies."""
    first, stop = max(0, -shift), length - max(0, shift)
    return slice(first, stop), slice(first + shift, stop + shift)


def find_shifts(probability: np.ndarray) -> list[Shift]:
    """The shifts from copy to copy in a probability map (float32, H x W).

    Returns:
        At most MAX_SHIFTS, the best first, without their opposites. Empty if nothing is repeated.
    """
    if np.ptp(probability) < MIN_CONTRAST:
        return []
    zoom = min(1.0, COARSE_PX / max(probability.shape))
    coarse = cv2.GaussianBlur(reduced(probability, zoom), (0, 0), COARSE_SIGMA)
    correlation, middle = _normalised_autocorrelation(coarse), coarse.shape[1] - 1
    lobes = cv2.connectedComponents((correlation > MIN_CORRELATION / 2).view(np.uint8))[1]
    correlation[lobes == lobes[0, middle]] = -1  # shifts so small that a copy overlaps itself
    correlation[0, :middle] = -1  # the opposites of shifts to the right
    peaks = correlation == cv2.dilate(correlation, np.ones((PEAK_PX, PEAK_PX)))
    peaks &= correlation >= MIN_CORRELATION
    shifts = [(float(correlation[y, x]), y, x - middle) for y, x in np.argwhere(peaks)]
    shifts = sorted(shifts, reverse=True)[:MAX_SHIFTS]
    shifts = [shift for shift in shifts if shift[0] >= WEAKEST * shifts[0][0]]
    return _refined(probability, shifts, zoom) if shifts else []


def _refined(probability: np.ndarray, shifts: list[Shift], zoom: float) -> list[Shift]:
    """Shifts in px of a map reduced by `zoom`, measured on a larger one, in px of the whole map."""
    fine_zoom = min(1.0, FINE_PX / max(probability.shape))
    fine = reduced(probability, fine_zoom)
    products, middle = _autocorrelation(fine - fine.mean()), fine.shape[1] - 1
    scale, refined = fine_zoom / zoom, []
    radius = math.ceil(scale)
    for correlation, down, right in shifts:
        y, x = round(down * scale), round(right * scale) + middle
        top, left = max(0, y - radius), max(0, x - radius)
        window = products[top : y + radius + 1, left : x + radius + 1]
        y, x = np.add((top, left), np.unravel_index(window.argmax(), window.shape))
        y, x = y + _vertex(products[:, x], y), x + _vertex(products[y], x)
        down, right = y / fine_zoom, (x - middle) / fine_zoom
        refined.append((correlation, round(down), round(right)))
    return refined


def _vertex(line: np.ndarray, peak: int) -> float:
    """Offset, -0.5..0.5, of the vertex of a parabola through a peak and its neighbours."""
    if not 0 < peak < len(line) - 1:
        return 0.0
    before, here, after = line[peak - 1 : peak + 2]
    bend = 2 * here - before - after
    return float(np.clip((after - before) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0


def _autocorrelation(values: np.ndarray) -> np.ndarray:
    """Sums of products of a map and itself, at shifts of 0..H-1 down and 1-W..W-1 right.

    Returns:
        float32, H x (2 W - 1).
    """
    height, width = values.shape
    sides = 0, height - 1, width - 1, width - 1
    padded = cv2.copyMakeBorder(values, *sides, cv2.BORDER_CONSTANT, value=0)
    return cv2.matchTemplate(padded, values, cv2.TM_CCORR)


def _normalised_autocorrelation(values: np.ndarray) -> np.ndarray:
    """`_autocorrelation` divided by the power of the overlapping parts, -1..1.

    It is -1 where too little overlaps.
    """
    values = values - values.mean()
    squared = np.square(values)
    least = MIN_POWER * squared.sum() + 1e-9  # above 0 for a flat map, too
    one, other = _overlap_sums(squared), _overlap_sums(squared[::-1, ::-1])
    correlation = _autocorrelation(values)
    correlation /= np.sqrt(np.maximum(one, least) * np.maximum(other, least))
    correlation[_overlap_sums(np.ones_like(values)) < MIN_OVERLAP * values.size] = -1
    return correlation


def _overlap_sums(values: np.ndarray) -> np.ndarray:
    """Sums over the part that overlaps the shifted map, at the shifts of `_autocorrelation`."""
    left, right = (part.cumsum(0).cumsum(1)[::-1, ::-1] for part in (values[:, ::-1], values))
    return np.hstack([left[:, :0:-1], right])
