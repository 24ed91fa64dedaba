"""Accuracy of masks and scores, as `evaluate.py` reports it.

A truth is uint8, H x W: 1 = mark, 0 = none, IGNORE = undecidable, without weight. A predicted mask
is bool, H x W. A score is float, N, 0..1, of N photos whose label (bool, N) says whether they are
marked.
"""

from typing import NamedTuple

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc, binary_stat_scores

from samples import IGNORE

CALIBRATION_BINS = 10


class MaskScores(NamedTuple):
    """How one predicted mask compares with its truth; IoU and F1 lie in 0..1."""

    intersection_px: int
    union_px: int
    iou: float  # 1 if both are empty
    f1: float
    marked_fraction: float  # predicted share of the decidable pixels


def score_mask(predicted: np.ndarray, truth: np.ndarray) -> MaskScores:
    """Compares a predicted mask with the truth over the decidable pixels."""
    masks = torch.from_numpy(predicted.astype(int)), torch.from_numpy(truth.astype(int))
    both, false, neither, missed, _ = binary_stat_scores(*masks, ignore_index=IGNORE).tolist()
    union = both + false + missed
    iou, f1 = (both / union, 2 * both / (union + both)) if union else (1.0, 1.0)
    return MaskScores(both, union, iou, f1, (both + false) / max(1, union + neither))


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """Probability that a marked photo has a higher score than a clean one; ties count half.

    NaN if one kind is missing.
    """
    if label.all() or not label.any():
        return float("nan")
    tensors = torch.from_numpy(score), torch.from_numpy(label.astype(int))
    return binary_auroc(*tensors, validate_args=False).item()


def expected_calibration_error(score: np.ndarray, label: np.ndarray) -> float:
    """Mean distance of stated and actual probability of "marked", over CALIBRATION_BINS bins.

    torchmetrics cannot do this: clean and marked photos weigh the same here, however many they are.
    Both kinds must occur.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    weight = np.where(label, 0.5 / label.sum(), 0.5 / (~label).sum())
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return float(np.abs(np.bincount(bins, weight * (score - label))).sum())


def bootstrap(statistic, *columns, photos=None, rounds: int = 1000) -> tuple[float, float, float]:
    """A statistic of images and its 95 % percentile interval: (value, low, high).

    Args:
        statistic: function of as many arrays as columns, to a float. NaN does not count.
        columns: arrays whose first axis counts images.
        photos: the photo behind each image. Photos are drawn at random, and each brings all of its
            images, because these are not independent. None: each image has a photo of its own.
    """
    rng, columns = np.random.default_rng(0), [np.asarray(column) for column in columns]
    photos = np.arange(len(columns[0])) if photos is None else np.asarray(photos)
    images_of = [np.flatnonzero(photos == photo) for photo in np.unique(photos)]
    values = []
    for _ in range(rounds):
        drawn = rng.integers(len(images_of), size=len(images_of))
        images = np.concatenate([images_of[photo] for photo in drawn])
        values.append(statistic(*(column[images] for column in columns)))
    return float(statistic(*columns)), *np.nanpercentile(values, (2.5, 97.5)).tolist()
