"""Finds a mark that several images of one size share, even if it is faint in each of them.

1. The fine detail of the images is averaged (`details`). The scenes cancel out, the mark stays.
2. The network segments a picture of that mean.
3. Each image is compared with the mean of the others. The mean keeps the images that carry the
   mark, one of each scene, because copies of a scene would agree on the scene. Steps 1 to 3
   repeat until the same images stay.
4. In the images that carry the mark, the shared evidence improves the probability map. The other
   images keep their own.

Source: Dekel et al., "On the Effectiveness of Visible Watermarks", CVPR 2017, who take the median
of the images' gradients. Here the mean is weighted by inverse variances (Aitken 1935). Averaging
the network's logits instead was worse than single images (log 14).
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.details import (
    Detail,
    agreement,
    confidence_of,
    detail_of,
    mean_of,
    scene_likeness,
    scene_of,
    without,
)
from inference.maps import logit, sigmoid
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

MIN_IMAGES = 3  # of different scenes that share a mark
MAX_POOLED = 32  # at most so many images of a group are averaged; the others are only compared
MIN_CONFIDENCE = 0.75  # from which an image counts as carrying the shared mark
MAX_LIKENESS = 0.25  # above it, two scenes count as one
COPY_LIKENESS = 0.5  # above it, two images are the same picture
MAX_ROUNDS = 3  # each finds the mark, then the images that carry it
MIN_MARK_PX = 16  # of a shared mask
PRIOR_LOGIT = -4.0  # prior of a marked pixel, about the share of marked pixels in a photo
OWN_WEIGHT = 0.5  # weight of an image's own evidence; the shared evidence has 1
CACHED_PX = 20_000_000  # keep details of so many pixels, of all images together, in memory


@dataclass(frozen=True)
class SharedMark:
    """A mark that several images of H x W pixels carry at the same place."""

    probability: np.ndarray  # float32, H x W, 0..1
    mask: np.ndarray  # bool, H x W
    confidence: float  # 0..1: at least MIN_IMAGES images carry it
    mean: Detail  # of images of different scenes that carry it
    scenes: np.ndarray  # of these images: see `details.scene_of`

    def confidence_in(self, detail: Detail) -> float:
        """Probability, 0..1, that an image carries the mark. Its own scene is left out."""
        likeness = scene_likeness(scene_of(detail), self.scenes, self.mask)
        others = without(self.mean, detail) if likeness.max() > COPY_LIKENESS else self.mean
        if others.weight.mean() < 0.5 * detail.weight.mean():
            return 0.0  # no other scene is left
        return confidence_of(agreement(detail, others, self.mask))

    def evidence(self, own: np.ndarray) -> np.ndarray:
        """Logits of the mark in an image that carries it, from the network's logits for it."""
        # The limit lets strong evidence of the image's own mark prevail.
        shared = np.maximum(logit(self.probability), PRIOR_LOGIT)
        return shared + OWN_WEIGHT * (own - PRIOR_LOGIT)

    def improve(
        self, rgb: np.ndarray, probability: np.ndarray, score: float
    ) -> tuple[np.ndarray, float, float]:
        """Adds the shared evidence to the prediction for one image.

        Args:
            rgb: the image.
            probability, score: what `predict_any_size` gives for it.

        Returns:
            Probability, score, and the confidence that the image carries the mark. Below
            MIN_CONFIDENCE the first two are returned as they are.
        """
        if self.mask.shape != probability.shape:
            return probability, score, 0.0
        confidence = self.confidence_in(detail_of(rgb))
        if confidence < MIN_CONFIDENCE:
            return probability, score, confidence
        return sigmoid(self.evidence(logit(probability))), max(score, confidence), confidence


def predict_together(
    predict: Predict, rgb: np.ndarray, shared: SharedMark | None
) -> tuple[np.ndarray, float, float]:
    """`predict_any_size` and then `SharedMark.improve`; without a shared mark confidence is 0."""
    prediction = predict_any_size(predict, rgb)
    return shared.improve(rgb, *prediction) if shared else (*prediction, 0.0)


