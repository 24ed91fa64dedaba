"""A video is many images with one mark: `segment_video`, and `segment_frames` for a mask of each.

The mark stands still while the scene moves. So frames spread over the clip are decided together,
see `pooling`, and their mean is one mask for all. Where frames show marks that this mask does not
cover, the mark jumps from place to place, and each frame has a mask of its own.

`clips` reads the frames. Only the sampled ones are held.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from inference.clips import Animation, Film, open_clip
from inference.maps import logit, resized, sigmoid
from inference.pooling import MIN_CONFIDENCE, find_shared, predict_together, spread
from inference.segmenter import (
    LEAST_SCORE,
    MIN_SCORE,
    THRESHOLD,
    Segmentation,
    check_limits,
    decide,
)

FRAMES = 32  # sampled by default
MAX_FRAMES = 256  # all are held in memory, at most 12 MB each
LATE_FRAMES = 2  # the last ones, which headers may count although there are none
MIN_OVERLAP = 0.3  # IoU with the common mask, from which a frame shows the common mark
JUMPING = 0.25  # share of frames with a mark elsewhere, from which each has its own mask
THUMBNAIL_PX = 24  # side at which frames are compared


@dataclass(frozen=True)
class Frame:
    """One sampled frame of H x W pixels."""

    number: int  # from 0
    seconds: float  # from the start of the clip
    mask: np.ndarray  # bool, H x W
    score: float  # 0..1: the frame carries a visible watermark
    coverage: float  # 0..1: share of the pixels in the mask
    shared: float  # 0..1: the frame carries the mark that the clip's frames share


@dataclass(frozen=True)
class VideoSegmentation(Segmentation):
    """What is found in a clip. Where the mark jumps, the mask is of all places together."""

    frames: int  # that were looked at
    shared: float  # 0..1: frames share a mark; 0 if none was found
    seen_s: tuple[float, float] | None  # first and last sampled frame with a mark; None: clean
    each: list[Frame]  # all sampled frames if the mark jumps; else empty
    picture: np.ndarray  # uint8, h x w x 3, RGB: a frame with the mark, at most LARGEST_PX
    damage: str | None  # a sentence on frames that cannot be read


def segment_video(
    segmenter,
    path,
    frames: int = FRAMES,
    threshold: float = THRESHOLD,
    dilation_px: int = 0,
    min_score: float = MIN_SCORE,
) -> VideoSegmentation:
    """The watermark of a clip.

    Args:
        segmenter: from `inference.load_segmenter`, or a `WatermarkSegmenter`.
        path: of a video, or of an animated GIF or WebP.
        frames: how many are looked at, 1..MAX_FRAMES, spread over the clip.
        threshold, dilation_px, min_score: as for `Segmenter.segment`.

    Returns:
        One mask in the frame's size, or a mask for each sampled frame if the mark jumps.

    Raises:
        FileNotFoundError, ValueError: no frame can be read, or an argument is off.
    """
    check_limits(threshold, dilation_px, min_score)
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"Got {frames} frames; give 1 to {MAX_FRAMES}.")
    clip = open_clip(path)
    sampled = _sample(clip, frames)
    with segmenter.predicting() as predict:
        shared = find_shared(predict, lambda n: sampled[n][2], spread(len(sampled)))
        looked, probability, score = _look(predict, sampled, shared, threshold, min_score)
    found = decide(resized(probability, clip.shape), score, threshold, dilation_px, min_score)
    marked, common = [f for f in looked if f.mask.any()], probability >= threshold
    elsewhere = [frame for frame in marked if _overlap(frame.mask, common) < MIN_OVERLAP]
    each = []
    if score >= min_score and len(elsewhere) >= JUMPING * len(looked):
        each = [_enlarged(frame, clip.shape, dilation_px) for frame in looked]
        mask = np.any([frame.mask for frame in each], 0)
        found = Segmentation(found.probability, mask, score, float(mask.mean()))
    elif shared:
        marked = [frame for frame in looked if frame.shared >= MIN_CONFIDENCE]
    seen_s = (marked[0].seconds, marked[-1].seconds) if found.mask.any() and marked else None
    confidence = shared.confidence if shared else 0.0
    pictures = {number: rgb for number, _, rgb in sampled}
    picture = pictures[(marked or looked)[len(marked) // 2].number]
    return VideoSegmentation(*vars(found).values(), len(looked), confidence, seen_s, each,
                             picture, clip.damage)  # fmt: skip


def _look(
    predict, sampled, shared, threshold: float, min_score: float
) -> tuple[list[Frame], np.ndarray, float]:
    """The frames; the mean probability and score of those that carry the mark if it is shared."""
    looked, scores, total = [], [], 0
    for n, (number, seconds, rgb) in enumerate(sampled):
        probability, score, confidence = predict_together(predict, rgb, shared, n)
        mask = decide(probability, score, threshold, 0, min_score).mask
        looked.append(Frame(number, seconds, mask, score, float(mask.mean()), confidence))
        if shared is None or confidence >= MIN_CONFIDENCE:
            total += logit(probability)
            scores.append(logit(np.float64(score), LEAST_SCORE))
    return looked, sigmoid(total / len(scores)), float(sigmoid(np.mean(scores)))


def segment_frames(
    segmenter,
    path,
    every_s: float,
    threshold: float = THRESHOLD,
    dilation_px: int = 0,
    min_score: float = MIN_SCORE,
) -> Iterator[Frame]:
    """A mask for a frame of every `every_s` seconds, one after the other; else `segment_video`.

    A mark that frames share is found first, in up to FRAMES of them. Frames that cannot be read
    are left out.
    """
    check_limits(threshold, dilation_px, min_score)
    if not every_s > 0:
        raise ValueError(f"Got a frame every {every_s} s; give more than 0.")
    clip = open_clip(path)
    sampled = _sample(clip, FRAMES)
    with segmenter.predicting() as predict:
        shared = find_shared(predict, lambda n: sampled[n][2], spread(len(sampled)))
        place = {number: n for n, (number, *_) in enumerate(sampled)}
        step = max(1.0, every_s * clip.fps)
        for number in np.arange(0, clip.count, step).round().astype(int).tolist():
            if (read := clip.read(number)) is None:
                continue
            found = predict_together(predict, read[1], shared, place.get(number, -1))
            mask = decide(*found[:2], threshold, 0, min_score).mask
            frame = Frame(number, read[0], mask, found[1], float(mask.mean()), found[2])
            yield _enlarged(frame, clip.shape, dilation_px)


def _sample(clip: Film | Animation, frames: int) -> list[tuple[int, float, np.ndarray]]:
    """Number, seconds and picture of frames spread over the clip, in order.

    Of two in each stretch of the clip the one less like the frame before: after a cut, if any.
    """
    edges = np.linspace(0, clip.count, min(frames, clip.count) + 1)
    chosen, last, missing = [], np.float32(128), []
    for start, end in itertools.pairwise(edges):
        best = None
        for number in sorted({int(0.75 * start + 0.25 * end), int(0.25 * start + 0.75 * end)}):
            if (read := clip.read(number)) is None:
                missing.append(number)
                continue
            small = cv2.resize(read[1], (THUMBNAIL_PX,) * 2, interpolation=cv2.INTER_AREA)
            difference = np.abs(small - np.float32(last)).mean()
            if best is None or difference > best[0]:
                best = difference, small, (number, *read)
        if best:
            last = best[1]
            chosen.append(best[2])
    if not chosen:
        raise ValueError(f"{clip.path} has no frame that can be decoded; it may be damaged.")
    missing = [number for number in missing if number < clip.count - LATE_FRAMES]
    if missing and not clip.damage:
        at_s = missing[0] / clip.fps
        clip.damage = f"{len(missing)} sampled frames cannot be read, the first at {at_s:.1f} s."
    return chosen


def _overlap(mask: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero(mask & other) / max(1, np.count_nonzero(mask | other))


def _enlarged(frame: Frame, shape: tuple[int, int], dilation_px: int) -> Frame:
    """A frame with its mask in the clip's own size, widened."""
    found = decide(resized(np.float32(frame.mask), shape), 1.0, 0.5, dilation_px, 0.0)
    return Frame(frame.number, frame.seconds, found.mask, frame.score, found.coverage, frame.shared)
