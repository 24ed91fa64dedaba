"""From trained weights and an image of any size to a mask."""

from inference.pooling import segment_together
from inference.runtime import load_segmenter

__all__ = ["load_segmenter", "segment_together"]
