"""One mark on many images: what images of one size share decides for each of them.

At one place scenes differ from image to image, a mark does not. The fine detail of the images is
averaged, each weighted by how calm it is there: scenes cancel out, the mark stays. The network
looks at this picture of what is shared. Then every image is compared with what the others share;
only those that carry the mark take part in the final picture, and only their masks change.

Source: Dekel et al., "On the Effectiveness of Visible Watermarks", CVPR 2017, who take the median
of the images' gradients. Here the mean is weighted by inverse variances (Aitken 1935), and the
logits of the network are not averaged: that was worse than single images (EXPERIMENTS.md).
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inference.details import DETAIL_PX, Detail, Pool, detail_of
from inference.maps import logit, reduced, sigmoid
from inference.reading import read_image
from inference.segmenter import (
    MIN_SCORE,
    THRESHOLD,
    Predict,
    Segmentation,
    check_limits,
    decide,
    predict_any_size,
)

MIN_IMAGES = 3  # that share a mark
MAX_POOLED = 32  # images of a group that are averaged; the others are only compared
MIN_CONFIDENCE = 0.75  # from which an image counts as carrying the shared mark
COPY_LIKENESS = 0.35  # outside the mark, of 1 / sqrt(n), which a copy has with the mean of n
SCENE_CELLS = 16  # along each side, over which scenes are compared
MIN_AMPLITUDE = 0.25  # of the shared detail, which an image must show
MIN_MARK_PX = 16  # of a shared mask
CONTRAST = 4  # grey levels in the shared picture for one standard deviation
CACHED_PX = 20_000_000  # of all images together, below which their details are kept: 16 B each
MAX_ROUNDS = 3  # of finding the mark, then the images that carry it
COMPARE_PX = 512  # longest side at which images are compared
PRIOR_LOGIT = -4.0  # of a mark at a pixel, before anything is seen: about its share of the pixels
OWN_WEIGHT = 0.5  # of an image's own evidence against the shared one
MAX_AGREEMENT = 20.0  # of an image with the mark, as good as always


def agreement(detail: Detail, others: Detail, mask: np.ndarray) -> float:
    """How much better an image matches what others share in place than shifted, in sigmas.

    0 for less than MIN_AMPLITUDE of the strength that the others show: then it is chance.

    Args:
        detail: of the image.
        others: mean of images of which it is none.
        mask: bool, H x W: where the mark is looked for.
    """
    spread = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
    weight = (detail.weight * spread)[..., None]
    expected = np.square(others.values) - 1 / others.weight[..., None]  # less its own noise
    if (weight * detail.values * others.values).sum() < MIN_AMPLITUDE * (weight * expected).sum():
        return 0.0
    zoom = min(1, COMPARE_PX / max(mask.shape))
    maps = (detail.standardised, others.standardised * spread[..., None])
    maps = [reduced(m, zoom) for m in maps]
    one, other = (np.fft.rfft2(m, axes=(0, 1)) for m in maps)
    match = np.fft.irfft2((one * other.conj()).sum(2), maps[0].shape[:2])  # at every shift
    middle = np.median(match)
    sigma = 1.4826 * np.median(np.abs(match - middle))
    return float((match[0, 0] - middle) / max(sigma, 1e-9))  # [0, 0] is in place


def confidence_of(agreed: float) -> float:
    """Probability that an image carries the mark, from its `agreement`; half before that.

    Without the mark, agreement is normal; with it, anything up to MAX_AGREEMENT is as likely.
    """
    normal = np.exp(-0.5 * max(0.0, agreed) ** 2) / np.sqrt(2 * np.pi)
    return float(1 / (1 + normal * MAX_AGREEMENT))


@dataclass(frozen=True)
class SharedMark:
    """A mark that several images of H x W pixels carry at the same place."""

    probability: np.ndarray  # float32, H x W, 0..1
    mask: np.ndarray  # bool, H x W: the consensus
    confidence: float  # 0..1: at least MIN_IMAGES images carry it
    pool: Pool
    pooled: frozenset[int]  # numbers of the images in the pool

    def picture(self) -> np.ndarray:
        """What is shared, as the network has seen it: uint8, H x W x 3, RGB, on grey."""
        return self.pool.picture(CONTRAST)

    def confidence_in(self, rgb: np.ndarray, number: int) -> float:
        """Probability, 0..1, that image `number` carries the mark."""
        return confidence_of(
            _agreement_in(self.pool, self.pooled, self.mask, detail_of(rgb), number)
        )

    def improve(self, rgb: np.ndarray, number: int, probability: np.ndarray, score: float):
        """Probability and score of an image from its own and from what is shared.

        Returns:
            probability, score, and the confidence that it carries the mark. Without the mark,
            probability and score are the image's own.
        """
        confidence = self.confidence_in(rgb, number)
        if confidence < MIN_CONFIDENCE:
            return probability, score, confidence
        # Where nothing is shared, an image may still have a mark of its own, if it is sure of it.
        evidence = np.maximum(logit(self.probability), PRIOR_LOGIT)
        evidence += OWN_WEIGHT * (logit(probability) - PRIOR_LOGIT)
        return sigmoid(evidence), max(score, confidence), confidence


def predict_together(
    predict: Predict, rgb: np.ndarray, shared: SharedMark | None, number: int
) -> tuple[np.ndarray, float, float]:
    """Probability and score as `predict_any_size`, improved; the confidence that it is shared."""
    probability, score = predict_any_size(predict, rgb)
    if shared is None or shared.mask.shape != probability.shape:
        return probability, score, 0.0
    return shared.improve(rgb, number, probability, score)


def _agreement_in(pool, pooled, mask, detail, number) -> float:
    """The agreement of an image with the others in a pool; copies of its scene are no others."""
    others = pool.without(detail) if number in pooled else pool
    limit = COPY_LIKENESS / np.sqrt(len(pooled))
    for _ in pooled:
        if others.weight.mean() < 0.5 * detail.weight.mean():
            return 0.0  # nothing is left
        mean = others.mean
        if _likeness(detail, mean, mask) <= limit:
            return agreement(detail, mean, mask)
        others = others.without(detail)
    return 0.0


def spread(count: int) -> list[int]:
    """At most MAX_POOLED of the numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POOLED)).astype(int)).tolist()


