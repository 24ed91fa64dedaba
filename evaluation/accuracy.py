"""Accuracy of masks and scores: test images measured, and what they add up to."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evaluation import metrics
from model import CLEAN_LIMIT
from samples.loading import image_label
from samples.pairs import Case


@dataclass(frozen=True)
class TestImage:
    """One image of the test set, which is made when it is needed."""

    __test__ = False  # pytest takes this class for a test otherwise

    photo: str  # images of one photo are not independent of each other
    make: Callable[[], Case]


@dataclass(frozen=True)
class Outcome:
    """One test image, measured."""

    name: str
    photo: str  # see TestImage
    label: int  # 1 marked, 0 clean, IGNORE: a mark that nobody can see
    score: float
    decidable: metrics.MaskScores  # against the honest mask
    alpha: metrics.MaskScores  # against "anything drawn"


def measure(case: Case, photo: str, segmenter, settings: dict) -> Outcome:
    """Segments one test image and compares; `settings` are arguments of `Segmenter.segment`."""
    found = segmenter.segment(case.image, **settings)
    truths = (metrics.score_mask(found.mask, mask) for mask in (case.mask, case.alpha_mask))
    return Outcome(case.name, photo, image_label(case.mask), found.score, *truths)


def summarise(slices: dict[str, list[Outcome]]) -> dict:
    """All numbers of the tables; those with an interval are (value, low, high).

    Of each slice: the mask metrics of its marked images, the false alarms on its clean ones, and
    the AUROC of the score: of its marked images against all clean ones, or, where it has none, of
    all marked ones against its own.
    """
    everything = [outcome for outcomes in slices.values() for outcome in outcomes]
    marked, clean = by_label(everything)
    table = {}
    for name, outcomes in slices.items():
        own_marked, own_clean = by_label(outcomes)
        row = {"marked": len(own_marked), "clean": len(own_clean)}
        row["undecided"] = len(outcomes) - row["marked"] - row["clean"]
        row |= mask_rows(own_marked) if own_marked else {}
        row |= clean_rows(own_clean) if own_clean else {}
        if marked and clean:
            row["auroc"] = auroc(own_marked + clean if own_marked else marked + own_clean)
        table[name] = row
    return {"slices": table, "score": score_rows(marked + clean) if marked and clean else {}}


def by_label(outcomes: list[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """The marked and the clean images; those that nobody can decide are in neither."""
    return tuple([outcome for outcome in outcomes if outcome.label == kind] for kind in (1, 0))


def _interval(statistic, outcomes: list[Outcome], *columns):
    return metrics.bootstrap(statistic, *columns, photos=[outcome.photo for outcome in outcomes])


def mask_rows(outcomes: list[Outcome]) -> dict[str, tuple[float, float, float]]:
    """Mask metrics of marked images."""
    pixels = [(o.decidable.intersection_px, o.decidable.union_px) for o in outcomes]
    rows = {
        prefix + name: _interval(np.mean, outcomes, [getattr(score, name) for score in scores])
        for prefix, scores in (("", [o.decidable for o in outcomes]),
                               ("alpha_", [o.alpha for o in outcomes]))
        for name in ("iou", "f1")
    }  # fmt: skip
    pooled = _interval(lambda p: p[:, 0].sum() / max(1, p[:, 1].sum()), outcomes, pixels)
    return rows | {"pooled_iou": pooled}


def clean_rows(outcomes: list[Outcome]) -> dict[str, tuple[float, float, float]]:
    """False alarms on clean images: share of images, and share of their pixels."""
    marked = np.array([outcome.decidable.marked_fraction for outcome in outcomes])
    return {
        "images_marked": _interval(np.mean, outcomes, marked > CLEAN_LIMIT),
        "area_marked": _interval(np.mean, outcomes, marked),
    }


def auroc(outcomes: list[Outcome]) -> tuple[float, float, float]:
    """Of the score, over marked and clean images."""
    score, label = np.array([(o.score, o.label) for o in outcomes]).T
    return _interval(metrics.auroc, outcomes, score, label == 1)


def score_rows(outcomes: list[Outcome]) -> dict:
    """AUROC and calibration over marked and clean images of all slices together."""
    score, label = np.array([(o.score, o.label) for o in outcomes]).T
    # No interval: resampling makes this one larger, so that it would not hold the value.
    error = metrics.expected_calibration_error(score, label == 1)
    return {"auroc": auroc(outcomes), "calibration_error": error}
