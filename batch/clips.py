"""Clips among the images of a batch: a mask for all frames, sometimes one for each."""

import os
import time

from batch.rows import measures
from inference.pictures import encode, mask_bytes
from inference.video import segment_frames, segment_video

CLIP_COLUMNS = ("frames", "seen", "masks", "damage")  # of clips, beside those of images


def segment_clip(path: str, name: str, segmenter, options) -> tuple[dict, dict[str, bytes]]:
    """The record of a clip, and name to content of its files.

    Args:
        name: of its outputs, without ending; masks of frames are NAME.frames/NUMBER.png.
        options: a `run.Options`.

    Raises:
        OSError, ValueError: see `segment_video`.
    """
    os.stat(path)  # says why it cannot be read
    start_s, files = time.monotonic(), {}
    limits = options.threshold, options.dilate, options.min_score
    found = segment_video(segmenter, path, options.frames, *limits)
    frames = found.each
    if options.every is not None:
        frames = segment_frames(segmenter, path, options.every, *limits)
    for frame in frames:
        files[f"{name}.frames/{frame.number:06d}.png"] = encode(mask_bytes(frame.mask), ".png")
    each = f"{name}.frames" if files else None
    files |= options.draw(name, found, found.picture)
    record = {"path": path, "mask": name + ".png", **measures(found, options.rle)}
    record |= {
        "shared": round(found.shared, 4), "frames": found.frames,
        "seen": found.seen_s and [round(seconds, 2) for seconds in found.seen_s],
        "masks": each, "damage": found.damage, "seconds": round(time.monotonic() - start_s, 3),
    }  # fmt: skip
    return record, files