def find_shared(predict: Predict, read: Callable[[int], np.ndarray], numbers: list[int]):
    """The mark that images of one size share.

    Args:
        read: number of an image to uint8, H x W x 3, RGB; called several times for each.
        numbers: of the images, at most MAX_POOLED; see `spread`.

    Returns:
        A SharedMark, or None where fewer than MIN_IMAGES images agree on one.
    """
    if len(numbers) < MIN_IMAGES:
        return None
    shape = read(numbers[0]).shape[:2]

    def look(number: int) -> Detail:
        return detail_of(read(number))

    if len(numbers) * shape[0] * shape[1] <= CACHED_PX:
        look = functools.cache(look)
    if shared := _settle(predict, look, numbers, numbers):
        return shared
    alike = _most_alike(look, numbers)
    return None if alike == numbers else _settle(predict, look, numbers, alike)


def _settle(predict, look, numbers: list[int], members: list[int]) -> SharedMark | None:
    """In turn the mark that the members share, and the images that carry it, until both hold."""
    for _ in range(MAX_ROUNDS):
        pool = _pool(look, members)
        probability, _ = predict_any_size(predict, pool.picture(CONTRAST))
        evidence = logit(probability) + np.log(np.maximum(pool.excess(), 0.05))
        probability = sigmoid(evidence)
        mask = probability >= THRESHOLD
        if np.count_nonzero(mask) < MIN_MARK_PX:
            return None
        pooled = frozenset(members)
        sure = {n: confidence_of(_agreement_in(pool, pooled, mask, look(n), n)) for n in numbers}
        carriers = [n for n in numbers if sure[n] >= MIN_CONFIDENCE]
        if len(carriers) < MIN_IMAGES:
            return None
        if carriers == members:
            break
        members = carriers
    confidence = sorted(sure.values())[-MIN_IMAGES]
    return SharedMark(probability, mask, confidence, pool, pooled)


