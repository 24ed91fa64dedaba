"""Crops and edits photos before marks are drawn, and degrades the image afterwards.

Images are uint8, H x W x 3, RGB.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from inference.maps import reduced
from inference.segmenter import recompressed
from samples.bounds import rising
from samples.files import ImageFile

# Side / shorter side of the photo; x and y: 0 for the left or upper end, 1 for the right or lower.
Crop = tuple[float, float, float]


def shuffled_photo(place: int, weights: tuple[float, ...], seed) -> int:
    """Index of the photo at a place in an endless sequence of decks, each shuffled anew."""
    deck, card = divmod(place, max(1, round(sum(weights))))
    return _shuffle(weights, f"{seed} deck {deck}")[card]


@functools.lru_cache(maxsize=4)  # of training and validation
def _shuffle(weights: tuple[float, ...], seed: str) -> list[int]:
    """A shuffled deck: indices of photos, each as often as its weight.

    A photo of weight 2.5 comes two or three times. The deck is as long as the sum of the weights.
    """
    rng = np.random.default_rng(Random(seed).getrandbits(64))
    order = rng.permutation(len(weights))
    ends = np.cumsum(np.asarray(weights)[order])
    count = max(1, round(ends[-1]))
    points = (rng.random() + np.arange(count)) * ends[-1] / count
    numbers = order[np.searchsorted(ends, points, side="right").clip(max=len(order) - 1)]
    return rng.permutation(numbers).tolist()


@functools.lru_cache(maxsize=2)  # the next sample may show the same photo
def _read(photo: ImageFile, zoom: float) -> np.ndarray:
    return photo.read(zoom)


def draw_crop(crop_range, rng: Random) -> Crop:
    """A random square of a photo."""
    return rng.uniform(*crop_range), rng.random(), rng.random()


def crop_photo(photo: np.ndarray, crop, flip: bool, size: int) -> np.ndarray:
    """A square of the photo, resized to `size` x `size` pixels.

    Where the square is larger than the photo, the photo is mirrored at its edges.
    """
    side = max(1, round(crop[0] * min(photo.shape[:2])))
    photo = _mirrored(photo, side, crop)
    height, width = photo.shape[:2]
    x, y = round(crop[1] * (width - side)), round(crop[2] * (height - side))
    square = photo[y : y + side, x : x + side]
    # INTER_AREA is five times as slow. It is needed where INTER_LINEAR would skip pixels.
    method = cv2.INTER_AREA if side > 2 * size or crop[0] > 1 else cv2.INTER_LINEAR
    square = cv2.resize(square, (size, size), interpolation=method)
    return cv2.flip(square, 1) if flip else square


def _mirrored(photo: np.ndarray, side: int, crop) -> np.ndarray:
    """The photo, mirrored at its edges where it is shorter than `side`."""
    missing_y, missing_x = (max(0, side - length) for length in photo.shape[:2])
    if not missing_y and not missing_x:
        return photo
    left, top = round(crop[1] * missing_x), round(crop[2] * missing_y)
    borders = top, missing_y - top, left, missing_x - left
    return cv2.copyMakeBorder(photo, *borders, cv2.BORDER_REFLECT)


def draw_scene(params, photos: Sequence[ImageFile], size: int) -> np.ndarray:
    """The cropped and edited photo of a sample, `size` x `size` pixels; see `drawing.SCENE`."""
    photo = photos[params.photo]
    zoom = size / (params.crop[0] * photo.short_px * params.reduce)
    square = reduced(_read(photo, zoom), params.reduce)
    square = crop_photo(square, params.crop, params.flip, size)
    for edit in params.edits:
        square = EDITS[edit.name](square, edit.amount, Random(edit.seed))
    return square


# --- Edits of the photo, before marks are drawn ------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """The name and the random numbers of one edit."""

    name: str
    amount: float
    seed: int


def _by_level(image: np.ndarray, curve) -> np.ndarray:
    """The image after a function of the level, 0..1; results outside 0..1 are clipped."""
    levels = curve(np.arange(256) / 255)
    return cv2.LUT(image, np.uint8(np.clip(levels, 0, 1) * 255 + 0.5))


def edit_levels(image: np.ndarray, amount: float, rng: Random) -> np.ndarray:
    """Reduces each channel to `amount` levels, which gives flat areas as in a GIF."""
    steps = round(amount) - 1
    return _by_level(image, lambda level: np.rint(level * steps) / steps)


def edit_sharpness(image: np.ndarray, amount: float, rng: Random) -> np.ndarray:
    """Unsharp masking: adds `amount` times the difference between the image and its blur."""
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 2.0))
    return cv2.addWeighted(image, 1 + amount, blurred, -amount, 0)


def edit_noise(image: np.ndarray, amount: float, rng: Random) -> np.ndarray:
    """Adds noise of a sensor, different in each channel; `amount` is its standard deviation."""
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(image.shape, np.float32)
    return cv2.add(image, noise * amount, dtype=cv2.CV_8U)


def edit_bars(image: np.ndarray, amount: float, rng: Random) -> np.ndarray:
    """Draws bars on one, two or four sides; their width is `amount` of the side."""
    grey = (rng.randint(0, 255),) * 3
    color = rng.choice([(0, 0, 0), (255, 255, 255), grey, tuple(rng.choices(range(256), k=3))])
    image, width = image.copy(), max(1, round(amount * len(image)))
    top, bottom, left, right = image[:width], image[-width:], image[:, :width], image[:, -width:]
    sides = [(top, bottom), (left, right), (top, bottom, left, right), (top,), (bottom,)]
    for side in rng.choice(sides):
        side[:] = color
    return image


def edit_collage(image: np.ndarray, amount: float, rng: Random) -> np.ndarray:
    """Joins the image and a flipped copy, with a black or white gap of `amount` of the side."""
    result = image.copy()
    joined = result.swapaxes(0, 1) if rng.random() < 0.5 else result  # a view of `result`
    half, gap = len(joined) // 2, round(amount * len(joined))
    joined[half:] = np.flip(joined, rng.choice([0, 1, (0, 1)]))[: len(joined) - half].copy()
    joined[half : half + gap] = rng.choice([0, 255])
    return result


EDITS = {  # functions of (image, amount, rng); the setting `edits` has the range of the amount
    # Amounts above 1: more contrast, darker, brighter.
    "contrast": lambda image, by, rng: _by_level(image, lambda level: (level - 0.5) * by + 0.5),
    "gamma": lambda image, by, rng: _by_level(image, lambda level: level**by),
    "brightness": lambda image, by, rng: _by_level(image, lambda level: level * by),
    "levels": edit_levels, "sharpness": edit_sharpness, "noise": edit_noise, "bars": edit_bars,
    "collage": edit_collage,
}  # fmt: skip
EDIT_BOUNDS = dict(  # of the amounts
    contrast=rising(0, 100), gamma=rising(0.01, 100), brightness=rising(0, 100),
    levels=rising(2, 256), sharpness=rising(0, 100), noise=rising(0, 255), bars=rising(0, 0.5),
    collage=rising(0, 0.5),
)  # fmt: skip


# --- Degradation of the image, after marks are drawn -------------------------------------------


def degrade(image: np.ndarray, params) -> np.ndarray:
    """The image after the resizing, blur, noise and JPEG compression of a `SampleParams`."""
    size = image.shape[1::-1]
    if params.enlarge > 1:
        image = reduced(image, 1 / params.enlarge)
    if params.downscale < 1:
        small = reduced(image, params.downscale)
        image = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if params.blur_sigma_px:
        image = cv2.GaussianBlur(image, (0, 0), params.blur_sigma_px)
    if params.noise_std:
        rng = np.random.default_rng(params.noise_seed)
        noise = rng.standard_normal(image.shape[:2], dtype=np.float32) * params.noise_std
        image = cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)
    if params.jpeg_quality:
        image = recompressed(image, params.jpeg_quality)
    if params.enlarge > 1:
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return 255 - image if params.negative else image
