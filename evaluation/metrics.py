"""Accuracy of masks and scores, as `evaluate.py` reports it. Plain functions of numpy arrays.

A truth is uint8, H x W: 1 = mark, 0 = none, IGNORE = undecidable, without weight. A predicted mask
is bool, H x W.
"""

from dataclasses import dataclass

import numpy as np

from samples import IGNORE

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class MaskScores:
    """How one predicted mask compares with its truth; IoU and F1 lie in 0..1."""

    intersection_px: int
    union_px: int
    iou: float  # 1 if both are empty
    f1: float
    marked_fraction: float  # predicted share of the decidable pixels


def score_mask(predicted: np.ndarray, truth: np.ndarray) -> MaskScores:
    """Compares a predicted mask with the truth over the decidable pixels."""
    decided = truth != IGNORE
    predicted, truth = predicted & decided, truth == 1
    intersection = int(np.count_nonzero(predicted & truth))
    union = int(np.count_nonzero(predicted | truth))
    return MaskScores(
        intersection,
        union,
        iou=intersection / union if union else 1.0,
        f1=2 * intersection / (union + intersection) if union else 1.0,
        marked_fraction=float(predicted.sum() / max(1, decided.sum())),
    )


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """Probability that a marked photo has a higher score than a clean one; ties count half.

    Args:
        score: float, N, 0..1.
        label: bool, N.

    Returns:
        NaN if one kind is missing.
    """
    marked, clean = score[label], np.sort(score[~label])
    if not len(marked) or not len(clean):
        return float("nan")
    below, at_most = (np.searchsorted(clean, marked, side=side) for side in ("left", "right"))
    return float((below + at_most).mean() / 2 / len(clean))  # torchmetrics takes 50 times as long


def reliability(score: np.ndarray, label: np.ndarray):
    """Stated against actual probability of "marked", clean and marked photos weighing the same.

    Args:
        score: float, N, 0..1.
        label: bool, N; both kinds must occur.

    Returns:
        (mean score, share of marked photos, weight) of each of CALIBRATION_BINS equal bins, NaN
        where a bin is empty.
    """
    weight = np.where(label, 0.5 / label.sum(), 0.5 / (~label).sum())
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    total, stated, actual = (
        np.bincount(bins, weight * value, CALIBRATION_BINS)
        for value in (np.ones(len(score)), score, label)
    )
    with np.errstate(invalid="ignore"):
        return stated / total, actual / total, total


def expected_calibration_error(score: np.ndarray, label: np.ndarray) -> float:
    """Mean distance of stated and actual probability; arguments as for `reliability`.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    stated, actual, weight = reliability(score, label)
    return float(np.nansum(np.abs(stated - actual) * weight))


def bootstrap(
    statistic, *columns, photos=None, rounds: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """A statistic of images and its 95 % percentile interval: (value, low, high).

    Args:
        statistic: function of as many arrays as columns, to a float. NaN does not count.
        columns: arrays whose first axis counts images.
        photos: the photo behind each image. Photos are drawn at random, and each brings all of its
            images, because these are not independent. None: each image has a photo of its own.
    """
    rng, columns = np.random.default_rng(seed), [np.asarray(column) for column in columns]
    photos = np.arange(len(columns[0])) if photos is None else np.asarray(photos)
    order = np.argsort(photos, kind="stable")
    images_of = np.split(order, np.unique(photos[order], return_index=True)[1][1:])
    values = []
    for _ in range(rounds):
        drawn = rng.integers(len(images_of), size=len(images_of))
        images = np.concatenate([images_of[photo] for photo in drawn])
        values.append(statistic(*(column[images] for column in columns)))
    return float(statistic(*columns)), *np.nanpercentile(values, (2.5, 97.5)).tolist()
