"""Accuracy of masks and scores, as `evaluate.py` reports it. Plain functions of numpy arrays.

A truth is uint8, H x W: 1 = mark, 0 = none, IGNORE = undecidable, without weight. A predicted mask
is bool, H x W.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from samples import IGNORE

BOUNDARY_TOLERANCE = 0.0075  # of the image's diagonal
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class MaskScores:
    """How one predicted mask compares with its truth; IoU and both F1 lie in 0..1."""

    intersection_px: int
    union_px: int
    iou: float  # 1 if both are empty
    f1: float
    boundary_f1: float
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
        boundary_f1=boundary_f1(predicted, truth),
        marked_fraction=float(predicted.sum() / max(1, decided.sum())),
    )


def boundary_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """F1 of the outlines, which may lie BOUNDARY_TOLERANCE apart; both bool, H x W.

    1 if both masks are empty, 0 if one is.

    Source: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC
    2013; tolerance as there.
    """
    if not predicted.any() or not truth.any():
        return float(predicted.any() == truth.any())
    reach = max(1, round(BOUNDARY_TOLERANCE * float(np.hypot(*truth.shape))))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    outlines = [_outline(mask) for mask in (predicted, truth)]
    near = [cv2.dilate(outline, disk) for outline in outlines]
    precision = near[1][outlines[0] > 0].mean()
    recall = near[0][outlines[1] > 0].mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def _outline(mask: np.ndarray) -> np.ndarray:
    """The mask's pixels that touch the background or the image's edge; uint8, 0 or 1."""
    mask = mask.astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return mask - cv2.erode(mask, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def auroc(marked: np.ndarray, clean: np.ndarray) -> float:
    """Probability that a marked photo has a higher score than a clean one; ties count half.

    Args:
        marked, clean: scores of either kind, 1-D, not empty.
    """
    clean = np.sort(clean)
    below, at_most = (np.searchsorted(clean, marked, side=side) for side in ("left", "right"))
    return float((below + at_most).mean() / 2 / len(clean))


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


def bootstrap(statistic, *groups, rounds: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """A statistic and its 95 % percentile interval: (value, low, high).

    Args:
        statistic: function of as many arrays as groups, to a float.
        groups: arrays whose first axis counts images; each is resampled on its own.
    """
    rng = np.random.default_rng(seed)
    groups = [np.asarray(group) for group in groups]
    values = [
        statistic(*(group[rng.integers(len(group), size=len(group))] for group in groups))
        for _ in range(rounds)
    ]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(statistic(*groups)), float(low), float(high)
