"""Weak regions beside a certain one."""

import numpy as np
import pytest

from inference.regions import DOUBTED, doubt_weak_regions
from inference.segmenter import judged

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
    weak[10, 40] = True
    assert np.array_equal(doubted[~weak], found[~weak])
    assert np.array_equal(judged(found), doubted)


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
    assert doubt_weak_regions(found)[75, 80] < 0.5 < judged(found)[75, 80]
