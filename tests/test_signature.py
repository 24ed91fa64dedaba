"""Handwritten names: curves, pens and their pixels."""

import numpy as np
import pytest

from samples.signature import draw_points, draw_signature, smooth


def test_a_curve_goes_through_its_points():
    points = np.array([(0, 0), (1, 2), (3, 1), (4, 4)], float)
    curve = smooth(points)
    assert np.allclose(curve[:: len(curve) // 3], points)
    bends = np.diff(curve, 2, axis=0)
    assert np.abs(bends).max() < 0.5  # a corner would be 0.6


def test_a_curve_through_points_of_a_line_is_the_line():
    curve = smooth(np.array([(0, 0), (1, 2), (2, 4)], float))
    assert np.allclose(curve[:, 1], 2 * curve[:, 0])


@pytest.mark.parametrize("long_px", [40, 95.5, 300])
def test_signature_has_about_the_size_asked_for_and_thin_soft_strokes(long_px):
    for seed in range(8):
        alpha = draw_signature(seed, long_px)
        assert alpha.dtype == np.uint8 and alpha.ndim == 2
        assert max(alpha.shape) == pytest.approx(long_px, rel=0.1, abs=6)
        ink = (alpha > 127).mean()
        assert 0.02 < ink < 0.55 and alpha.max() == 255
        assert ((alpha > 0) & (alpha < 255)).any()


def test_the_same_seed_writes_the_same_name_and_another_seed_another():
    once, again, other = (draw_signature(seed, 100) for seed in (3, 3, 4))
    assert np.array_equal(once, again)
    assert once.shape != other.shape or not np.array_equal(once, other)


def test_names_have_several_letters_and_often_an_underline():
    strokes = [draw_points(seed) for seed in range(100)]
    assert {len(parts) for parts in strokes} == {1, 2}
    assert all(len(part) >= 15 for parts in strokes for part in parts)
    below = [min(part[:, 1].min() for part in parts) < -0.5 for parts in strokes]
    assert 50 < sum(below) < 100
