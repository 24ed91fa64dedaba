"""What happens to a photo before a mark lies on it, and to the picture afterwards.

Images are uint8, H x W x 3, RGB.
"""

from random import Random

import cv2
import numpy as np

from inference.segmenter import recompressed, reduced

Crop = tuple[float, float, float]  # side, x, y: fractions of what is possible


def draw_crop(crop_range, rng: Random) -> Crop:
    """Which square of a photo to take; see `crop_photo`."""
    return rng.uniform(*crop_range), rng.random(), rng.random()


def crop_photo(photo: np.ndarray, crop, flip: bool, size: int) -> np.ndarray:
    """A square of the photo at the training size, before any mark lies on it.

    Beyond its edges the photo is mirrored. Reduced so far, it has lost its JPEG's blocks.
    """
    side = max(1, round(crop[0] * min(photo.shape[:2])))
    photo = _mirrored(photo, side, crop)
    height, width = photo.shape[:2]
    x, y = round(crop[1] * (width - side)), round(crop[2] * (height - side))
    square = photo[y : y + side, x : x + side]
    # Averaging matters only where pixels would be skipped, and costs five times as much.
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


def photo_square(params, photo: np.ndarray, size: int, second: np.ndarray | None) -> np.ndarray:
    """What `drawing.SCENE` says, size x size px."""
    square = crop_photo(reduced(photo, params.reduce), params.crop, params.flip, size)
    if params.exposure:
        share, second = params.exposure.share, reduced(second, params.reduce)
        other = crop_photo(second, params.exposure.crop, not params.flip, size)
        square = cv2.addWeighted(square, 1 - share, other, share, 0)
    return toned(square, params.contrast, params.gamma)


def toned(image: np.ndarray, contrast: float, gamma: float) -> np.ndarray:
    """The image with another tone curve: a gamma, then so much contrast about the middle grey."""
    if contrast == gamma == 1:
        return image
    levels = ((np.arange(256) / 255) ** gamma - 0.5) * contrast + 0.5
    return cv2.LUT(image, np.uint8(np.clip(levels, 0, 1) * 255 + 0.5))


def degrade(image: np.ndarray, params) -> np.ndarray:
    """What happens to a picture on its way through the web, as `drawing.SampleParams` say."""
    size = image.shape[1::-1]
    if params.enlarge > 1:
        image = reduced(image, 1 / params.enlarge)
    if params.downscale < 1:
        small = cv2.resize(image, None, fx=params.downscale, fy=params.downscale,
                           interpolation=cv2.INTER_AREA)  # fmt: skip
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
    return image
