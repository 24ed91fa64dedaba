"""Finds watermarks in images and clips with trained weights."""

from inference.pooling import segment_together
from inference.runtime import load_segmenter
from inference.video import segment_frames, segment_video

__all__ = ["load_segmenter", "segment_frames", "segment_together", "segment_video"]