def _likeness(detail: Detail, others: Detail, mask: np.ndarray) -> float:
    """Correlation outside the mark: 0 for unrelated scenes, 1 where nothing is outside.

    The median over SCENE_CELLS x SCENE_CELLS cells: a frame or a second mark does not count.
    """
    outside = cv2.dilate(mask.view(np.uint8), np.ones((9, 9), np.uint8)) == 0
    one, other = (part.standardised * outside[..., None] for part in (detail, others))
    cells = (SCENE_CELLS, SCENE_CELLS)
    share, product, power, other_power = (
        cv2.resize(np.float32(m), cells, interpolation=cv2.INTER_AREA)
        for m in (outside, (one * other).sum(2), (one**2).sum(2), (other**2).sum(2))
    )
    open_cells = share > 0.25
    if not open_cells.any():
        return 1.0
    correlation = product / np.sqrt(np.maximum(power * other_power, 1e-12))
    return float(np.median(correlation[open_cells]))


def _pool(look, numbers) -> Pool:
    pool = None
    for number in numbers:
        detail = look(number)
        pool = pool or Pool(detail.weight.shape)
        pool.add(detail)
    return pool


def _most_alike(look, numbers: list[int]) -> list[int]:
    """Those images that the strongest common component of all is found in; three at least."""
    small = [_thumbnail(look(number).standardised) for number in numbers]
    alike = np.stack(small) @ np.stack(small).T
    np.fill_diagonal(alike, 0)
    strongest = np.linalg.eigh(alike)[1][:, -1]
    strongest *= np.sign(strongest.sum())
    order = np.argsort(-strongest)
    n_members = max(MIN_IMAGES, np.count_nonzero(strongest > strongest.max() / 2))
    return sorted(numbers[i] for i in order[:n_members])


def _thumbnail(standardised: np.ndarray) -> np.ndarray:
    """A flat array of length 1."""
    small = reduced(standardised, min(0.5, DETAIL_PX / 2 / max(standardised.shape))).ravel()
    return small / max(np.linalg.norm(small), 1e-9)


@dataclass(frozen=True)
class Group:
    """Images of equal size, and what they share."""

    size: tuple[int, int]  # width, height
    numbers: tuple[int, ...]  # of the images, from 0
    shared: SharedMark | None  # None: too few images, or none that they agree on
    confidences: tuple[float, ...]  # of each of the images: it carries the shared mark

    def __str__(self) -> str:
        return describe(self.size, self.confidences)


def describe(size: tuple[int, int], confidences: Sequence[float]) -> str:
    """One line on a group, for people."""
    line = f"{size[0]} x {size[1]}: {len(confidences)} images"
    carriers = sum(confidence >= MIN_CONFIDENCE for confidence in confidences)
    if carriers >= MIN_IMAGES:
        sure = sorted(confidences)[-MIN_IMAGES]
        return f"{line}, {carriers} of them share a mark (confidence {sure:.2f})"
    if len(confidences) < MIN_IMAGES:
        return f"{line}, too few to find a shared mark (from {MIN_IMAGES}); each taken alone"
    return f"{line} that share no mark as far as can be told; each taken alone"


def segment_together(
    segmenter,
    images: Sequence,
    threshold: float = THRESHOLD,
    dilation_px: int = 0,
    min_score: float = MIN_SCORE,
) -> tuple[list[Group], list[Segmentation]]:
    """Segments images that may carry one mark at the same place, those of equal size together.

    Args:
        segmenter: from `inference.load_segmenter`, or a `WatermarkSegmenter`.
        images: paths, PIL images or arrays; see `reading.read_image`. All are held in memory.
        threshold, dilation_px, min_score: as for `segment`.

    Returns:
        The groups of equal size with their consensus, and each image's own Segmentation, which is
        that of `segment` for images that do not carry a shared mark.

    Raises:
        FileNotFoundError, ValueError: an image cannot be read, or there is none.
    """
    check_limits(threshold, dilation_px, min_score)
    arrays = [read_image(image) for image in images]
    if not arrays:
        raise ValueError("Got no images; give three or more of equal size.")
    numbers_of = defaultdict(list)
    for number, rgb in enumerate(arrays):
        numbers_of[rgb.shape[1::-1]].append(number)
    groups, results = [], [None] * len(arrays)
    with segmenter.predicting() as predict:
        for size, numbers in numbers_of.items():
            shared = find_shared(
                predict, arrays.__getitem__, [numbers[i] for i in spread(len(numbers))]
            )
            confidences = []
            for number in numbers:
                found = predict_together(predict, arrays[number], shared, number)
                results[number] = decide(*found[:2], threshold, dilation_px, min_score)
                confidences.append(found[2])
            groups.append(Group(size, tuple(numbers), shared, tuple(confidences)))
    return groups, results
