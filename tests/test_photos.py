"""Crops, edits and degradation of photos."""

from dataclasses import replace
from random import Random

import cv2
import numpy as np
import pytest

from dataset import WatermarkSettings, add_watermark
from samples.photos import EDITS, crop_photo, degrade, draw_scene


class Painted:
    """Stands in for an ImageFile, without a file."""

    def __init__(self, photo):
        self.photo, self.short_px = photo, min(photo.shape[:2])

    def read(self, zoom):
        return self.photo


def test_crop_by_hand():
    photo = np.zeros((4, 6, 3), np.uint8)
    photo[2, 4], photo[2, 5] = 100, 200  # upper row of the lower right 2 x 2 square
    expected = np.array([[100, 200], [0, 0]])
    assert np.array_equal(crop_photo(photo, (0.5, 1.0, 1.0), False, 2)[..., 0], expected)
    assert np.array_equal(crop_photo(photo, (0.5, 1.0, 1.0), True, 2)[..., 0], expected[:, ::-1])
    assert not crop_photo(photo, (0.5, 0.0, 0.0), False, 2).any()


@pytest.mark.parametrize("side", [0.7, 1.0, 2.5])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 500), (300, 200)])
def test_photos_of_any_size_can_be_cropped(height, width, side):
    square = crop_photo(np.full((height, width, 3), 9, np.uint8), (side, 0.5, 0.5), True, 32)
    assert square.shape == (32, 32, 3) and (square == 9).all()


@pytest.fixture
def photo():
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(60, 190, (64, 64, 3), np.uint8), (0, 0), 2)


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_changes_a_photo_the_same_way_each_time(photo, name):
    before, amount = photo.copy(), WatermarkSettings().edits[name][1]
    results = [EDITS[name](photo, amount, Random(0)) for _ in range(2)]
    assert np.array_equal(photo, before) and np.array_equal(*results)
    assert results[0].shape == photo.shape and results[0].dtype == np.uint8
    assert np.abs(results[0] - photo.astype(int)).mean() > 1


def test_edits_are_done_to_the_photo_before_any_mark(make_dataset):
    edits = dict.fromkeys(EDITS) | dict(contrast=(1.5, 1.5), brightness=(0.5, 0.5))  # no others
    params = make_dataset(edit_probability=1.0, edits=edits).params(3)
    photo = np.repeat(np.uint8([0, 102, 153, 255]), 8)[None, :, None].repeat(32, 0).repeat(3, 2)
    params = replace(params, photo=0, crop=(1.0, 0.0, 0.0), flip=False)
    stages = add_watermark(draw_scene(params, [Painted(photo)], 32), params)
    # contrast changes .4 to .35 and .6 to .65, then brightness halves the values
    assert stages["photo"][0, ::8, 0].tolist() == [0, 45, 83, 128]
    unmarked = stages["coverage"] == 0
    assert np.array_equal(stages["composite"][unmarked], stages["photo"][unmarked])


@pytest.fixture
def clean_params(make_dataset):
    """SampleParams without marks and without degradation."""
    nothing = dict(downscale=1.0, blur_sigma_px=0.0, noise_std=0.0, jpeg_quality=0, enlarge=1.0)
    return replace(make_dataset(clean_probability=1.0).params(0), **nothing)


@pytest.mark.parametrize("change", [dict(downscale=0.5), dict(blur_sigma_px=1.0),
                                    dict(noise_std=5.0), dict(jpeg_quality=40)])  # fmt: skip
def test_degradation_changes_pixels_not_the_scene(clean_params, change):
    image = np.full((64, 64, 3), (200, 60, 20), np.uint8)
    image[20:40, 10:30] = (20, 60, 200)
    before = image.copy()
    results = [degrade(image, replace(clean_params, **change)) for _ in range(2)]
    assert np.array_equal(*results) and np.array_equal(image, before)
    assert (results[0].shape, results[0].dtype) == (image.shape, np.uint8)
    difference = np.abs(results[0].astype(int) - image)
    assert 0 < difference.mean() < 8  # changed, but not moved, and no channels swapped
    assert np.array_equal(degrade(image, clean_params), image)


@pytest.mark.parametrize("downscale", [0.5019, 0.502, 0.777])  # 256 px: 128.49, 128.51, 198.9
@pytest.mark.parametrize("enlarge", [1.0, 1.37])
def test_degradation_does_not_shift_the_image_against_its_mask(clean_params, downscale, enlarge):
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, 240:] = 200
    result = degrade(image, replace(clean_params, downscale=downscale, enlarge=enlarge))
    assert 256 - result[128, :, 0].sum(dtype=float) / 200 == pytest.approx(240, abs=0.15)


def test_a_negative_inverts_the_final_image(make_dataset):
    plain, negative = (make_dataset(negative_probability=p).stages(3) for p in (0.0, 1.0))
    assert np.array_equal(negative.pop("image"), 255 - plain.pop("image"))
    assert all(np.array_equal(negative[name], plain[name]) for name in plain)
