"""Runs the network on the images of samples; used for folders and for shards.

Threads decode photos while the network works on others. The caller decides what to do with the
result of a sample.
"""

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

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

CHUNK_IMAGES = 8  # images that are processed together, so that a GPU gets many views at once
CHUNK_PIXELS = 16_000_000  # of the decoded images of a chunk; a larger image is processed alone
CHUNK_BYTES = 32_000_000  # of the encoded images of a chunk
BYTES_AT_ONCE = 128_000_000  # of the encoded images of all chunks in work


@dataclass(frozen=True)
class Sample:
    """One image, or several that belong together."""

    images: list[str | bytes | Exception]  # each a path, encoded bytes, or why there is no image
    origin: object = field(default=None, repr=False)  # what the caller needs to know of the sample
    bytes: int = 0  # size in memory


@dataclass(frozen=True)
class Prediction:
    """The network's result for one image of H x W pixels."""

    rgb: np.ndarray  # uint8, H x W x 3
    probability: np.ndarray  # float32, H x W, 0..1
    score: float  # 0..1
    seconds: float  # computing time


Results = list[Prediction | Exception]  # one for each image of a sample


def predict_samples(
    samples: Iterable[Sample],
    segmenter: Segmenter,
    threads: int,
    finish: Callable[[Sample, Results], object],
    fast: bool,
    allow_huge: bool = False,
) -> Iterator:
    """The values of finish(sample, results), in the order of the samples.

    Args:
        threads: number of threads that use the network at the same time.
        finish: called in several threads at the same time.
        fast: use one view of each image.
        allow_huge: also open images above Pillow's limit.
    """
    budget = Budget(PIXELS_AT_ONCE)
    most = 1 if segmenter.one_core_each else CHUNK_IMAGES

    def process(chunk: list[Sample]) -> list:
        images = [image for sample in chunk for image in sample.images]
        results = predict_images(images, partial(predict_photos, predict, fast), budget, allow_huge)
        return [finish(s, list(islice(results, len(s.images)))) for s in chunk]

    def share_of_chunk(sample: Sample) -> float:
        return max(len(sample.images) / most, sample.bytes / CHUNK_BYTES)

    def bytes_of(chunk: list[Sample]) -> float:
        return max(BYTES_AT_ONCE / (4 * threads), sum(sample.bytes for sample in chunk))

    # One thread more than the network serves: it decodes or writes in the meantime. The network
    # stops before the pool, so that after an interrupt no thread continues with its image.
    with cancelling_pool(threads + 1) as pool, shared_network(segmenter, threads) as predict:
        chunks_of_samples = chunks(samples, share_of_chunk, 1)
        for done in in_order(pool, process, chunks_of_samples, BYTES_AT_ONCE, bytes_of):
            yield from done


def chunks(items: Iterable, weigh: Callable, limit: float) -> Iterator[list]:
    """Consecutive items, with a total weight up to the limit. A heavier item is alone."""
    chunk, total = [], 0
    for item in items:
        weight = weigh(item)
        if chunk and total + weight > limit:
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += weight
    if chunk:
        yield chunk


def predict_images(
    images: list, predict: Callable, budget: Budget, allow_huge: bool
) -> Iterator[Prediction | Exception]:
    """The result for each image, or the exception that it caused.

    Args:
        images: see `Sample.images`.
        predict: list of decoded photos to a list of (probability, score).
    """
    opened = [_attempt(open_image, image, allow_huge) for image in images]
    for chunk in chunks(opened, pixels_of, CHUNK_PIXELS):
        with budget.hold(sum(map(pixels_of, chunk))):
            start_s = time.monotonic()
            photos = [_attempt(decode, image) for image in chunk]
            sound = [photo for photo in photos if not isinstance(photo, Exception)]
            answers = _attempt(predict, sound)
            if isinstance(answers, Exception):
                answers = [answers] * len(sound)
            answers, seconds = iter(answers), (time.monotonic() - start_s) / len(chunk)
            for photo in photos:
                answer = photo if isinstance(photo, Exception) else next(answers)
                failed = isinstance(answer, Exception)
                yield answer if failed else Prediction(photo, *answer, seconds)


def _attempt(function, value, *more):
    """What the function returns or raises. If the value is an exception, returns the value."""
    try:
        return value if isinstance(value, Exception) else function(value, *more)
    except Stopped:
        raise
    except Exception as error:  # for damaged files Pillow's plugins raise exceptions of any type
        return error


def open_image(source: str | bytes, allow_huge: bool = False) -> Image.Image:
    """Opens a path or encoded bytes as a PIL image. Reads only the header.

    Raises:
        OSError: the file cannot be read; `errno` is set.
        ValueError: it is not an image.
    """
    if isinstance(source, str) and not os.path.isfile(source):
        os.stat(source)  # raises an OSError that says why
        raise ValueError("is not a file")
    if not (os.path.getsize(source) if isinstance(source, str) else source):
        raise ValueError("is empty")
    file = source if isinstance(source, str) else io.BytesIO(source)
    try:
        return open_photo(file)
    except Image.DecompressionBombError as error:
        if allow_huge:
            return open_huge(file)
        raise ValueError(f"{error} To open it, use segment.py --allow-huge.") from error
    except OSError as error:
        if error.errno:
            raise
        raise ValueError("is not an image that Pillow can read") from error


def open_huge(path: str) -> Image.Image:
    """`open_photo` without Pillow's size limit, which can only be set for all threads together."""
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
    """Whether an error from `predict_images` means that the file itself could not be read."""
    reasons = error, error.__cause__
    return any(isinstance(reason, OSError) and reason.errno for reason in reasons)


def pixels_of(opened: Image.Image | Exception) -> int:
    return 0 if isinstance(opened, Exception) else opened.width * opened.height


def predict_photos(
    predict: Predict, fast: bool, photos: list[np.ndarray]
) -> list[tuple[np.ndarray, float]]:
    """`predict_any_size` of each photo. The views of all small photos go to the network together.

    Args:
        fast: use one view of each photo.
        photos: uint8, H x W x 3, RGB.
    """
    views_of = [native_views(photo, fast) for photo in photos]
    views = [*chain.from_iterable(views_of)]
    order = sorted(range(len(views)), key=lambda number: views[number].shape)  # for batches
    answers = dict(zip(order, predict([views[number] for number in order])))
    in_turn = (answers[number] for number in range(len(views)))
    return [
        judge_views(rgb, [*islice(in_turn, len(own))]) if own else predict_any_size(predict, rgb)
        for rgb, own in zip(photos, views_of)
    ]
