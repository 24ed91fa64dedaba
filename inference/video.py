"""Segments a clip: `segment_video` gives one mask, `segment_frames` a mask of each frame.

The mark stands still while the scene moves. So `pooling` segments frames spread over the clip
together, and their mean gives one mask for all. Where several scenes show marks that this mask
does not cover, the mark jumps from place to place, and each frame has a mask of its own.

`clips` reads the frames. Only the sampled ones are held.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from inference.clips import Animation, Film, open_clip
from inference.details import detail_of, scene_of
from inference.maps import logit, resized, sigmoid
from inference.pooling import (
    MIN_CONFIDENCE,
    SharedMark,
    find_shared,
    of_different_scenes,
    predict_together,
    spread,
)
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
LATE_FRAMES = 2  # headers may count so many frames too many
MIN_OVERLAP = 0.3  # least IoU with the common mask of a frame that shows the common mark
JUMPING = 0.25  # the mark jumps if it is elsewhere in this share of frames and of scenes


@dataclass(frozen=True)
class Frame:
    """One sampled frame of H x W pixels."""

    number: int  # from 0
    seconds: float  # from the start of the clip
    mask: np.ndarray  # bool, H x W
    score: float  # 0..1: the frame carries a visible watermark
    shared: float  # 0..1: the frame carries the mark that the clip's frames share


@dataclass(frozen=True)
class VideoSegmentation(Segmentation):
    """The result for a clip. If the mark jumps, the mask covers all of its places."""

    frames: int  # number of sampled frames
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
        frames: number of sampled frames, 1..MAX_FRAMES, spread over the clip.
        threshold, dilation_px, min_score: as for `Segmenter.segment`.

    Returns:
        One mask in the frame's size, or a mask for each sampled frame if the mark jumps.

    Raises:
        FileNotFoundError, ValueError: no frame can be read, or an argument is out of range.
    """
    check_limits(threshold, dilation_px, min_score)
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"Got {frames} frames; give 1 to {MAX_FRAMES}.")
    clip = open_clip(path)
    sampled, limits = _sample(clip, frames), (threshold, min_score)
    segmented, total, scores = [], 0, []
    with segmenter.predicting() as predict:
        shared = _find_shared(predict, sampled)
        for picture in sampled:
            frame, probability = _segment_frame(predict, shared, *picture, *limits)
            segmented.append(frame)
            if shared is None or frame.shared >= MIN_CONFIDENCE:
                total += logit(probability)
                scores.append(logit(np.float64(frame.score), LEAST_SCORE))
    probability, score = sigmoid(total / len(scores)), float(sigmoid(np.mean(scores)))
    result = decide(resized(probability, clip.shape), score, threshold, dilation_px, min_score)
    marked, common = [f for f in segmented if f.mask.any()], probability >= threshold
    elsewhere = [
        number for number, frame in enumerate(segmented)
        if frame.mask.any() and _overlap(frame.mask, common) < MIN_OVERLAP
    ]  # fmt: skip
    each = []
    if score >= min_score and _jumps(sampled, elsewhere):
        each = [_enlarged(frame, clip.shape, dilation_px) for frame in segmented]
        mask = np.any([frame.mask for frame in each], 0)
        result = Segmentation(result.probability, mask, score, float(mask.mean()))
    elif shared:
        marked = [frame for frame in segmented if frame.shared >= MIN_CONFIDENCE]
    seen_s = (marked[0].seconds, marked[-1].seconds) if result.mask.any() and marked else None
    confidence = shared.confidence if shared else 0.0
    pictures = {number: rgb for number, _, rgb in sampled}
    picture = pictures[(marked or segmented)[len(marked) // 2].number]
    return VideoSegmentation(*vars(result).values(), len(segmented), confidence, seen_s, each,
                             picture, clip.damage)  # fmt: skip


def segment_frames(
    segmenter,
    path,
    every_s: float,
    threshold: float = THRESHOLD,
    dilation_px: int = 0,
    min_score: float = MIN_SCORE,
) -> Iterator[Frame]:
    """Yields a mask for one frame every `every_s` seconds. Other arguments: see `segment_video`.

    It first searches up to FRAMES frames for a mark that they share. It skips frames that cannot be
    read.
    """
    check_limits(threshold, dilation_px, min_score)
    if not every_s > 0:
        raise ValueError(f"Got a frame every {every_s} s; give more than 0.")
    clip = open_clip(path)
    with segmenter.predicting() as predict:
        shared = _find_shared(predict, _sample(clip, FRAMES))
        step = max(1.0, every_s * clip.fps)
        for number in np.arange(0, clip.count, step).round().astype(int).tolist():
            if read := clip.read(number):
                frame, _ = _segment_frame(predict, shared, number, *read, threshold, min_score)
                yield _enlarged(frame, clip.shape, dilation_px)


def _find_shared(predict, sampled) -> SharedMark | None:
    return find_shared(predict, lambda n: sampled[n][2], spread(len(sampled)))


def _segment_frame(
    predict, shared, number: int, seconds: float, rgb, threshold: float, min_score: float
) -> tuple[Frame, np.ndarray]:
    """The result for one frame, and its probability map."""
    probability, score, confidence = predict_together(predict, rgb, shared)
    mask = decide(probability, score, threshold, 0, min_score).mask
    return Frame(number, seconds, mask, score, confidence), probability


def _sample(clip: Film | Animation, frames: int) -> list[tuple[int, float, np.ndarray]]:
    """Number, seconds and picture of frames spread evenly over the clip, in order."""
    n = min(frames, clip.count)
    numbers = ((np.arange(n) + 0.5) * clip.count / n).astype(int).tolist()
    read = {number: clip.read(number) for number in numbers}
    sampled = [(number, *frame) for number, frame in read.items() if frame]
    if not sampled:
        raise ValueError(f"{clip.path} has no frame that can be decoded; it may be damaged.")
    lost = [n for n in numbers if read[n] is None and n < clip.count - LATE_FRAMES]
    if lost and not clip.damage:
        at_s = lost[0] / clip.fps
        clip.damage = f"{len(lost)} sampled frames cannot be read, the first at {at_s:.1f} s."
    return sampled


def _jumps(sampled, elsewhere: list[int]) -> bool:
    """Whether the mark jumps. Print that is seen in one scene only does not count."""
    if len(elsewhere) < JUMPING * len(sampled):
        return False

    @functools.cache
    def read_scene(number: int) -> np.ndarray:
        return scene_of(detail_of(sampled[number][2]))

    nothing = np.zeros(sampled[0][2].shape[:2], bool)
    some, every = (
        len(of_different_scenes(read_scene, numbers, nothing))
        for numbers in (elsewhere, range(len(sampled)))
    )
    return some >= JUMPING * every


def _overlap(mask: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero(mask & other) / max(1, np.count_nonzero(mask | other))


def _enlarged(frame: Frame, shape: tuple[int, int], dilation_px: int) -> Frame:
    """The frame with its mask resized to the clip's size and dilated."""
    result = decide(resized(np.float32(frame.mask), shape), 1.0, 0.5, dilation_px, 0.0)
    return replace(frame, mask=result.mask)
