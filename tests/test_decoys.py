"""Print in the scene: it changes the photo and is no mark."""

from random import Random

import numpy as np
import pytest
from conftest import paint_photo

from dataset import add_watermark, render_sample
from decoys import Decoy, draw_decoy, print_on_scene


@pytest.fixture
def square_decoy(make_mark):
    """A white decoy on the middle of a square image, opaque and sharp."""
    corners = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
    return Decoy(make_mark(color="white"), corners, 1.0, 0.1)


def test_a_decoy_lies_where_its_corners_say_and_leaves_the_photo_alone(square_decoy):
    photo = np.full((64, 64, 3), 100, np.uint8)
    before = photo.copy()
    first, second = (print_on_scene(photo, square_decoy) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(photo, before)
    assert (first.shape, first.dtype) == (photo.shape, np.uint8)
    changed = (first != photo).any(axis=2)
    assert changed[20:44, 20:44].mean() > 0.9
    changed[15:50, 15:50] = False
    assert not changed.any()
    assert first[32, 32].tolist() == [255, 255, 255]  # even light: the colour itself


def test_a_decoy_is_lit_as_the_photo_is(square_decoy):
    photo = np.full((64, 64, 3), 40, np.uint8)
    photo[:, 32:] = 120
    grey = print_on_scene(photo, square_decoy).astype(int).mean(axis=2)
    dark, bright = grey[28:36, 20:26].mean(), grey[28:36, 38:44].mean()
    assert dark < 0.7 * bright
    assert dark > 60  # white print in the shade


def test_decoys_keep_the_shape_of_their_picture(make_mark, logos, fonts):
    mark = make_mark(kind="text", font=fonts[0].path, text="HHHHHHHH", color="white")
    corners = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
    changed = print_on_scene(np.zeros((96, 96, 3), np.uint8), Decoy(mark, corners, 1.0, 0.1)).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert np.ptp(columns) > 70 and np.ptp(rows) < 20
    assert rows.mean() == pytest.approx(47.5, abs=2)


def test_drawn_decoys_lie_in_perspective_within_reach(make_mark):
    decoys = [draw_decoy(make_mark(), Random(seed)) for seed in range(30)]
    assert decoys[3] == draw_decoy(make_mark(), Random(3)) and decoys[3] != decoys[4]
    for decoy in decoys:
        first, second, third, fourth = np.array(decoy.corners)
        assert not np.allclose(second - first, third - fourth, atol=1e-3)  # no parallelogram
        assert 0.85 <= decoy.opacity <= 1 and np.abs(np.array(decoy.corners) - 0.5).max() < 1


def test_decoys_change_pixels_and_leave_the_mask_empty(make_dataset):
    data = make_dataset(length=20, clean_probability=1.0, decoy_probability=1.0)
    plain = make_dataset(length=20, clean_probability=1.0)
    changed = 0
    for index in range(20):
        assert len(data.params(index).decoys) == 1 and not plain.params(index).decoys
        stages, before = data.stages(index), plain.stages(index)["photo"]
        assert not stages["mask"].any() and not data[index]["mask"].any()
        changed += (stages["photo"] != before).any()
    assert changed > 10


def test_only_the_mark_on_a_decoy_is_mask(make_dataset):
    data = make_dataset(length=20, clean_probability=0.0, decoy_probability=1.0)
    for index in range(20):
        params, size = data.params(index), data.settings.image_size
        photo = paint_photo(index, 80, 90)
        stages = render_sample(params, photo, size)
        marked = add_watermark(stages["photo"], params)  # the photo with the decoy
        assert np.array_equal(stages["mask"], marked["mask"])
        assert np.array_equal(stages["mask"] == 0, stages["coverage"] == 0)


def test_half_of_the_samples_have_a_decoy_if_so_set(make_dataset):
    data = make_dataset(length=100, decoy_probability=0.5, kinds={"signature": 1})
    decoys = [decoy for index in range(100) for decoy in data.params(index).decoys]
    assert 30 < len(decoys) < 70
    assert {decoy.mark.kind for decoy in decoys} == {"text"}  # print is a logo or a text
