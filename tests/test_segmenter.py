"""Views of images of any size: tiles without seams, the whole frame, and the score."""

import numpy as np
import pytest

from inference import segmenter as tiling
from inference.maps import reduced, resized
from inference.segmenter import decide, predict_any_size


@pytest.fixture(autouse=True)
def small_views(monkeypatch):
    """Smaller sizes, so that the images of the tests can be small."""
    sizes = dict(SMALL_PX=0, NATIVE_PX=64, WHOLE_PX=64, TILE_PX=40, OVERLAP_PX=8)
    for name, size in sizes.items():
        monkeypatch.setattr(tiling, name, size)


def network(whole=0.0, tiles=None, scores=(0.0, 0.0)):
    """A fake `predict`, and a list of the shapes of its views.

    The first call, with the whole frame, gives the constant `whole`. Later calls give the constant
    `tiles`, or the view's red channel if that is None.
    """
    seen = []

    def predict(views):
        answers, first = [], not seen
        for view in views:
            shape = view.shape[:2]
            seen.append(shape)
            value = whole if first else view[..., 0] / 255 if tiles is None else tiles
            answers.append((np.full(shape, value, np.float32), scores[0 if first else 1]))
        return answers

    return predict, seen


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_fast_uses_one_reduced_view_of_a_large_image():
    predict, seen = network(whole=0.25)
    probability, _ = predict_any_size(predict, noise(100, 150), fast=True)
    assert seen == [(43, 64)] and probability.shape == (100, 150)


@pytest.mark.parametrize("shape", [(65, 65), (10, 200), (131, 77)])
def test_tiles_join_to_the_whole_without_seams(shape):
    predict, seen = network()
    rgb = noise(*shape)
    probability, _ = predict_any_size(predict, rgb)
    assert probability.dtype == np.float32 and probability.shape == shape
    red = rgb[..., 0].astype(np.float32) / 255
    half = resized(reduced(rgb, 0.5)[..., 0].astype(np.float32) / 255, shape)
    assert np.allclose(probability, (red + half) / 2, atol=1e-6)
    assert max(max(size) for size in seen[2:]) <= 40


def test_different_neighbouring_tiles_fade_into_each_other():
    values = iter([0.0, 0.0] + [0.0, 1.0] + [0.5])  # whole frame, tiles, tile of half the size

    def predict(views):
        return [(np.full(view.shape[:2], next(values), np.float32), 0.0) for view in views]

    row = predict_any_size(predict, noise(30, 72))[0][10]  # two tiles, at 0 and at 32
    assert np.all(row[:32] == 0.25) and np.all(row[40:] == 0.75)
    assert np.all(np.diff(row[31:41]) > 0.025) and np.all(np.diff(row[31:41]) < 0.1)


def test_a_mark_across_the_frame_is_found_where_no_tile_shows_it():
    probability, _ = predict_any_size(network(whole=0.99, tiles=0.1)[0], noise(100, 150))
    assert np.allclose(probability, 0.198 / (0.198 + 0.008))


def test_a_small_mark_is_found_where_the_whole_frame_does_not_show_it():
    rgb = np.zeros((150, 200, 3), np.uint8)
    rgb[140:148, 190:197] = 255
    mask = decide(*predict_any_size(network(scores=(0, 0.9))[0], rgb), 0.5, 0, 0.3).mask
    assert np.array_equal(mask, rgb[..., 0] == 255)
