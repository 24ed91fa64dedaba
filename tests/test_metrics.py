"""Accuracy figures on hand-computed cases."""

import numpy as np
import pytest

from evaluation.metrics import (
    auroc,
    bootstrap,
    expected_calibration_error,
    reliability,
    score_mask,
)
from samples import IGNORE


def test_mask_scores_of_four_pixels():
    scores = score_mask(np.array([[True, True, False, False]]), np.uint8([[1, 0, 1, 0]]))
    assert (scores.intersection_px, scores.union_px) == (1, 3)
    assert scores.iou == pytest.approx(1 / 3) and scores.f1 == pytest.approx(1 / 2)
    assert scores.marked_fraction == pytest.approx(1 / 2)


def test_undecidable_pixels_do_not_count():
    truth = np.uint8([[1, 0, IGNORE, IGNORE]])
    for tail in ([True, True], [False, False], [True, False]):
        scores = score_mask(np.array([[True, False, *tail]]), truth)
        assert scores.iou == scores.f1 == 1 and scores.marked_fraction == 1 / 2


def test_nothing_found_where_nothing_is_scores_1():
    empty = np.zeros((4, 4), bool)
    scores = score_mask(empty, np.zeros((4, 4), np.uint8))
    assert scores.iou == scores.f1 == 1
    assert score_mask(~empty, np.zeros((4, 4), np.uint8)).iou == 0


def test_auroc_counts_pairs_and_halves_ties():
    # 6 pairs: .9 beats both, .5 beats .1 and ties with .5, .1 ties with .1 and loses.
    label = np.array([True, True, True, False, False])
    assert auroc(np.array([0.9, 0.5, 0.1, 0.5, 0.1]), label) == pytest.approx(4 / 6)
    assert np.isnan(auroc(np.array([0.9, 0.5]), label[:2]))


def test_calibration_weighs_both_kinds_alike():
    # One marked photo at .95, three clean ones, one of them at .95: its bin is 3/4 marked.
    score = np.array([0.95, 0.95, 0.05, 0.05])
    label = np.array([True, False, False, False])
    stated, actual, weight = reliability(score, label)
    assert stated[9] == pytest.approx(0.95) and actual[9] == pytest.approx(3 / 4)
    assert weight[9] == pytest.approx(2 / 3) and np.isnan(stated[1:9]).all()
    expected = 2 / 3 * 0.2 + 1 / 3 * 0.05
    assert expected_calibration_error(score, label) == pytest.approx(expected)


def test_bootstrap_interval_covers_the_value():
    values = np.arange(101) / 100
    value, low, high = bootstrap(np.mean, values)
    assert value == pytest.approx(0.5)
    assert 0.43 < low < 0.46 and 0.54 < high < 0.57  # 0.5 -+ 1.96 * 0.29 / sqrt(101)
    assert bootstrap(np.mean, values) == (value, low, high)


def test_images_of_one_photo_are_drawn_together():
    single = np.arange(101) / 100
    values, photos = np.tile(single, 9), np.tile(np.arange(101), 9)
    value, low, high = bootstrap(np.mean, values, photos=photos)
    assert (value, low, high) == pytest.approx(bootstrap(np.mean, single))
    independent = bootstrap(np.mean, values)
    assert np.ptp(independent) < 0.4 * (high - low)
