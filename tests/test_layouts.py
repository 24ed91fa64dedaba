"""Where the layouts put the copies of a stamp."""

import cv2
import numpy as np
import pytest
from conftest import assert_premultiplied, random_stamp, solid

from samples.layouts import LAYOUTS

SIZE = 64
SHAPE = (SIZE, SIZE)


def on_canvas(layer, size=SIZE):
    """The layer's alpha on the whole image."""
    alpha = np.zeros((size, size), int)
    alpha[layer.window] = layer.rgba[..., 3]
    return alpha


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_stay_on_the_image_and_premultiplied(make_mark, layout):
    rng = np.random.default_rng(3)
    for trial in range(12):
        stamp = random_stamp(trial, *rng.integers(1, 80, 2))
        before = stamp.copy()
        mark = make_mark(center=tuple(rng.random(2)), rotation_deg=rng.uniform(-180, 180))
        layer = LAYOUTS[layout](stamp, mark, SHAPE)
        assert_premultiplied(layer.rgba)
        height, width = layer.rgba.shape[:2]
        assert 0 <= layer.x < layer.x + width <= SIZE and 0 <= layer.y < layer.y + height <= SIZE
        assert np.array_equal(stamp, before)


def test_single_lies_at_its_center(make_mark):
    layer = LAYOUTS["single"](solid(2, 4), make_mark(center=(0.25, 0.75)), (16, 16))
    expected = np.zeros((16, 16), int)
    expected[11:13, 2:6] = 255  # x: 4 -+ 2, y: 12 -+ 1
    assert np.array_equal(on_canvas(layer, 16), expected)


def test_single_is_cut_at_the_edge_of_the_image(make_mark):
    alpha = on_canvas(LAYOUTS["single"](solid(6, 10), make_mark(center=(0.0, 1.0)), (16, 16)), 16)
    expected = np.zeros((16, 16), int)
    expected[13:, :5] = 255
    assert np.array_equal(alpha, expected)


def test_rotation_is_counter_clockwise(make_mark):
    stamp = solid(4, 8)
    stamp[:, 4:] = 100  # the right half is fainter
    alpha = on_canvas(LAYOUTS["single"](stamp, make_mark(rotation_deg=90.0), (16, 16)), 16)
    expected = np.zeros((16, 16), int)
    expected[4:8, 6:10], expected[8:12, 6:10] = 100, 255  # what was right points up
    assert np.abs(alpha - expected).max() <= 2


@pytest.mark.parametrize("x", [0, 1])
@pytest.mark.parametrize("y", [0, 1])
def test_corner_lies_in_the_corner(make_mark, x, y):
    stamp = solid(6, 10)
    flush = on_canvas(LAYOUTS["corner"](stamp, make_mark(center=(x, y)), SHAPE))
    expected = np.zeros(SHAPE, int)
    expected[(slice(-6, None) if y else slice(6)), (slice(-10, None) if x else slice(10))] = 255
    assert np.array_equal(flush, expected)
    center = (abs(x - 0.4), abs(y - 0.4))  # far from the edge: a margin, but the same corner
    inset = on_canvas(LAYOUTS["corner"](stamp, make_mark(center=center), SHAPE))
    assert inset.sum() == pytest.approx(flush.sum(), rel=0.02)
    quadrant = inset[(slice(32, 64) if y else slice(32)), (slice(32, 64) if x else slice(32))]
    assert quadrant.sum() == inset.sum()
    assert not inset[[0, -1]].any() and not inset[:, [0, -1]].any()


def test_centre_lies_exactly_in_the_middle(make_mark):
    layer = LAYOUTS["centre"](solid(2, 4), make_mark(center=(0.1, 0.9)), (16, 20))
    canvas = np.zeros((16, 20), int)
    canvas[layer.window] = layer.rgba[..., 3]
    expected = np.zeros((16, 20), int)
    expected[7:9, 8:12] = 255
    assert np.array_equal(canvas, expected)


@pytest.mark.parametrize("center", [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.4, 0.6)])
def test_lower_right_lies_near_that_corner_and_whole(make_mark, center):
    alpha = on_canvas(LAYOUTS["lower_right"](solid(6, 10), make_mark(center=center), SHAPE))
    rows, columns = np.nonzero(alpha)
    assert alpha.sum() == pytest.approx(255 * 60, rel=0.02)
    assert rows.min() >= 0.75 * SIZE and columns.min() >= 0.75 * SIZE


