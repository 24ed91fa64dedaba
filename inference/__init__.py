"""Runs a network on an image of any size: reading, tiling, devices, weights, what computes."""

from inference.pooling import segment_together
from inference.runtime import load_segmenter

__all__ = ["load_segmenter", "segment_together"]