def spread(count: int) -> list[int]:
    """At most MAX_POOLED of the numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POOLED)).astype(int)).tolist()


def find_shared(
    predict: Predict, read: Callable[[int], np.ndarray], numbers: list[int]
) -> SharedMark | None:
    """The mark that images of one size share; None if fewer than MIN_IMAGES agree on one.

    Args:
        read: number of an image to uint8, H x W x 3, RGB; called several times for each.
        numbers: of the images, at most MAX_POOLED; see `spread`.
    """
    if len(numbers) < MIN_IMAGES:
        return None
    height, width = read(numbers[0]).shape[:2]

    @functools.lru_cache(CACHED_PX // (height * width))
    def read_detail(number: int) -> Detail:
        return detail_of(read(number))

    @functools.cache  # the scene of every image fits in memory
    def read_scene(number: int) -> np.ndarray:
        return scene_of(read_detail(number))

    readers = read_detail, read_scene
    if shared := _find_shared_by(predict, *readers, numbers, numbers):
        return shared
    similar = _most_similar(read_scene, numbers)
    return None if similar == numbers else _find_shared_by(predict, *readers, numbers, similar)


def _find_shared_by(
    predict, read_detail, read_scene, numbers: list[int], members: list[int]
) -> SharedMark | None:
    """Finds the mark in the mean of the members, then the images that carry it, the next members.

    Ends when the members stay the same, or after MAX_ROUNDS.
    """
    for _ in range(MAX_ROUNDS):
        mean = mean_of(map(read_detail, members))
        probability, _ = predict_any_size(predict, mean.picture())
        evidence = logit(probability) + np.log(np.maximum(mean.excess(), 0.05))
        probability = sigmoid(evidence)
        mask = probability >= THRESHOLD
        if np.count_nonzero(mask) < MIN_MARK_PX:
            return None
        different = of_different_scenes(read_scene, members, mask)
        scenes = np.stack([*map(read_scene, different)])
        if different != members:
            mean = mean_of(map(read_detail, different))
        shared = SharedMark(probability, mask, 0, mean, scenes)
        confidences = {n: shared.confidence_in(read_detail(n)) for n in numbers}
        carriers = [n for n in numbers if confidences[n] >= MIN_CONFIDENCE]
        sure = sorted(confidences[n] for n in different)[-MIN_IMAGES:]
        if len(sure) < MIN_IMAGES or sure[0] < MIN_CONFIDENCE:
            return None
        shared = replace(shared, confidence=sure[0])
        previous, members = members, of_different_scenes(read_scene, carriers, mask)
        if previous == members:
            break
    return shared


def of_different_scenes(read_scene, numbers: list[int], mask: np.ndarray) -> list[int]:
    """The first image of each scene."""
    chosen = []
    for number in numbers:
        others = np.stack([*map(read_scene, chosen)]) if chosen else None
        if others is None or scene_likeness(read_scene(number), others, mask).max() <= MAX_LIKENESS:
            chosen.append(number)
    return chosen


def _most_similar(read_scene, numbers: list[int]) -> list[int]:
    """The images with large entries in the first eigenvector of similarity, at least MIN_IMAGES."""
    small = np.stack([read_scene(number).ravel() for number in numbers])
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-9)
    similarity = small @ small.T
    np.fill_diagonal(similarity, 0)
    strongest = np.linalg.eigh(similarity)[1][:, -1]
    strongest *= np.sign(strongest.sum())
    order = np.argsort(-strongest)
    n_members = max(MIN_IMAGES, np.count_nonzero(strongest > strongest.max() / 2))
    return sorted(numbers[i] for i in order[:n_members])


@dataclass(frozen=True)
class Group:
    """Images of equal size and their shared mark, if there is one."""

    size: tuple[int, int]  # width, height
    numbers: tuple[int, ...]  # of the images, from 0
    shared: SharedMark | None  # None: too few images, or no common mark
    confidences: tuple[float, ...]  # probability of each image that it carries the shared mark

    def __str__(self) -> str:
        return describe(self.size, self.confidences)


def describe(size: tuple[int, int], confidences: Sequence[float]) -> str:
    """A sentence about a group."""
    line = f"{size[0]} x {size[1]}: {len(confidences)} images"
    carriers = sum(confidence >= MIN_CONFIDENCE for confidence in confidences)
    if carriers >= MIN_IMAGES:
        lowest = sorted(confidences)[-MIN_IMAGES]
        return f"{line}, {carriers} of them share a mark (confidence {lowest:.2f})"
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
        The groups of equal size, and the Segmentation of each image. For an image without a shared
        mark it is that of `segment`.

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
            averaged = [numbers[i] for i in spread(len(numbers))]
            shared = find_shared(predict, arrays.__getitem__, averaged)
            confidences = []
            for number in numbers:
                *result, confidence = predict_together(predict, arrays[number], shared)
                results[number] = decide(*result, threshold, dilation_px, min_score)
                confidences.append(confidence)
            groups.append(Group(size, tuple(numbers), shared, tuple(confidences)))
    return groups, results
