"""Segments images of any size: gives probability, mask and score.

The network sees several views of an image, each saved as a JPEG like the training photos. The
probability of a pixel is the mean over the views:

- up to SMALL_PX: the image; and, enlarged to SMALL_PX (at most twofold), the image, its
  mirror image and its negative;
- up to NATIVE_PX: the image, its mirror image, and one or two reduced copies;
- larger: the whole frame reduced to WHOLE_PX and its mirror image, for large marks;
  overlapping tiles at native size and at half of it, for small marks; the same tiles of a copy at
  a quarter of the size, and so on. Here the highest probability counts, but reduced views
  need a higher one. Tiles fade into each other, so that no seam appears.

With `fast` the network sees one view: the image, reduced to NATIVE_PX if it is larger.
`refine` then corrects the result by the copies of a tiled mark (`repeats`) or by the other
regions (`regions`).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import cv2
import numpy as np

from inference.maps import logit, reduced, resized, sigmoid
from inference.reading import read_image
from inference.regions import lower_weak_regions, region_evidence
from inference.repeats import find_shifts, share_repeats

# Views by the longest side of the image
SMALL_PX = 512  # up to this size there is an enlarged view
MAX_ENLARGEMENT = 2.0  # it enlarges JPEG blocks too, as in training
ZOOMS = (0.75,)  # of the reduced views
LARGE_PX = 1024  # from this size on, other reduced views
LARGE_ZOOMS = (0.5, 0.6)
NATIVE_PX = 1600  # longest side of an image that is seen without tiles
WHOLE_PX = 1024  # longest side of a larger image's reduced frame
TILE_PX = 768  # longest side of a tile
STRIDE = 32  # the encoder halves an image five times: sides are padded to multiples of this
VIEW_QUALITY = 95  # JPEG quality of a view: log 36
OVERLAP_PX = 96  # of neighbouring tiles, at least
LEVEL_ZOOM = 0.25  # size of a level of tiles, relative to the level before
TILE_ZOOM = 0.5  # each level of tiles is seen again at this size
REDUCED_CERTAINTY = 0.8  # this probability in a reduced view counts as 0.5: log 48
THRESHOLD = 0.5  # default probability of a marked pixel
MIN_SCORE = 0.5  # default score below which nothing is marked: log 55
LEAST_SCORE = 1e-7  # scores are clipped to this before the logit
METHOD = 16  # raise it when the code changes masks, scores, or their files

# Views (uint8, H x W x 3, RGB, of any sizes) to probability (float32, H x W) and score of each
Predict = Callable[[list[np.ndarray]], list[tuple[np.ndarray, float]]]


@dataclass(frozen=True)
class Segmentation:
    """The result for one image of H x W pixels."""

    probability: np.ndarray  # float32, H x W, 0..1, that the pixel shows a watermark
    mask: np.ndarray  # bool, H x W: probability >= threshold; empty if score < min_score
    score: float  # 0..1: probability that the photo carries a visible watermark
    coverage: float  # 0..1: share of the image's pixels in the mask


def check_limits(threshold: float, dilation_px: int, min_score: float) -> None:
    """Raises ValueError unless `Segmenter.segment` takes these arguments."""
    if not (0 <= threshold <= 1 and 0 <= min_score <= 1):
        raise ValueError(
            f"Got threshold {threshold}, min_score {min_score}; both must lie in 0..1."
        )
    if dilation_px < 0 or dilation_px % 1:
        raise ValueError(f"Got a dilation of {dilation_px} px; it must be a whole number from 0.")


class Segmenter:
    """Segments images. A subclass runs the network in `predicting`."""

    # Whether several threads with one view each are faster than one thread with many views.
    one_core_each = False

    def predicting(self, threads: int | None = None) -> AbstractContextManager[Predict]:
        """A context that gives the function which runs the network.

        Args:
            threads: None for one caller, which gets all cores; a number for this many callers at a
                time, which get one core each (on a GPU they take turns).
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Identifies weights, device, precision and backend. METHOD identifies the code."""
        raise NotImplementedError

    def segment(
        self,
        image,
        threshold: float = THRESHOLD,
        dilation_px: int = 0,
        min_score: float = MIN_SCORE,
        fast: bool = False,
    ) -> Segmentation:
        """Segments one image.

        Args:
            image: a path, PIL image or array of any size and mode; see `reading.read_image`.
            threshold: probability from which a pixel belongs to the mask, 0..1.
            dilation_px: widen the mask by a disk of this radius.
            min_score: a photo with a lower score, 0..1, gets an empty mask; 0 turns this off.
                With the default most clean photos get an empty mask (log 53).
            fast: use one view instead of several: faster and less accurate.

        Returns:
            A `Segmentation` of the image's size (after EXIF orientation).

        Raises:
            FileNotFoundError, ValueError: the image cannot be read, or an argument is out of range.
        """
        check_limits(threshold, dilation_px, min_score)
        rgb = read_image(image)
        with self.predicting() as predict:
            probability, score = predict_any_size(predict, rgb, fast)
        return decide(probability, score, threshold, dilation_px, min_score)


def decide(
    probability: np.ndarray, score: float, threshold: float, dilation_px: int, min_score: float
) -> Segmentation:
    """Makes the mask of an image from its probability and score."""
    mask = probability >= threshold
    if score < min_score:
        mask[:] = False
    if dilation_px and mask.any():
        ground = (~mask).view(np.uint8)
        mask = cv2.distanceTransform(ground, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= dilation_px
    return Segmentation(probability, mask, score, float(mask.mean()))


def predict_any_size(
    predict: Predict, rgb: np.ndarray, fast: bool = False
) -> tuple[np.ndarray, float]:
    """Probability (float32, H x W) and score (0..1) of a uint8 RGB image of H x W pixels."""
    if views := native_views(rgb, fast):
        return judge_views(rgb, predict(views))
    side = max(rgb.shape[:2])
    frame = reduced(rgb, WHOLE_PX / side)
    whole, score = join_views(predict([frame, cv2.flip(frame, 1)]), frame.shape[:2])
    probability, tile_scores = _predict_level(predict, rgb)
    scores, zoom = [tile_scores], LEVEL_ZOOM
    while zoom * side > WHOLE_PX:
        tiled, tile_scores = _predict_level(predict, reduced(rgb, zoom))
        probability = _merge_reduced(probability, tiled)
        scores.append(tile_scores)
        zoom *= LEVEL_ZOOM
    probability = _merge_reduced(probability, whole)
    return refine(probability, pooled_score(score, scores))


def native_views(rgb: np.ndarray, fast: bool = False) -> list[np.ndarray]:
    """The views of an image up to NATIVE_PX; none of a larger one, unless `fast`.

    The second view, if there is one, is mirrored left to right.
    """
    side = max(rgb.shape[:2])
    if fast:
        return [reduced(rgb, min(1, NATIVE_PX / side))]
    if side > NATIVE_PX:
        return []
    if side <= SMALL_PX:
        zoom = min(MAX_ENLARGEMENT, SMALL_PX / side)
        size = [round(length * zoom) for length in rgb.shape[1::-1]]
        large = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC)
        return [rgb, cv2.flip(large, 1), large, 255 - large]
    zooms = LARGE_ZOOMS if side >= LARGE_PX else ZOOMS
    return [rgb, cv2.flip(rgb, 1), *(reduced(rgb, zoom) for zoom in zooms)]


def refine(probability: np.ndarray, score: float) -> tuple[np.ndarray, float]:
    """Probability and score of an image, corrected by comparing its copies or regions."""
    if shifts := find_shifts(probability):
        probability = share_repeats(probability, shifts)
    else:
        probability = lower_weak_regions(probability)
    score_logit = logit(np.float64(score), LEAST_SCORE) + region_evidence(probability)
    return probability, float(sigmoid(score_logit))


def judge_views(
    rgb: np.ndarray, answers: list[tuple[np.ndarray, float]]
) -> tuple[np.ndarray, float]:
    """Probability and score of an image from the network's answers to its `native_views`."""
    return refine(*join_views(answers, rgb.shape[:2]))


