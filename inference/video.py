"""A video is many images with one mark: `segment_video`, and `segment_frames` for a mask of each.

The mark stands still while the scene moves. So frames spread over the clip are decided together,
see `pooling`, and their mean is one mask for all. Where frames show marks that this mask does not
cover, the mark jumps from place to place, and each frame has a mask of its own.

OpenCV reads the frames, with their rotation, and Pillow reads animated GIF and WebP. Only the
sampled frames are held.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Or FFmpeg writes pages on a damaged clip; `damage` and the errors say it in a sentence.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from PIL import Image

from inference.maps import logit, reduced, resized, sigmoid
from inference.pooling import MIN_CONFIDENCE, find_shared, predict_together, spread
from inference.reading import DECODE_ERRORS, read_image
from inference.segmenter import (
    LEAST_SCORE,
    MIN_SCORE,
    THRESHOLD,
    Segmentation,
    check_limits,
    decide,
)

STILL_SUFFIXES = (".gif", ".webp")  # also of images
VIDEO_SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm", *STILL_SUFFIXES)
FRAMES = 32  # sampled by default
MAX_FRAMES = 256  # all are held in memory, at most 12 MB each
LARGEST_PX = 2048  # longest side at which a frame is looked at
NEAR_FRAMES = 60  # up to so many are skipped by decoding, more by seeking
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


def is_clip(path) -> bool:
    """Whether a file is one, by its name; a GIF or WebP is a clip if it has several frames."""
    suffix = Path(path).suffix.lower()
    if suffix not in STILL_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    try:
        with Image.open(path, formats=("GIF", "WEBP")) as image:
            return image.is_animated
    except (*DECODE_ERRORS, IndexError):  # the latter of GIF
        return False


def _sample(clip, frames: int) -> list[tuple[int, float, np.ndarray]]:
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


def open_clip(path) -> "Film | Animation":
    """A clip whose frames can be read.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or nothing reads it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No video at {path}. Check the path.")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty: it has 0 bytes.")
    try:
        return Animation(path, Image.open(path, formats=("GIF", "WEBP")))
    except DECODE_ERRORS:
        return Film(path)


class Film:
    """A video. It has `count` frames, as far as its header tells, of height and width `shape`."""

    def __init__(self, path: Path):
        self.path, self.damage, self.shape = path, None, None
        self._open()
        self.fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = self.fps if 0 < self.fps < 1000 else 25.0
        self.count = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.can_seek = self.count > 0
        if not self.can_seek:  # live recordings: their header was written before they ended
            self.count = 0
            while self.capture.grab():
                self.count += 1
            self._open()
        if not self.count:
            raise ValueError(f"{path} has no frames: it lasts 0 s.")

    def _open(self) -> None:
        self.capture, self.next = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG), 0
        if not self.capture.isOpened():
            raise ValueError(
                f"{self.path} is no video that can be read: it is damaged, holds only sound, or "
                "its codec is unknown. If it plays elsewhere, convert it to H.264."
            )

    def read(self, number: int) -> tuple[float, np.ndarray] | None:
        """Seconds and picture (uint8, RGB, at most LARGEST_PX) of a frame; None: it is broken."""
        if self.can_seek and not 0 <= number - self.next <= NEAR_FRAMES:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, number)
            self.next = number
        elif number < self.next:
            self._open()
        while self.next < number and self.capture.grab():
            self.next += 1
        sound, bgr = self.capture.read()
        self.next = number + 1 if sound else np.inf  # seek anew
        if not sound:
            return None
        self.shape = self.shape or bgr.shape[:2]
        if bgr.shape[:2] != self.shape:  # some streams change their size
            bgr = cv2.resize(bgr, self.shape[::-1], interpolation=cv2.INTER_AREA)
        rgb = cv2.cvtColor(reduced(bgr, min(1, LARGEST_PX / max(self.shape))), cv2.COLOR_BGR2RGB)
        return self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, rgb


class Animation:
    """An animated GIF or WebP; as `Film`."""

    def __init__(self, path: Path, image: Image.Image):
        self.path, self.damage, self.image = path, None, image
        self.shape, starts_ms = image.size[::-1], [0]
        for number in itertools.count():
            try:
                image.seek(number)
                image.load()
            except EOFError:
                break  # behind the last
            except (*DECODE_ERRORS, IndexError):  # the latter of GIF
                self.damage = f"The frames from {starts_ms[-1] / 1000} s on cannot be read."
                break
            starts_ms.append(starts_ms[-1] + int(image.info.get("duration", 100)))
        self.count, self.starts_ms = len(starts_ms) - 1, starts_ms
        self.fps = 1000 * self.count / (starts_ms[-1] or 100 * self.count or 1)

    def read(self, number: int) -> tuple[float, np.ndarray]:
        """Seconds and picture of a frame."""
        self.image.seek(number)
        rgb = read_image(self.image)
        return self.starts_ms[number] / 1000, reduced(rgb, min(1, LARGEST_PX / max(self.shape)))
