"""The copies of a tiled mark are found, and their evidence is combined."""

import cv2
import numpy as np
import pytest

from inference.repeats import MIN_CONTRAST, find_shifts, share_repeats
from inference.segmenter import NATIVE_PX, predict_any_size, refine

HIDDEN, LIKELY = 0.05, 0.9
GLYPH = np.zeros((14, 30), bool)  # differs from itself at every shift
GLYPH[2:12, 2:5] = GLYPH[9:12, 2:12] = GLYPH[2:5, 15:28] = GLYPH[2:12, 20:23] = True


def tiled(shape=(240, 320), places=None) -> np.ndarray:
    """A probability map with glyphs of LIKELY pixels on an unmarked ground."""
    places = places or [(y, x) for y in range(10, 220, 60) for x in range(5, 280, 80)]
    found = np.full(shape, 0.02, np.float32)
    for y, x in places:
        found[y : y + 14, x : x + 30][GLYPH] = LIKELY
    return found


@pytest.mark.parametrize("name", ["one", "apart", "flat", "faint", "noise", "line"])
def test_a_map_without_copies_is_unchanged(name):
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


@pytest.mark.parametrize("side", [320, NATIVE_PX + 160])
def test_a_hidden_copy_is_restored_in_photos_of_any_size(side):
    found = tiled()
    found[70:84, 85:115] = HIDDEN
    found = cv2.resize(found, None, fx=side / 320, fy=side / 320, interpolation=cv2.INTER_NEAREST)
    photo = np.zeros((*found.shape, 3), np.uint8)
    photo[..., 0] = np.round(255 * found)

    def predict(views):  # equal for an image and its negative
        return [(np.ptp(view, axis=2) / np.float32(255), 0.9) for view in views]

    probability, _ = predict_any_size(predict, photo)
    small = cv2.resize(probability, (320, 240), interpolation=cv2.INTER_AREA)
    marked = small[70:84, 85:115] >= 0.5
    assert marked[GLYPH].mean() > 0.8 and marked[~GLYPH].mean() < 0.1


def test_the_whole_of_a_long_map_is_combined():
    """OpenCV's warp functions fail above 32,767 px."""
    found = np.tile(tiled()[10:24, 5:85], (1, 500))
    shifts = find_shifts(found)
    assert shifts and ((share_repeats(found, shifts) >= 0.5) == (found >= 0.5)).mean() > 0.99