@pytest.mark.parametrize("rotation_deg", [30, 90, -45])
@pytest.mark.parametrize("layout", ["corner", "lower_right", "edge"])
def test_turned_marks_near_the_edge_lie_whole_on_the_image(make_mark, layout, rotation_deg):
    """A user who gives these layouts an angle gets it."""
    mark = make_mark(center=(1.0, 1.0), rotation_deg=float(rotation_deg))
    alpha = on_canvas(LAYOUTS[layout](solid(4, 30), mark, SHAPE))
    assert alpha.sum() == pytest.approx(255 * 4 * 30, rel=0.02)
    across, down = (np.ptp(places) + 1 for places in np.nonzero(alpha > 127)[::-1])
    turn = np.radians(rotation_deg - 90 * (layout == "edge"))
    for length, along, thick in ((across, np.cos, np.sin), (down, np.sin, np.cos)):
        assert length == pytest.approx(abs(30 * along(turn)) + abs(4 * thick(turn)), abs=2.5)


@pytest.mark.parametrize("y, top", [(0.1, 0), (0.9, 57), (0.5, 28)])
@pytest.mark.parametrize("level, opposite", [(255, 0), (0, 255), (100, 255)])
def test_band_is_an_opaque_strip_of_the_opposite_brightness(make_mark, y, top, level, opposite):
    mark = make_mark(center=(0.5, y))
    layer = LAYOUTS["band"](solid(5, 20, (level,) * 3), mark, SHAPE)
    assert (layer.x, layer.y, layer.rgba.shape) == (0, top, (7, SIZE, 4))  # 5 px and their room
    assert (layer.rgba[..., 3] == 255).all()
    expected = np.full((7, SIZE), opposite)
    expected[1:6, 22:42] = level
    assert np.array_equal(layer.rgba[..., 0], expected)


@pytest.mark.parametrize("height, strip_px", [(1, 3), (5, 7), (8, 12), (60, 13)])
@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_a_band_is_neither_thin_nor_thick_and_holds_its_mark(make_mark, height, strip_px, x):
    stamp = solid(height, 20)
    strip = LAYOUTS["band"](stamp, make_mark(center=(x, 1.0)), SHAPE).rgba[..., 0]
    assert len(strip) == strip_px  # 5 % to 20 % of 64
    ink = strip > 127
    assert ink.any() and not ink[:, [0, -1]].any()
    assert height == 1 or not ink[[0, -1]].any()


@pytest.mark.parametrize("center_x, rising", [(0.2, True), (0.8, False)])
def test_diagonal_spans_from_corner_to_corner(make_mark, center_x, rising):
    stamp = solid(6, round(SIZE * 2**0.5))
    alpha = on_canvas(LAYOUTS["diagonal"](stamp, make_mark(center=(center_x, 0.5)), SHAPE))
    alpha = alpha[::-1] if rising else alpha
    assert np.diagonal(alpha)[2:-2].min() == 255
    assert not alpha[:24, 40:].any() and not alpha[40:, :24].any()


@pytest.mark.parametrize("center", [(0.0, 0.0), (0.3, 0.9)])
def test_grid_repeats_and_brick_shifts_every_other_row_by_half(make_mark, center):
    stamp = solid(4, 10)
    stamp[:2, :3] = 90
    mark = make_mark(center=center, gap=0.2)  # 2 px: a cell is 6 x 12
    grid, brick = (on_canvas(LAYOUTS[name](stamp, mark, SHAPE)) for name in ("grid", "brick"))
    assert np.abs(grid[6:] - grid[:-6]).max() <= 2
    assert np.abs(grid[:, 12:] - grid[:, :-12]).max() <= 2
    assert np.abs(brick[:, 12:] - brick[:, :-12]).max() <= 2
    assert np.abs(brick[12:] - brick[:-12]).max() <= 2
    assert np.abs(brick[6:] - brick[:-6]).max() > 100
    assert np.abs(brick[6:, 6:] - brick[:-6, :-6]).max() <= 2
    for alpha in (grid, brick):
        expected = (37 * 255 - 3 * 2 * 165 + 3 * 255) / 72 / 255  # 40 pixels of 72, six fainter
        assert alpha.mean() / 255 == pytest.approx(expected, abs=0.08)


