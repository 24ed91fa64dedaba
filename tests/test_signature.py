"""Handwritten names: curves, pens and their pixels."""

import numpy as np
import pytest

from samples.signature import draw_signature, smooth


def test_a_curve_goes_through_its_points():
    points = np.array([(0, 0), (1, 2), (3, 1), (4, 4)], float)
    curve = smooth(points)
    assert np.allclose(curve[:: len(curve) // 3], points)
    assert np.abs(np.diff(curve, 2, axis=0)).max() < 0.5  # a corner would be 0.6


@pytest.mark.parametrize("long_px", [40, 95.5, 300])
def test_signature_has_about_the_size_asked_for_and_thin_soft_strokes(long_px):
    drawn = [draw_signature(seed, long_px) for seed in range(8)]
    for alpha in drawn:
        assert alpha.dtype == np.uint8 and alpha.ndim == 2 and alpha.max() == 255
        assert max(alpha.shape) == pytest.approx(long_px, rel=0.1, abs=6)
        assert 0.02 < (alpha > 127).mean() < 0.55
        assert ((alpha > 0) & (alpha < 255)).any()
    assert np.array_equal(draw_signature(3, long_px), drawn[3])
    assert len({alpha.tobytes() for alpha in drawn}) == 8
