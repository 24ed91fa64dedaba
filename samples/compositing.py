"""Draws marks on a photo and makes the mask. To add a blend mode, add it to BLEND_MODES."""

import functools

import cv2
import numpy as np

from samples import IGNORE

VISIBLE_LEVELS = 5  # of 255: a change of this much in any channel counts as visible

BLEND_MODES = {  # functions of (base, color); arguments and result are float32 in 0..1
    "normal": lambda base, color: color,
    "multiply": lambda base, color: base * color,
    "screen": lambda base, color: base + color - base * color,
    "overlay": lambda b, c: np.where(b <= 0.5, 2 * b * c, 1 - 2 * (1 - b) * (1 - c)),
    "soft_light": lambda b, c: (1 - 2 * c) * b * b + 2 * c * b,  # Pegtop's formula
}


def composite(image: np.ndarray, layer: np.ndarray, opacity: float, blend_mode: str) -> np.ndarray:
    """The image with a layer on it: base + alpha * opacity * (blend(base, color) - base).

    Args:
        image: uint8, H x W x 3, RGB; stays unchanged.
        layer: the marks, uint8, H x W x 4, RGB premultiplied with alpha.
        opacity: 0..1.
        blend_mode: a name in BLEND_MODES.

    Returns:
        uint8, H x W x 3, RGB. Equal to `image` where the layer's alpha is 0.

    Source: W3C Compositing and Blending Level 1, section 5.
    """
    x, y, width, height = cv2.boundingRect(layer[..., 3])  # for speed: most marks are small
    if not width:
        return image
    window = slice(y, y + height), slice(x, x + width)
    result = image.copy()
    *layer_planes, alpha = cv2.split(layer[window])
    per_alpha = 1 / np.maximum(alpha, np.float32(1))  # avoids a division by 0
    strength = alpha * np.float32(opacity / 255)
    planes = []
    for base, premultiplied in zip(cv2.split(image[window]), layer_planes):
        base = base * np.float32(1 / 255)
        mixed = BLEND_MODES[blend_mode](base, np.minimum(premultiplied * per_alpha, 1))
        mixed = (np.clip(mixed, 0, 1) - base) * strength
        mixed += base
        mixed *= 255
        mixed += np.float32(0.5)  # in place: an eighth faster
        planes.append(mixed.astype(np.uint8))
    result[window] = cv2.merge(planes)
    return result


def honest_mask(before: np.ndarray, after: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """The mask of the marks, with IGNORE where a mark hardly shows.

    Args:
        before, after: the image without and with marks, before any degradation; uint8, H x W x 3.
        coverage: how much of each pixel the marks cover, before opacity; uint8, H x W, 0..255.

    Returns:
        uint8, H x W: 1 where marks cover at least half of the pixel and change some channel by at
        least VISIBLE_LEVELS; 0 where no mark was drawn; IGNORE elsewhere, such as at antialiased
        edges, in soft shadows, and where the mark has the colour of the photo.
    """
    change = functools.reduce(cv2.max, cv2.split(cv2.absdiff(before, after)))
    mask = np.multiply(coverage > 0, IGNORE, dtype=np.uint8)
    np.copyto(mask, 1, where=(coverage >= 128) & (change >= VISIBLE_LEVELS))
    return mask
