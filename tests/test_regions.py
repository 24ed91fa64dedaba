"""Weak regions beside a certain one."""

import cv2
import numpy as np
import pytest

from inference.maps import logit
from inference.regions import DOUBTED, NO_REGION, doubt_weak_regions, strongest_region
from inference.repeats import find_shifts
from inference.segmenter import judged, judged_score

STRONG, WEAK, FAIR = 0.99, 0.6, 0.85


def map_of(*levels) -> np.ndarray:
    """A float32 map of 40 x 100 px with a region for each level, none like another."""
    found = np.full((40, 100), 0.02, np.float32)
    for number, level in enumerate(levels):
        height, width = [(30, 4), (10, 12), (4, 28)][number]
        found[5 : 5 + height, 30 * number + 2 : 30 * number + 2 + width] = level
    return found


def test_only_what_is_weak_beside_a_certain_region_is_doubted():
    found = map_of(STRONG, WEAK, FAIR)
    found[10, 40] = 0.7  # the weak region's peak
    before = found.copy()
    doubted = doubt_weak_regions(found)
    assert np.array_equal(found, before) and doubted.dtype == np.float32
    weak = found == np.float32(WEAK)
    assert doubted[10, 40] == pytest.approx(DOUBTED)
    assert doubted[weak] == pytest.approx(WEAK * DOUBTED / 0.7)
    near = cv2.dilate(weak.view(np.uint8), np.ones((17, 17))).view(bool)
    assert np.array_equal(doubted[~near], found[~near])
    assert np.array_equal(doubted[found == STRONG], found[found == STRONG])
    assert np.array_equal(judged(found, []), doubted)


def test_a_doubted_region_falls_with_its_rim():
    found = map_of()
    found[5:35, 2:22] = STRONG
    weak = np.zeros_like(found)
    weak[4:36, 40:96] = 0.7
    found = np.maximum(found, cv2.GaussianBlur(weak, (0, 0), 3))
    doubted = doubt_weak_regions(found)
    assert (doubted[:, 40:] < 0.5).all() and np.array_equal(doubted[:, :25], found[:, :25])
    for threshold in (0.2, 0.3, 0.4, 0.44):
        mask = (doubted[:, 40:] >= threshold).view(np.uint8)
        assert mask[19, 30] and cv2.connectedComponents(1 - mask, connectivity=4)[0] == 2, threshold


@pytest.mark.parametrize(
    "levels", [(), (WEAK,), (STRONG,), (STRONG, FAIR), (FAIR, WEAK), (WEAK, WEAK)]
)
def test_without_both_kinds_nothing_is_doubted(levels):
    found = map_of(*levels)
    assert doubt_weak_regions(found) is found


def test_the_strongest_has_the_most_evidence_not_the_highest_peak():
    found = map_of(FAIR, WEAK)
    found[35, 95] = STRONG  # one pixel
    assert doubt_weak_regions(found) is found


def test_copies_of_a_tiled_mark_are_not_doubted():
    found = np.full((200, 200), 0.02, np.float32)
    for row in range(10, 200, 60):
        for column in range(10, 200, 60):
            found[row : row + 12, column : column + 20] = STRONG
    found[70:82, 70:90] = WEAK
    assert doubt_weak_regions(found)[75, 80] < 0.5 < judged(found, find_shifts(found))[75, 80]


def test_the_strongest_region_is_that_of_the_highest_mean_logit():
    assert strongest_region(map_of()) == NO_REGION
    assert strongest_region(map_of(WEAK, FAIR)) == pytest.approx(logit(np.float64(FAIR)), abs=1e-4)


def test_letters_of_a_word_are_one_region_and_specks_are_none():
    found = map_of()
    for number, level in enumerate((FAIR, STRONG, FAIR)):
        found[10:30, 10 + 12 * number : 16 + 12 * number] = level
    mean = logit(np.array([FAIR, STRONG, FAIR])).mean()
    assert strongest_region(found) == pytest.approx(mean, abs=1e-4)
    found[35:38, 90:95] = 0.999  # 15 pixels
    assert strongest_region(found) == pytest.approx(mean, abs=1e-4)


def test_the_score_follows_the_strongest_region():
    levels = [map_of(), map_of(WEAK), map_of(FAIR), map_of(STRONG)]
    scores = [judged_score(found, 0.5)[1] for found in levels]
    assert scores == sorted(scores) and scores[0] < 0.5 < scores[1]
