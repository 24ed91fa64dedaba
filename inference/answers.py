"""The network's answers to photos, kept for a while: masks are decided anew without it."""

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from inference.pictures import mask_bytes, overlay, shrunk
from inference.reading import DECODE_ERRORS, open_photo, read_image
from inference.segmenter import Segmentation, Segmenter, check_limits, decide

PREVIEW_PX = 1280  # longest side of the photo that is kept
MAX_PIXELS = 50_000_000  # of one photo, which takes some 18 bytes a pixel while it is looked at
KEPT_BYTES = 300_000_000  # of all answers together, at 4 bytes a pixel


@dataclass(frozen=True)
class Answer:
    """What the network says of one photo of H x W pixels."""

    photo: np.ndarray  # uint8, h x w x 3, RGB, at most PREVIEW_PX long
    probability: np.ndarray  # float32, H x W, 0..1
    score: float  # 0..1

    @property
    def bytes(self) -> int:
        return self.photo.nbytes + self.probability.nbytes

    def overlay(self, mask: np.ndarray) -> np.ndarray:
        """The photo, of the size that is kept, with a mask (bool, H x W) in red."""
        return overlay(self.photo, shrunk(mask_bytes(mask), PREVIEW_PX) >= 128)

    def probability_picture(self) -> np.ndarray:
        """uint8, h x w: the probability times 255."""
        return np.rint(shrunk(self.probability, PREVIEW_PX) * 255).astype(np.uint8)


class Answers:
    """Asks the network about photos and keeps the latest answers, within a bound of memory.

    The network runs in one thread: OpenVINO keeps memory for every thread that it has served.
    """

    def __init__(self, segmenter: Segmenter, limit: int = KEPT_BYTES):
        """
        Args:
            limit: bytes of all answers together; the latest one is kept in any case.
        """
        self.segmenter, self.limit = segmenter, limit
        self.kept: OrderedDict[str, Answer] = OrderedDict()
        self.lock, self.thread = threading.Lock(), ThreadPoolExecutor(1)

    def run(self, function, *arguments):
        """function(segmenter, *arguments), in the network's thread."""
        return self.thread.submit(function, self.segmenter, *arguments).result()

    def ask(self, path: str) -> None:
        """Keeps the network's answer to a photo under its path, unless it is there already.

        Raises:
            FileNotFoundError, ValueError: the photo cannot be used; see `check_photo`.
        """
        with self.lock:
            if path in self.kept:
                self.kept.move_to_end(path)
                return
        self._make_room(np.dtype(np.float32).itemsize * check_photo(path))
        answer = self.run(_answer, path)
        with self.lock:
            self.kept[path] = answer

    def _make_room(self, needed: int) -> None:
        """Forgets the oldest answers, so that one of so many bytes fits."""
        with self.lock:
            while self.kept and sum(a.bytes for a in self.kept.values()) + needed > self.limit:
                self.kept.popitem(last=False)

    def decide(
        self, path: str, threshold: float, dilation_px: int, min_score: float
    ) -> tuple[Answer, Segmentation]:
        """A kept answer and what is marked by these settings; see `Segmenter.segment`.

        Raises:
            ValueError: an argument is off, or the answer is no longer kept.
        """
        check_limits(threshold, dilation_px, min_score)
        answer, limits = self.get(path), (threshold, dilation_px, min_score)
        return answer, decide(answer.probability, answer.score, *limits)

    def get(self, path: str) -> Answer:
        """A kept answer; ValueError if it is no longer kept."""
        with self.lock:
            answer = self.kept.get(path)
        if answer is None:
            raise ValueError(
                "The answer to this photo is no longer in memory. Choose the photo again."
            )
        return answer


def _answer(segmenter: Segmenter, path: str) -> Answer:
    rgb = read_image(path)
    found = segmenter.segment(rgb)
    return Answer(shrunk(rgb, PREVIEW_PX), found.probability, found.score)


def check_photo(path) -> int:
    """How many pixels a photo has, from its header; what is broken behind it, `read_image` finds.

    Raises:
        FileNotFoundError, ValueError: there is no such photo, or it has more than MAX_PIXELS.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is no longer there. Choose the file again.")
    if not path.stat().st_size:
        raise ValueError(f"{path.name} is empty: it has 0 bytes. Choose a photo.")
    try:
        with open_photo(path) as image:
            pixels = image.width * image.height
    except Image.DecompressionBombError:  # above Pillow's own limit
        pixels = MAX_PIXELS + 1
    except DECODE_ERRORS:
        raise ValueError(
            f"{path.name} is no image that can be read. Choose a photo: JPEG, PNG, WebP, TIFF, "
            "HEIC, AVIF, GIF or BMP."
        ) from None
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"{path.name} has more than {MAX_PIXELS // 1_000_000} megapixels, the most that fits "
            "into memory beside other requests. Choose a smaller photo, or use segment.py."
        )
    return pixels
