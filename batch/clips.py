"""Segments a clip of a batch: one mask for the clip, and masks of its frames where needed."""

import os
import time

from batch.rows import result_columns
from inference.pictures import encode, mask_bytes
from inference.video import segment_frames, segment_video

CLIP_COLUMNS = ("frames", "seen", "masks", "damage")  # columns of clips beside those of images


def segment_clip(path: str, name: str, segmenter, options) -> tuple[dict, dict[str, bytes]]:
    """The record of a clip, and its output files as a dict from name to content.

    Args:
        name: of the outputs, without ending. Masks of frames are NAME.frames/NUMBER.png.
        options: a `run.Options`.

    Raises:
        OSError, ValueError: see `segment_video`.
    """
    os.stat(path)  # raises an OSError that says why the file cannot be read
    start_s, files = time.monotonic(), {}
    limits = options.threshold, options.dilate, options.min_score
    result = segment_video(segmenter, path, options.frames, *limits)
    frames = result.each
    if options.every is not None:
        frames = segment_frames(segmenter, path, options.every, *limits)
    for frame in frames:
        files[f"{name}.frames/{frame.number:06d}.png"] = encode(mask_bytes(frame.mask), ".png")
    frames_folder = f"{name}.frames" if files else None
    files |= options.draw(name, result, result.picture)
    record = {"path": path, "mask": name + ".png", **result_columns(result, options.rle)}
    record |= {
        "shared": round(result.shared, 4), "frames": result.frames,
        "seen": result.seen_s and [round(seconds, 2) for seconds in result.seen_s],
        "masks": frames_folder, "damage": result.damage,
        "seconds": round(time.monotonic() - start_s, 3),
    }  # fmt: skip
    return record, files
