"""Accuracy of masks and scores: test images measured, and what they add up to."""

from dataclasses import dataclass

import numpy as np

from evaluation import metrics
from model import CLEAN_LIMIT
from samples.loading import image_label
from samples.pairs import Case

TRUTHS = ("decidable", "alpha")  # fields of Outcome: two definitions of what is marked


@dataclass(frozen=True)
class Outcome:
    """One test image, measured."""

    name: str
    label: int  # 1 marked, 0 clean, IGNORE: a mark that nobody can see
    score: float
    decidable: metrics.MaskScores  # against the honest mask
    alpha: metrics.MaskScores  # against "anything drawn"


def measure(case: Case, segmenter, threshold: float) -> Outcome:
    """Segments one test image with the settings that a user gets, and compares."""
    found = segmenter.segment(case.image, threshold=threshold)
    truths = (metrics.score_mask(found.mask, mask) for mask in (case.mask, case.alpha_mask))
    return Outcome(case.name, image_label(case.mask), found.score, *truths)


def mask_rows(outcomes: list[Outcome], truth: str) -> dict[str, tuple[float, float, float]]:
    """Mask metrics over the marked images, each as (value, low, high); none without such images.

    Args:
        truth: one of TRUTHS.
    """
    scores = [getattr(outcome, truth) for outcome in outcomes if outcome.label == 1]
    if not scores:
        return {}
    pixels = [(score.intersection_px, score.union_px) for score in scores]
    rows = {
        name: metrics.bootstrap(np.mean, [getattr(score, name) for score in scores])
        for name in ("iou", "f1", "boundary_f1")
    }
    rows["pooled_iou"] = metrics.bootstrap(lambda p: p[:, 0].sum() / max(1, p[:, 1].sum()), pixels)
    return rows


def clean_rows(outcomes: list[Outcome]) -> dict[str, tuple[float, float, float]]:
    """False alarms on the clean images: share of images, and share of their pixels."""
    marked = [outcome.decidable.marked_fraction for outcome in outcomes if outcome.label == 0]
    if not marked:
        return {}
    return {
        "images_marked": metrics.bootstrap(np.mean, np.array(marked) > CLEAN_LIMIT),
        "area_marked": metrics.bootstrap(np.mean, marked),
    }


def summarise(slices: dict[str, list[Outcome]]) -> dict:
    """All numbers of the table; see `mask_rows` and `clean_rows`."""
    everything = [outcome for outcomes in slices.values() for outcome in outcomes]
    clean = [outcome.score for outcome in everything if outcome.label == 0]
    table = {}
    for name, outcomes in slices.items():
        marked = [outcome.score for outcome in outcomes if outcome.label == 1]
        labels = [outcome.label for outcome in outcomes]
        row = {"marked": labels.count(1), "clean": labels.count(0)}
        row["undecided"] = len(labels) - row["marked"] - row["clean"]
        row |= {truth: mask_rows(outcomes, truth) for truth in TRUTHS} | clean_rows(outcomes)
        if marked and clean:
            row["auroc"] = metrics.bootstrap(metrics.auroc, marked, clean)
        table[name] = row
    return {"slices": table, "score": score_rows(everything)}


def score_rows(outcomes: list[Outcome]) -> dict:
    """AUROC and calibration over all slices together; empty unless both kinds occur."""
    marked, clean = ([o.score for o in outcomes if o.label == kind] for kind in (1, 0))
    if not marked or not clean:
        return {}

    score, label = np.array(marked + clean), np.arange(len(marked) + len(clean)) < len(marked)
    return {
        "auroc": metrics.bootstrap(metrics.auroc, marked, clean),
        # No interval: resampling makes this one larger, so that it would not hold the value.
        "calibration_error": metrics.expected_calibration_error(score, label),
    }
