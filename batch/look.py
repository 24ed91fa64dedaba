"""Samples of a source to what is found in them: the one way, of folders and of shards.

Threads open and decode photos while the network looks at others; what is made of a sample is up to
its caller.
"""

import io
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
from PIL import Image

from batch.parallel import (
    PIXELS_AT_ONCE,
    Budget,
    Stopped,
    cancelling_pool,
    in_order,
    shared_network,
)
from inference.reading import FORMATS, open_photo, read_image
from inference.segmenter import Predict, Segmenter, judge_views, native_views, predict_any_size

WINDOW = 8  # images that are in work together, so that a GPU sees many views at once
WINDOW_PIXELS = 16_000_000  # of these, decoded; a larger image is alone
WINDOW_BYTES = 32_000_000  # and encoded
BYTES_AT_ONCE = 128_000_000  # encoded, of all windows


@dataclass(frozen=True)
class Sample:
    """What belongs together in a source: one image, or several."""

    images: list[str | bytes | Exception]  # path, encoded bytes, or why there is none
    origin: object = field(default=None, repr=False)  # what its source knows of it
    bytes: int = 0  # that it holds


@dataclass(frozen=True)
class Found:
    """What the network says of one image of H x W pixels."""

    rgb: np.ndarray  # uint8, H x W x 3
    probability: np.ndarray  # float32, H x W, 0..1
    score: float  # 0..1
    seconds: float  # that it took


Results = list[Found | Exception]  # of the images of a sample


def look_at_all(
    samples: Iterable[Sample],
    segmenter: Segmenter,
    threads: int,
    finish: Callable[[Sample, Results], object],
    fast: bool,
    allow_huge: bool = False,
) -> Iterator:
    """finish(sample, results) of all samples, in their order.

    Args:
        threads: that the network serves at a time.
        finish: called by these threads, and once more when the network is done for a sample.
        fast: look at each image once.
        allow_huge: open images above Pillow's limit.
    """
    budget = Budget(PIXELS_AT_ONCE)

    def one(window: list[Sample]) -> list:
        images = [image for sample in window for image in sample.images]
        results = look_at(images, partial(predict_by_size, predict, fast), budget, allow_huge)
        return [finish(s, list(islice(results, len(s.images)))) for s in window]

    def share(sample: Sample) -> float:
        return max(len(sample.images) / most, sample.bytes / WINDOW_BYTES)

    def weigh(window: list[Sample]) -> float:
        return max(BYTES_AT_ONCE / (4 * threads), sum(sample.bytes for sample in window))

    most = 1 if segmenter.one_core_each else WINDOW
    # One thread more than the network can serve: it decodes or writes meanwhile. The network ends
    # first, so that after an interrupt no thread goes on with its image.
    with cancelling_pool(threads + 1) as pool, shared_network(segmenter, threads) as predict:
        for done in in_order(pool, one, runs(samples, share, 1), BYTES_AT_ONCE, weigh):
            yield from done


def runs(items: Iterable, weigh: Callable, limit: float) -> Iterator[list]:
    """The items in runs that weigh at most so much; a heavier one is alone."""
    run, total = [], 0
    for item in items:
        weight = weigh(item)
        if run and total + weight > limit:
            yield run
            run, total = [], 0
        run.append(item)
        total += weight
    if run:
        yield run


def look_at(images: list, answer: Callable, budget: Budget, allow_huge: bool) -> Iterator:
    """A `Found` of each image, or why there is none; `answer`: photos to what is found in them."""
    opened = [_tried(open_image, image, allow_huge) for image in images]
    for run in runs(opened, pixels_of, WINDOW_PIXELS):
        with budget.hold(sum(map(pixels_of, run))):
            start_s = time.monotonic()
            photos = [_tried(decode, image) for image in run]
            sound = [photo for photo in photos if not isinstance(photo, Exception)]
            answers = _tried(answer, sound)
            if isinstance(answers, Exception):
                answers = [answers] * len(sound)
            answers, seconds = iter(answers), (time.monotonic() - start_s) / len(run)
            for photo in photos:
                answer = photo if isinstance(photo, Exception) else next(answers)
                failed = isinstance(answer, Exception)
                yield answer if failed else Found(photo, *answer, seconds)


def _tried(function, value, *more):
    """What the function returns or raises; an exception as value is passed on."""
    try:
        return value if isinstance(value, Exception) else function(value, *more)
    except Stopped:
        raise
    except Exception as error:  # damaged files make Pillow's plugins raise anything
        return error


def open_image(source: str | bytes, allow_huge: bool = False) -> Image.Image:
    """An image, by path or encoded, of which the header is read.

    Raises:
        OSError: with its number, if the file cannot be read.
        ValueError: it is no image.
    """
    if isinstance(source, str) and not os.path.isfile(source):
        os.stat(source)  # says why
        raise ValueError("is no file")
    if not (os.path.getsize(source) if isinstance(source, str) else source):
        raise ValueError("is empty")
    file = source if isinstance(source, str) else io.BytesIO(source)
    try:
        return open_photo(file)
    except Image.DecompressionBombError as error:
        if allow_huge:
            return open_huge(file)
        raise ValueError(f"{error} segment.py --allow-huge opens it all the same.") from error
    except OSError as error:
        if error.errno:
            raise
        raise ValueError("is not an image that Pillow can read") from error


def open_huge(path: str) -> Image.Image:
    """`open_photo` without Pillow's limit, which it keeps for all threads together."""
    with open(path, "rb") as file:
        begin = file.read(16)
    for name in FORMATS:
        make, accepts = Image.OPEN.get(name, (None, None))
        if make and accepts(begin) is True:
            return make(path)
    raise ValueError("is not an image that Pillow can read")


def decode(image: Image.Image) -> np.ndarray:
    """See `reading.read_image`."""
    with image:
        return read_image(image)


def is_out_of_reach(error: Exception) -> bool:
    """Whether an image's file could not be read, whatever is in it: of what `look_at` yields."""
    reasons = error, error.__cause__
    return any(isinstance(reason, OSError) and reason.errno for reason in reasons)


def pixels_of(opened: Image.Image | Exception) -> int:
    return 0 if isinstance(opened, Exception) else opened.width * opened.height


def predict_by_size(
    predict: Predict, fast: bool, photos: list[np.ndarray]
) -> list[tuple[np.ndarray, float]]:
    """`predict_any_size` of each photo; those that are seen whole together, equal sizes in a row.

    Args:
        fast: see each photo once.
        photos: uint8, H x W x 3, RGB.
    """
    views = [(i, view) for i, photo in enumerate(photos) for view in native_views(photo, fast)]
    order = sorted(range(len(views)), key=lambda number: views[number][1].shape)
    answers = predict([views[number][1] for number in order]) if views else []
    answers = dict(zip(order, answers))
    found = defaultdict(list)
    for number, (i, _) in enumerate(views):
        found[i].append(answers[number])
    return [
        judge_views(photo, found[i]) if i in found else predict_any_size(predict, photo)
        for i, photo in enumerate(photos)
    ]
