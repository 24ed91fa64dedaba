"""Copies of a tiled mark: where they are, and what they tell of each other."""

import cv2
import numpy as np
import pytest

from inference.repeats import MIN_CONTRAST, find_shifts, share_repeats
from inference.segmenter import NATIVE_PX, predict_any_size, refine

HIDDEN, UNSURE, LIKELY, SURE = 0.05, 0.6, 0.9, 0.99
GLYPH = np.zeros((14, 30), bool)  # of 30 x 14 px, unlike itself at any shift
GLYPH[2:12, 2:5] = GLYPH[9:12, 2:12] = GLYPH[2:5, 15:28] = GLYPH[2:12, 20:23] = True


def tiled(shape=(240, 320), places=None, zoom=1.0) -> np.ndarray:
    """A map of glyphs, each LIKELY, on ground that is not marked."""
    places = places or [(y, x) for y in range(10, 220, 60) for x in range(5, 280, 80)]
    found = np.full(shape, 0.02, np.float32)
    for y, x in places:
        found[y : y + 14, x : x + 30][GLYPH] = LIKELY
    return cv2.resize(found, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("zoom", [1, 0.83, 5.3])
def test_shifts_are_those_from_copy_to_copy(zoom):
    shifts = find_shifts(tiled(zoom=zoom))
    steps = np.array([shift[1:] for shift in shifts]) / zoom / [60, 80]
    assert len(shifts) == 8 and np.abs(steps - steps.round()).max() < 0.02
    assert np.linalg.matrix_rank(steps.round()) == 2 and np.abs(steps).max() < 4
    assert all(0.55 < correlation <= 1.01 for correlation, _, _ in shifts)


def test_brick_patterns_are_found_too():
    places = [(y, x + 40 * (y % 120 == 10)) for y in range(10, 220, 60) for x in range(5, 240, 80)]
    steps = {tuple(np.round([down, right])) for _, down, right in find_shifts(tiled(places=places))}
    assert {(60, 40), (60, -40), (0, 80)} <= steps


@pytest.mark.parametrize("name", ["one", "apart", "flat", "faint", "noise", "line"])
def test_what_is_not_repeated_stays_as_it_is(name):
    rng = np.random.default_rng(0)
    found = {
        "one": tiled(places=[(100, 100)]),
        "apart": tiled(places=[(20, 20)]) + np.rot90(tiled((320, 240), places=[(200, 20)])),
        "flat": np.full((64, 96), 0.7, np.float32),
        "faint": tiled() * (MIN_CONTRAST / LIKELY - 0.01),
        "noise": rng.random((200, 300), np.float32),
        "line": rng.random((1, 300), np.float32),
    }[name]
    assert find_shifts(found) == [] and refine(found, 0.5)[0] is found


def test_a_hidden_copy_is_what_the_others_show():
    found = tiled()
    found[70:84, 85:115][GLYPH] = HIDDEN
    shared = share_repeats(found, find_shifts(found))
    assert shared.dtype == np.float32 and shared.shape == found.shape
    marked = shared >= 0.5
    assert marked[70:84, 85:115][GLYPH].mean() > 0.9 and not marked[70:84, 85:115][~GLYPH].any()
    assert np.array_equal(
        np.delete(marked, slice(60, 90), 0), np.delete(tiled() >= 0.5, slice(60, 90), 0)
    )


def test_what_only_one_copy_shows_must_be_certain():
    found = tiled()
    found[45:55, 60:75] = UNSURE
    found[105:115, 60:75] = SURE
    marked = share_repeats(found, find_shifts(found)) >= 0.5
    assert not marked[45:55, 60:75].any() and marked[105:115, 60:75].all()


@pytest.mark.parametrize("side", [320, NATIVE_PX + 160])
def test_a_photo_of_any_size_is_judged_so(side):
    found = tiled()
    found[70:84, 85:115] = HIDDEN
    found = cv2.resize(found, None, fx=side / 320, fy=side / 320, interpolation=cv2.INTER_NEAREST)
    photo = np.zeros((*found.shape, 3), np.uint8)
    photo[..., 0] = np.round(255 * found)

    def predict(views):  # a negative has the same answer
        return [(np.ptp(view, axis=2) / np.float32(255), 0.9) for view in views]

    probability, _ = predict_any_size(predict, photo)
    small = cv2.resize(probability, (320, 240), interpolation=cv2.INTER_AREA)
    marked = small[70:84, 85:115] >= 0.5
    assert marked[GLYPH].mean() > 0.8 and marked[~GLYPH].mean() < 0.1


def test_long_and_large_maps_are_shared_whole():
    """OpenCV's warps end at 32,767 px."""
    for found in (tiled(zoom=5.3), np.tile(tiled()[10:24, 5:85], (1, 500))):
        shifts = find_shifts(found)
        marked = share_repeats(found, shifts) >= 0.5
        assert shifts and (marked == (found >= 0.5)).mean() > 0.99
