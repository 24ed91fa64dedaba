"""Accuracy of masks and scores, as `evaluate.py` reports it.

- truth: uint8, H x W: 1 = mark, 0 = none, IGNORE = the pixel does not count.
- predicted: bool, H x W.
- score: float, N, 0..1, the scores of N photos; label: bool, N, whether they are marked.
"""

from typing import NamedTuple

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc, binary_stat_scores

from samples import IGNORE

CALIBRATION_BINS = 10
RESAMPLES = 1000  # of the bootstrap


class MaskScores(NamedTuple):
    """Accuracy of one predicted mask. IoU and F1 lie in 0..1."""

    intersection_px: int
    union_px: int
    iou: float  # 1 if both masks are empty
    f1: float
    marked_fraction: float  # share of the decidable pixels that are predicted to be marked


def score_mask(predicted: np.ndarray, truth: np.ndarray) -> MaskScores:
    """Compares a predicted mask with the truth, without the pixels that are IGNORE."""
    masks = torch.from_numpy(predicted.astype(int)), torch.from_numpy(truth.astype(int))
    both, false, neither, missed, _ = binary_stat_scores(*masks, ignore_index=IGNORE).tolist()
    union = both + false + missed
    iou, f1 = (both / union, 2 * both / (union + both)) if union else (1.0, 1.0)
    return MaskScores(both, union, iou, f1, (both + false) / max(1, union + neither))


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """Probability that a marked photo has a higher score than a clean one; a tie counts half.

    It is NaN if there are no marked or no clean photos.
    """
    if label.all() or not label.any():
        return float("nan")
    tensors = torch.from_numpy(score), torch.from_numpy(label.astype(int))
    return binary_auroc(*tensors, validate_args=False).item()


def expected_calibration_error(score: np.ndarray, label: np.ndarray) -> float:
    """Mean distance between the score and the share of marked photos, over CALIBRATION_BINS bins.

    Clean and marked photos weigh the same, however many they are, which torchmetrics cannot do.
    There must be photos of both kinds.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    weight = np.where(label, 0.5 / label.sum(), 0.5 / (~label).sum())
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return float(np.abs(np.bincount(bins, weight * (score - label))).sum())


def bootstrap(statistic, *columns, photos=None) -> tuple[float, float, float]:
    """A statistic of images and its 95 % percentile interval: (value, low, high).

    Args:
        statistic: function that takes the columns and returns a float. NaN does not count.
        columns: arrays whose first axis counts images.
        photos: the photo that each image shows. Images of one photo are not independent, so photos
            are resampled, each with all its images. None: each image shows another photo.
    """
    rng, columns = np.random.default_rng(0), [np.asarray(column) for column in columns]
    photos = np.arange(len(columns[0])) if photos is None else np.asarray(photos)
    groups = [np.flatnonzero(photos == photo) for photo in np.unique(photos)]  # images by photo
    values = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(groups), size=len(groups))
        images = np.concatenate([groups[number] for number in drawn])
        values.append(statistic(*(column[images] for column in columns)))
    return float(statistic(*columns)), *np.nanpercentile(values, (2.5, 97.5)).tolist()
