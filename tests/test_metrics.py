"""Metrics on hand-computed cases."""

import numpy as np
import pytest

from evaluation.metrics import auroc, bootstrap, expected_calibration_error, score_mask
from samples import IGNORE


def test_mask_scores_of_four_pixels():
    scores = score_mask(np.array([[True, True, False, False]]), np.uint8([[1, 0, 1, 0]]))
    assert (scores.intersection_px, scores.union_px) == (1, 3)
    assert scores.iou == pytest.approx(1 / 3) and scores.f1 == scores.marked_fraction == 1 / 2


@pytest.mark.parametrize("tail", [[True, True], [False, False], [True, False]])
def test_undecidable_pixels_do_not_count(tail):
    scores = score_mask(np.array([[True, False, *tail]]), np.uint8([[1, 0, IGNORE, IGNORE]]))
    assert scores.iou == scores.f1 == 1 and scores.marked_fraction == 1 / 2


def test_auroc_counts_pairs_and_halves_ties():
    # 6 pairs: .9 beats both, .5 beats .1 and ties with .5, .1 ties with .1 and loses.
    label = np.array([True, True, True, False, False])
    assert auroc(np.array([0.9, 0.5, 0.1, 0.5, 0.1]), label) == pytest.approx(4 / 6)
    assert np.isnan(auroc(np.array([0.9, 0.5]), label[:2]))


def test_calibration_gives_clean_and_marked_photos_the_same_weight():
    # A marked photo of weight 1 and a clean one of weight 1/3 have the score .95: 3/4 is marked.
    score, label = np.array([0.95, 0.95, 0.05, 0.05]), np.array([True, False, False, False])
    expected = 2 / 3 * (0.95 - 3 / 4) + 1 / 3 * 0.05
    assert expected_calibration_error(score, label) == pytest.approx(expected)


def test_bootstrap_interval_covers_the_value():
    values = np.arange(101) / 100
    value, low, high = bootstrap(np.mean, values)
    assert value == pytest.approx(0.5)
    assert 0.43 < low < 0.46 and 0.54 < high < 0.57  # 0.5 -+ 1.96 * 0.29 / sqrt(101)
    assert bootstrap(np.mean, values) == (value, low, high)
