"""The fine detail of images, its mean over several images, and whether an image matches that mean.

A shared mark is at the same place in all images, but the scenes differ. At each pixel, images with
little variance nearby weigh more. In the mean the scenes cancel out and the mark stays.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from inference.maps import reduced

DETAIL_PX = 384  # longest side at which the blurs are computed
COARSE_SIGMA = 1 / 32  # blur that is subtracted to get the detail; fraction of the longest side
CALM_SIGMA = 1 / 64  # of the blur that averages the variance; fraction of the longest side
EXCESS_SIGMA_PX = 1.5  # of the blur that averages the strength of the mean
CONTRAST = 4  # grey levels in the picture of the mean for one standard deviation
MIN_AMPLITUDE = 0.25  # least share of the mark's strength in an image
MAX_AGREEMENT = 20.0  # of an image with the mark
SCENE_PX = 128  # side of the thumbnails by which scenes are compared
SCENE_CELLS = 16  # along each side of them
COMPARE_PX = 512  # longest side at which images are compared


@dataclass(frozen=True)
class Detail:
    """The fine detail of one image of H x W pixels, or the weighted mean of several."""

    values: np.ndarray  # float32, H x W x 3: grey levels above or below the blurred image
    weight: np.ndarray  # float32, H x W: 1 / variance of the values; for a mean, their sum

    @property
    def standardised(self) -> np.ndarray:
        """float32, H x W x 3: the values in standard deviations."""
        return self.values * np.sqrt(self.weight)[..., None]

    def excess(self) -> np.ndarray:
        """float32, H x W: the squared mean, divided by the value expected by chance."""
        squared = np.square(self.standardised).mean(2)
        return cv2.GaussianBlur(squared, (0, 0), EXCESS_SIGMA_PX)

    def picture(self) -> np.ndarray:
        """uint8, H x W x 3, RGB: the values on grey, CONTRAST levels per standard deviation."""
        return np.clip(128 + CONTRAST * self.standardised, 0, 255).astype(np.uint8)


def detail_of(rgb: np.ndarray) -> Detail:
    """The detail of a uint8 RGB image of H x W pixels."""
    side, size = max(rgb.shape[:2]), rgb.shape[1::-1]
    zoom = min(1, DETAIL_PX / side)

    def blur(array: np.ndarray, sigma_fraction: float) -> np.ndarray:
        sigma_px = max(0.5, sigma_fraction * side * zoom)
        small = cv2.GaussianBlur(reduced(array, zoom), (0, 0), sigma_px)
        return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)

    values = rgb.astype(np.float32)
    values -= blur(values, COARSE_SIGMA)
    # 1 keeps the weight of a flat area finite.
    variance = blur(np.square(values).mean(2), CALM_SIGMA) + 1
    return Detail(values, 1 / variance)


def mean_of(details: Iterable[Detail]) -> Detail:
    """The mean of one or more images of one size, each weighted by its weight."""
    total, weight = 0, 0
    for detail in details:
        total = total + detail.values * detail.weight[..., None]
        weight = weight + detail.weight
    return Detail(total / weight[..., None], weight)


def without(mean: Detail, detail: Detail) -> Detail:
    """The mean without one of its images."""
    weight = np.maximum(mean.weight - detail.weight, 1e-9)
    total = mean.values * mean.weight[..., None] - detail.values * detail.weight[..., None]
    return Detail(total / weight[..., None], weight)


# --- Comparing an image with the others ---------------------------------------------------------


def confidence_of(agreement_sigmas: float) -> float:
    """Probability that an image carries the mark, from its `agreement`. The prior is one half.

    Without the mark, agreement is normally distributed. With it, any value up to MAX_AGREEMENT is
    equally likely.
    """
    normal = np.exp(-0.5 * max(0.0, agreement_sigmas) ** 2) / np.sqrt(2 * np.pi)
    return float(1 / (1 + normal * MAX_AGREEMENT))


def agreement(detail: Detail, others: Detail, mask: np.ndarray) -> float:
    """How much better an image matches the others in place than shifted, in standard deviations.

    It is 0 if the image shows less than MIN_AMPLITUDE of the strength of the others, because such a
    match is chance.

    Args:
        detail: of the image.
        others: mean of other images.
        mask: bool, H x W: where the mark is.
    """
    near = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
    weight = (detail.weight * near)[..., None]
    expected = np.square(others.values) - 1 / others.weight[..., None]  # minus its noise
    if (weight * detail.values * others.values).sum() < MIN_AMPLITUDE * (weight * expected).sum():
        return 0.0
    zoom = min(1, COMPARE_PX / max(mask.shape))
    maps = (detail.standardised, others.standardised * near[..., None])
    maps = [reduced(m, zoom) for m in maps]
    one, other = (np.fft.rfft2(m, axes=(0, 1)) for m in maps)
    match = np.fft.irfft2((one * other.conj()).sum(2), maps[0].shape[:2])  # for every shift
    middle = np.median(match)
    sigma = 1.4826 * np.median(np.abs(match - middle))
    return float((match[0, 0] - middle) / max(sigma, 1e-9))  # [0, 0] is no shift


def scene_of(detail: Detail) -> np.ndarray:
    """A thumbnail of the detail in standard deviations: float32, SCENE_PX x SCENE_PX x 3."""
    return cv2.resize(detail.standardised, (SCENE_PX, SCENE_PX), interpolation=cv2.INTER_AREA)


def scene_likeness(scene: np.ndarray, others: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Correlation of a scene with each of several others outside the mark; 0 if unrelated.

    It is the median over SCENE_CELLS x SCENE_CELLS cells with much detail, so that a frame or a
    second mark does not count. It is 1 if no cell lies outside the mark.

    Args:
        scene, others: from `scene_of`; n x SCENE_PX x SCENE_PX x 3 of the others.
        mask: bool, H x W: where the mark is.
    """
    near = cv2.dilate(mask.view(np.uint8), np.ones((9, 9), np.uint8)).astype(np.float32)
    outside = cv2.resize(near, (SCENE_PX, SCENE_PX), interpolation=cv2.INTER_AREA) == 0
    one, others = (_cells(part * outside[..., None]) for part in (scene[None], others))
    power, other_power = (np.square(part).sum(2) for part in (one, others))
    open_cells = (_cells(outside[None, ..., None]).mean(2) > 0.25) & (power >= power.mean() / 5)
    if not open_cells.any():
        return np.ones(len(others))
    correlation = (one * others).sum(2) / np.sqrt(np.maximum(power * other_power, 1e-12))
    return np.median(correlation[:, open_cells[0]], 1)


def _cells(pictures: np.ndarray) -> np.ndarray:
    """n x SCENE_PX x SCENE_PX x c to n x cells x values of a cell."""
    n, side = len(pictures), SCENE_PX // SCENE_CELLS
    split = pictures.reshape(n, SCENE_CELLS, side, SCENE_CELLS, side, -1)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(n, SCENE_CELLS**2, -1)
