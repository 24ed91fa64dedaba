"""The places of the copies of a stamp in each layout."""

import cv2
import numpy as np
import pytest
from conftest import assert_premultiplied, random_stamp, solid

from samples.layouts import LAYOUTS

SIZE = 64
SHAPE = (SIZE, SIZE)


@pytest.fixture
def alpha_of(make_mark):
    """Computes the alpha of the layer that a layout makes of a stamp."""

    def lay(name, stamp, shape=SHAPE, **mark):
        return LAYOUTS[name](stamp, make_mark(**mark), shape)[..., 3].astype(int)

    return lay


def box(shape, rows, columns, level=255):
    alpha = np.zeros(shape, int)
    alpha[slice(*rows), slice(*columns)] = level
    return alpha


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [SHAPE, (40, 90)])
def test_layouts_stay_on_the_image_and_premultiplied(make_mark, layout, shape):
    rng = np.random.default_rng(3)
    for trial in range(12):
        stamp = random_stamp(trial, *rng.integers(1, 80, 2))
        before = stamp.copy()
        mark = make_mark(center=tuple(rng.random(2)), rotation_deg=rng.uniform(-180, 180))
        layer = LAYOUTS[layout](stamp, mark, shape)
        assert_premultiplied(layer)
        assert layer.shape[:2] == shape
        assert np.array_equal(stamp, before)


def test_single_lies_at_its_center_and_is_cut_at_the_edge_of_the_image(alpha_of):
    whole = alpha_of("single", solid(2, 4), (16, 16), center=(0.25, 0.75))
    assert np.array_equal(whole, box((16, 16), (11, 13), (2, 6)))  # x: 4 -+ 2, y: 12 -+ 1
    cut = alpha_of("single", solid(6, 10), (16, 16), center=(0.0, 1.0))
    assert np.array_equal(cut, box((16, 16), (13, 16), (0, 5)))


def test_centre_lies_exactly_in_the_middle_and_lower_right_near_that_corner(alpha_of):
    alpha = alpha_of("centre", solid(2, 4), (16, 20), center=(0.1, 0.9))
    assert np.array_equal(alpha, box((16, 20), (7, 9), (8, 12)))
    for center in ((0.0, 0.0), (1.0, 1.0)):
        alpha = alpha_of("lower_right", solid(6, 10), center=center)
        assert alpha.sum() == alpha[48:, 48:].sum() == pytest.approx(255 * 60, rel=0.02)


@pytest.mark.parametrize("x, columns, half", [(0, (0, 10), (0, 32)), (1, (54, 64), (32, 64))])
@pytest.mark.parametrize("y, rows, part", [(0, (0, 6), (0, 32)), (1, (58, 64), (32, 64))])
def test_corner_lies_in_the_corner(alpha_of, x, columns, half, y, rows, part):
    flush = alpha_of("corner", solid(6, 10), center=(x, y))
    assert np.array_equal(flush, box(SHAPE, rows, columns))
    # far from the edge: a margin, but the same corner
    inset = alpha_of("corner", solid(6, 10), center=(abs(x - 0.4), abs(y - 0.4)))
    assert inset.sum() == pytest.approx(flush.sum(), rel=0.02)
    assert (inset * box(SHAPE, part, half, 1)).sum() == inset.sum()
    assert not inset[[0, -1]].any() and not inset[:, [0, -1]].any()


@pytest.mark.parametrize("rotation_deg", [30, 90, -45])
@pytest.mark.parametrize("layout", ["corner", "lower_right", "edge", "inside"])
def test_rotated_marks_near_the_edge_stay_inside_the_image(alpha_of, layout, rotation_deg):
    """The default settings rotate none of these layouts, but users may."""
    alpha = alpha_of(layout, solid(4, 30), center=(1.0, 1.0), rotation_deg=float(rotation_deg))
    assert alpha.sum() == pytest.approx(255 * 4 * 30, rel=0.02)
    across, down = (np.ptp(places) + 1 for places in np.nonzero(alpha > 127)[::-1])
    turn = np.radians(rotation_deg - 90 * (layout == "edge"))
    for length, along, thick in ((across, np.cos, np.sin), (down, np.sin, np.cos)):
        assert length == pytest.approx(abs(30 * along(turn)) + abs(4 * thick(turn)), abs=2.5)


@pytest.mark.parametrize("center", [(0.0, 0.0), (0.3, 0.9)])
def test_grid_repeats_and_brick_shifts_every_other_row_by_half(alpha_of, center):
    stamp = solid(4, 10)
    stamp[:2, :3] = 90  # a gap of 2 px: a cell is 6 x 12
    grid, brick = (alpha_of(name, stamp, center=center, gap=0.2) for name in ("grid", "brick"))
    assert np.abs(grid[6:] - grid[:-6]).max() <= 2
    assert np.abs(grid[:, 12:] - grid[:, :-12]).max() <= 2
    assert np.abs(brick[:, 12:] - brick[:, :-12]).max() <= 2
    assert np.abs(brick[6:] - brick[:-6]).max() > 100
    assert np.abs(brick[6:, 6:] - brick[:-6, :-6]).max() <= 2


@pytest.mark.parametrize("layout", ["grid", "brick", "lattice"])
@pytest.mark.parametrize("rotation_deg", [-50.0, 30.0, 180.0])
def test_tiles_reach_every_part_of_the_image(alpha_of, layout, rotation_deg):
    tiles = alpha_of(layout, solid(5, 8), center=(0.7, 0.1), gap=0.1, rotation_deg=rotation_deg)
    assert cv2.dilate(tiles.astype(np.uint8), np.ones((5, 5))).min() > 100
