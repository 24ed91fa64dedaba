"""Weak regions are lowered beside a certain one; the strongest region changes the score."""

import cv2
import numpy as np
import pytest

from inference.regions import lower_weak_regions
from inference.segmenter import refine

STRONG, WEAK, FAIR = 0.99, 0.6, 0.85


def map_of(*levels) -> np.ndarray:
    """A float32 map of 40 x 100 px with one region for each level, all of different shapes."""
    probability = np.full((40, 100), 0.02, np.float32)
    for number, level in enumerate(levels):
        height, width = [(30, 4), (10, 12), (4, 28)][number]
        probability[5 : 5 + height, 30 * number + 2 : 30 * number + 2 + width] = level
    return probability


def test_a_weak_region_is_lowered_together_with_its_rim():
    probability, weak = map_of(), np.zeros((40, 100), np.float32)
    probability[5:35, 2:22] = STRONG
    weak[4:36, 40:96] = 0.7
    probability = np.maximum(probability, cv2.GaussianBlur(weak, (0, 0), 3))
    lowered = lower_weak_regions(probability)
    assert (lowered[:, 40:] < 0.5).all()
    assert np.array_equal(lowered[:, :25], probability[:, :25])
    for threshold in (0.2, 0.3, 0.4, 0.44):
        mask = (lowered[:, 40:] >= threshold).view(np.uint8)
        assert mask[19, 30] and cv2.connectedComponents(1 - mask, connectivity=4)[0] == 2, threshold


@pytest.mark.parametrize(
    "levels", [(), (WEAK,), (STRONG,), (STRONG, FAIR), (FAIR, WEAK), (WEAK, WEAK)]
)
def test_nothing_is_lowered_without_a_weak_and_a_certain_region(levels):
    probability = map_of(*levels)
    assert lower_weak_regions(probability) is probability


def test_copies_of_a_tiled_mark_are_not_lowered():
    probability = np.full((200, 200), 0.02, np.float32)
    for row in range(10, 200, 60):
        for column in range(10, 200, 60):
            probability[row : row + 12, column : column + 20] = STRONG
    probability[70:82, 70:90] = WEAK
    assert lower_weak_regions(probability)[75, 80] < 0.5 < refine(probability, 0.5)[0][75, 80]


def test_the_score_follows_the_strongest_region():
    maps = [map_of(), map_of(WEAK), map_of(FAIR), map_of(STRONG)]
    scores = [refine(probability, 0.5)[1] for probability in maps]
    assert scores == sorted(scores) and scores[0] < 0.5 < scores[1]
