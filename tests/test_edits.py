"""What is done to a photo before any mark lies on it."""

from random import Random

import cv2
import numpy as np
import pytest

from dataset import WatermarkSettings
from samples.photos import EDITS


@pytest.fixture
def grey_square():
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(60, 190, (64, 64, 3), np.uint8), (0, 0), 2)


def edited(name, image, amount, seed=0):
    before = image.copy()
    result = EDITS[name](image, amount, Random(seed))
    assert np.array_equal(image, before)
    assert result.shape == image.shape and result.dtype == np.uint8
    assert np.array_equal(
        result, EDITS[name](image, amount, Random(seed))
    )  # nothing else is random
    return result


@pytest.mark.parametrize("name", ["contrast", "gamma", "brightness"])
def test_edits_of_the_tone_do_nothing_at_1(grey_square, name):
    assert np.array_equal(edited(name, grey_square, 1.0), grey_square)
    assert np.abs(edited(name, grey_square, 1.6) - grey_square.astype(int)).mean() > 3


def test_few_levels_make_flat_areas():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    assert np.unique(edited("levels", ramp, 3)).tolist() == [0, 128, 255]


def test_sharpening_and_noise_make_steeper_edges(grey_square):
    def steepness(image):
        return np.abs(np.diff(image.astype(int), axis=1)).mean()

    for name, amount in (("sharpness", 1.5), ("noise", 10)):
        assert steepness(edited(name, grey_square, amount)) > 1.3 * steepness(grey_square)
    assert np.std(edited("noise", np.full((64, 64, 3), 128, np.uint8), 10)) == pytest.approx(
        10, 0.1
    )


def test_bars_are_plain_and_leave_the_middle(grey_square):
    sides = set()
    for seed in range(40):
        image = edited("bars", grey_square, 0.25, seed)
        assert np.array_equal(image[16:-16, 16:-16], grey_square[16:-16, 16:-16])
        middles = dict(top=image[:16, 16:-16], bottom=image[-16:, 16:-16],
                       left=image[16:-16, :16], right=image[16:-16, -16:])  # fmt: skip
        plain = [name for name, part in middles.items() if (part == part[0, 0]).all()]
        sides.add(" ".join(plain))
    assert sides == {"top bottom", "left right", "top bottom left right", "top", "bottom"}


def test_a_collage_has_two_pictures_and_a_plain_gap(grey_square):
    for seed in range(10):
        image = edited("collage", grey_square, 0.125, seed)
        rows, columns = (np.ptp(image, axis=axis).max(1) == 0 for axis in (1, 0))
        assert sorted([rows.sum(), columns.sum()]) == [0, 8]


@pytest.mark.parametrize(
    "edits, message",
    [
        ({"fog": (0, 1)}, "edits has no fog; choose from contrast, gamma"),
        ({"levels": (1, 8)}, "edits\\['levels'\\] is .* from 2 to 256"),
        ({"bars": (0.3, 0.1)}, "must rise from 0 to 0.5"),
    ],
)
def test_wrong_edits_are_refused(edits, message):
    with pytest.raises(ValueError, match=message):
        WatermarkSettings(edits=edits)
