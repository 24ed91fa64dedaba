"""Arithmetic on images and probability maps."""

import cv2
import numpy as np


def logit(probability: np.ndarray, least: float = 1e-4) -> np.ndarray:
    """log(p / (1 - p)), with p kept between `least` and 1 - `least`."""
    odds = np.clip(probability, least, 1 - least)
    odds /= 1 - odds
    return np.log(odds)


def sigmoid(evidence: np.ndarray) -> np.ndarray:
    """The probability, 0..1, of a logit."""
    return 1 / (1 + np.exp(-evidence))


def reduced(image: np.ndarray, zoom: float) -> np.ndarray:
    """An image or map (uint8 or float32, H x W or H x W x 3) at `zoom` times its size."""
    if zoom == 1:
        return image
    size = [max(1, round(side * zoom)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def resized(probability: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map (float32, H x W) resized to (height, width); unchanged if it has that shape."""
    if probability.shape == shape:
        return probability
    smaller = probability.shape[0] < shape[0] or probability.shape[1] < shape[1]
    way = cv2.INTER_LINEAR if smaller else cv2.INTER_AREA
    return cv2.resize(probability, shape[::-1], interpolation=way)