def test_lattice_draws_lines_from_copy_to_copy(make_mark):
    mark = make_mark(center=(0.0, 0.0), gap=1.0)
    stamp = solid(4, 8, (250, 120, 0))  # cells of 12 x 16: crossings are 8 px across, 12 down
    layer, plain = (LAYOUTS[name](stamp, mark, SHAPE) for name in ("lattice", "brick"))
    alpha, copies = on_canvas(layer), on_canvas(plain)
    assert (alpha >= copies).all()
    parts = [cv2.connectedComponents((a > 80).astype(np.uint8))[0] - 1 for a in (copies, alpha)]
    assert parts[0] > 10 and parts[1] == 1
    lines = layer.rgba[(alpha > 100) & (copies == 0)].astype(int)
    assert len(lines) > 50 and np.abs(lines[:, 1] / lines[:, 0] - 0.48).max() < 0.05
    assert not lines[:, 2].any()
    assert (alpha > 127).mean() < 0.45  # the lines are thin


@pytest.mark.parametrize("layout", ["grid", "brick", "lattice"])
@pytest.mark.parametrize("rotation_deg", [-50.0, 30.0, 180.0])
def test_tiles_reach_every_part_of_the_image(make_mark, layout, rotation_deg):
    mark = make_mark(center=(0.7, 0.1), gap=0.1, rotation_deg=rotation_deg)
    alpha = on_canvas(LAYOUTS[layout](solid(5, 8), mark, SHAPE))
    assert cv2.dilate(alpha.astype(np.uint8), np.ones((5, 5))).min() > 100


@pytest.mark.parametrize("center", [(0, 0), (1, 0), (0.3, 1), (0.5, 0.5)])
@pytest.mark.parametrize("rotation_deg", [0, 30, 90, 145])
def test_inside_marks_are_whole(make_mark, center, rotation_deg):
    mark = make_mark(center=center, rotation_deg=rotation_deg)
    alpha = on_canvas(LAYOUTS["inside"](solid(20, 36), mark, SHAPE))
    assert alpha.sum() == pytest.approx(255 * 20 * 36, rel=0.04)


def test_inside_marks_that_are_too_long_lie_in_the_middle(make_mark):
    stamp = solid(8, 90)
    stamp[:, 44:46] = 100  # its middle
    alpha = on_canvas(LAYOUTS["inside"](stamp, make_mark(center=(0, 0)), SHAPE))
    assert (alpha[:8] > 0).all() and not alpha[9:].any()
    assert (alpha[4] == 100).nonzero()[0].tolist() == [31, 32]


@pytest.mark.parametrize("x, columns", [(0.1, (0, 6)), (0.9, (58, 64))])
@pytest.mark.parametrize("y, head_first", [(0.2, True), (0.8, False)])
def test_a_mark_at_an_edge_runs_along_it(make_mark, x, columns, y, head_first):
    stamp = np.pad(solid(4, 10), ((0, 0), (20, 0), (0, 0)))
    stamp[:, :20] = 100  # its end is stronger than its beginning
    alpha = on_canvas(LAYOUTS["edge"](stamp, make_mark(center=(x, y)), (64, 64)))
    beside = np.ones(64, bool)
    beside[slice(*columns)] = False
    assert not alpha[:, beside].any()
    rows = np.flatnonzero(alpha.any(axis=1))
    strong = np.flatnonzero(alpha.max(axis=1) == 255)
    assert len(rows) in (30, 31) and abs(rows.mean() - 15 - y * 34) < 1
    assert strong.mean() < rows.mean() if head_first else strong.mean() > rows.mean()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_need_not_be_square(make_mark, layout):
    shape, stamp = (40, 90), solid(10, 20)
    for x, y in [(0.1, 0.1), (0.9, 0.8)]:
        layer = LAYOUTS[layout](stamp, make_mark(center=(x, y)), shape)
        canvas = np.zeros(shape, int)
        canvas[layer.window] = layer.rgba[..., 3]
        rows, columns = np.nonzero(canvas)
        assert len(rows) > 100
        if layout in ("single", "inside", "corner"):
            assert abs(columns.mean() - 90 * x) < 10 and abs(rows.mean() - 40 * y) < 6
        else:
            assert np.ptp(rows if layout == "edge" else columns) > 15
