"""Print that belongs to the scene: shirts, signs, cartons. It is no watermark.

A decoy lies in perspective, is lit as the photo is, and as sharp as what is around it. The truth
counts it as photo, so that a network learns the difference.
"""

from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from marks import MARKS, MarkParams, paint

DETAIL_PX = 256  # long side at most at which a decoy is drawn before it is laid into the scene
SIZES = (0.12, 0.5)  # mean width of a decoy over the image's
LIGHT = (0.35, 1.6)  # how dark and how bright the scene's light can make it
LIGHT_SIGMA = 0.06  # the light is the photo blurred by this fraction of its width


@dataclass(frozen=True)
class Decoy:
    """A logo or text, and where it lies in the scene."""

    mark: MarkParams  # its picture; layout, effect, opacity and blend mode have no part here
    corners: tuple[tuple[float, float], ...]  # (x, y): upper left, upper right, lower right, left
    opacity: float
    blur_sigma_px: float


def draw_decoy(mark: MarkParams, rng: Random) -> Decoy:
    """All other random numbers of a decoy: a plane that is turned and tilted in the scene."""
    half, turn = rng.uniform(*SIZES) / 2, rng.gauss(0, 0.25)
    middle = rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85)
    squeeze = rng.uniform(0.45, 0.9)  # seen from the side
    axes = ((squeeze, turn), (-turn, 1)) if rng.random() < 0.7 else ((1, turn), (-turn, squeeze))
    corners = []
    for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        reach = half * rng.uniform(0.75, 1.25)  # perspective: some corners are nearer
        corner = (mid + reach * (x * a + y * b) for mid, a, b in zip(middle, *axes))
        corners.append(tuple(corner))
    return Decoy(mark, tuple(corners), rng.uniform(0.85, 1.0), rng.uniform(0.4, 1.0))


def print_on_scene(photo: np.ndarray, decoy: Decoy) -> np.ndarray:
    """The photo with a decoy in it; uint8, H x W x 3, RGB; the given one is left untouched."""
    height, width = photo.shape[:2]
    corners = np.float32(decoy.corners) * np.float32((width, height))
    long_px = min(DETAIL_PX, max(8, float(np.ptp(corners, axis=0).max())))
    stamp = paint(MARKS[decoy.mark.kind](decoy.mark, long_px), decoy.mark)
    corners = _keep_shape(corners, stamp.shape[1] / stamp.shape[0])
    flat = np.float32([(0, 0), (1, 0), (1, 1), (0, 1)]) * np.float32(stamp.shape[1::-1])
    matrix = cv2.getPerspectiveTransform(flat, corners)
    rgba = cv2.warpPerspective(stamp, matrix, (width, height), flags=cv2.INTER_LINEAR)
    rgba = cv2.GaussianBlur(rgba, (0, 0), decoy.blur_sigma_px).astype(np.float32)
    lit = rgba[..., :3] * _light(photo)[..., None]
    rest = 1 - rgba[..., 3:] * (decoy.opacity / 255)
    return np.clip(np.rint(photo * rest + lit * decoy.opacity), 0, 255).astype(np.uint8)


def _keep_shape(corners: np.ndarray, ratio: float) -> np.ndarray:
    """The quad flattened or narrowed about its middle, so that its picture is not distorted."""
    middle = corners.mean(0)
    first, second, third, fourth = corners
    across, down = (second + third - first - fourth) / 4, (third + fourth - first - second) / 4
    axes = np.stack([across, down])
    shrink = np.float32((1, 1 / ratio) if ratio > 1 else (ratio, 1))
    along = (corners - middle) @ np.linalg.inv(axes)  # of each corner, in units of the axes
    return (middle + (along * shrink) @ axes).astype(np.float32)


def _light(photo: np.ndarray) -> np.ndarray:
    """How bright the photo is round each pixel, over its mean; float32, H x W, within LIGHT."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), max(1, LIGHT_SIGMA * photo.shape[1]))
    return np.clip(soft / max(1.0, float(grey.mean())), *LIGHT)