def join_views(
    answers: list[tuple[np.ndarray, float]], shape: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Mean probability of the views (the second is mirrored), and score from their mean logit.

    Args:
        answers: probability (float32) and score of each, in the order of `native_views`.
        shape: height, width of the image.
    """
    probabilities, scores = map(list, zip(*answers))
    if len(answers) > 1:
        probabilities[1] = cv2.flip(probabilities[1], 1)
    mean = sum(resized(probability, shape) for probability in probabilities) / len(answers)
    return mean, float(sigmoid(logit(np.array(scores), LEAST_SCORE).mean()))


def _merge_reduced(probability: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Raises `probability`, in place, to a reduced view's, discounted by REDUCED_CERTAINTY."""
    odds_for = other * (1 - REDUCED_CERTAINTY)
    other = odds_for / (odds_for + (1 - other) * REDUCED_CERTAINTY)
    other = cv2.resize(other, probability.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.maximum(probability, other, out=probability)


def recompressed(image: np.ndarray, quality: int = VIEW_QUALITY) -> np.ndarray:
    """An image (uint8, H x W x 3, RGB) after JPEG compression of a quality, 1..100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)


def pooled_score(whole: float, levels: list[list[float]]) -> float:
    """The image's score from the scores of the whole frame and of the tiles of each level.

    We assume that a mark is equally likely to show in the whole frame or in the tiles, and in each
    tile of a level. The odds are then a weighted mean of the views' odds: a high score of one tile
    in a hundred counts less than of one in two.
    """
    views = [(whole, 0.5)]
    for scores in levels:
        views += [(score, 0.5 / len(levels) / len(scores)) for score in scores]
    odds = sum(weight * score / max(1 - score, 1e-6) for score, weight in views)
    return odds / (1 + odds)


def _predict_level(predict: Predict, rgb: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Mean probability of the tiles at full size and at TILE_ZOOM; scores of full-size tiles."""
    probability, scores = _predict_tiles(predict, rgb)
    again, _ = _predict_tiles(predict, reduced(rgb, TILE_ZOOM))
    probability += resized(again, probability.shape)
    probability /= 2
    return probability, scores


def _predict_tiles(predict: Predict, rgb: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Probability of the image from tiles, and the tiles' scores."""
    height, width = rgb.shape[:2]
    probability, scores = np.zeros((height, width), np.float32), []
    for rows, fade_y in _strips(height):
        strips = list(_strips(width))
        answers = predict([rgb[rows, columns] for columns, _ in strips])
        for (columns, fade_x), (tile, score) in zip(strips, answers):
            probability[rows, columns] += tile * fade_y[:, None] * fade_x
            scores.append(score)
    return np.minimum(probability, 1, out=probability), scores


def _strips(length: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Overlapping stretches of TILE_PX or less, with float32 weights that sum to 1 everywhere."""
    count = max(1, math.ceil((length - OVERLAP_PX) / (TILE_PX - OVERLAP_PX)))
    needed = (length + (count - 1) * OVERLAP_PX) / count  # smallest tile that covers the length
    tile = min(TILE_PX, length, math.ceil(needed / STRIDE) * STRIDE)
    starts = np.linspace(0, length - tile, count).round().astype(int)
    ramp = np.minimum(np.arange(1, tile + 1), np.arange(tile, 0, -1))
    ramp = np.minimum(ramp, OVERLAP_PX).astype(np.float32)
    total = np.zeros(length, np.float32)
    for start in starts:
        total[start : start + tile] += ramp
    for start in starts:
        place = slice(int(start), int(start) + tile)
        yield place, ramp / total[place]
