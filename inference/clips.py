"""Reads single frames of a clip.

OpenCV, whose wheel includes FFmpeg, reads videos and applies the rotation that the file gives.
Pillow reads animated GIF and WebP. Memory does not grow with the length of a clip.
"""

import itertools
import os
from pathlib import Path

# FFmpeg and OpenCV print much about a damaged clip. `damage` and the errors name the problem.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from PIL import Image

from inference.maps import reduced
from inference.reading import DECODE_ERRORS, read_image

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)

STILL_SUFFIXES = (".gif", ".webp")  # images have these, too
VIDEO_SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm", *STILL_SUFFIXES)
LARGEST_PX = 2048  # longest side of a frame; larger frames are reduced
NEAR_FRAMES = 60  # decode at most so many frames to reach one ahead; beyond that, seek


def is_clip(path) -> bool:
    """Whether the suffix is that of a video. A GIF or WebP is a clip if it has several frames."""
    suffix = Path(path).suffix.lower()
    if suffix not in STILL_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    try:
        with Image.open(path, formats=("GIF", "WEBP")) as image:
            return image.is_animated
    except (*DECODE_ERRORS, IndexError):  # GIF raises IndexError
        return False


def open_clip(path) -> "Film | Animation":
    """Opens a clip.

    Raises:
        FileNotFoundError, ValueError: the file is missing or cannot be read.
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
    """A video of `count` frames: of its header, or counted. `shape` is (height, width)."""

    def __init__(self, path: Path):
        self.path, self.damage, self.shape = path, None, None
        self._open()
        self.fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = self.fps if 0 < self.fps < 1000 else 25.0
        self.count = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.can_seek = self.count > 0
        if not self.can_seek:  # live recordings, whose header has no length
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
        """Seconds and picture (uint8, RGB, at most LARGEST_PX) of a frame; None if it is broken."""
        if number < self.next and (number <= NEAR_FRAMES or not self.can_seek):
            self._open()  # a clip of one frame cannot seek back
        elif not 0 <= number - self.next <= NEAR_FRAMES and self.can_seek:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, number)
            self.next = number
        while self.next < number and self.capture.grab():
            self.next += 1
        sound, bgr = self.capture.read()
        self.next = number + 1 if sound else np.inf  # makes the next call seek
        if not sound:
            return None
        self.shape = self.shape or bgr.shape[:2]
        if bgr.shape[:2] != self.shape:  # some streams change their size
            bgr = cv2.resize(bgr, self.shape[::-1], interpolation=cv2.INTER_AREA)
        rgb = cv2.cvtColor(reduced(bgr, min(1, LARGEST_PX / max(self.shape))), cv2.COLOR_BGR2RGB)
        return self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, rgb


class Animation:
    """An animated GIF or WebP, with the same attributes as `Film`."""

    def __init__(self, path: Path, image: Image.Image):
        self.path, self.damage, self.image = path, None, image
        self.shape, starts_ms = image.size[::-1], [0]
        for number in itertools.count():
            try:
                image.seek(number)
                image.load()
            except EOFError:
                break  # past the last frame
            except (*DECODE_ERRORS, IndexError):  # GIF raises IndexError
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
