"""Fine structure of images, and what several of them share of it.

Scenes differ where a mark does not. Each detail is weighted by how calm its image is there, so that
in the mean the scenes cancel out and the mark stays.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from inference.maps import reduced

DETAIL_PX = 384  # longest side at which the parts of an image that are no detail are computed
COARSE_SIGMA = 1 / 32  # detail is what a blur this wide removes; fraction of the longest side
CALM_SIGMA = 1 / 64  # how far round a pixel calmness is measured
EXCESS_SIGMA_PX = 1.5  # over which the strength of the shared detail is averaged


@dataclass(frozen=True)
class Detail:
    """The fine structure of one image of H x W pixels."""

    values: np.ndarray  # float32, H x W x 3: grey levels against the blurred image
    weight: np.ndarray  # float32, H x W: one over the variance of the values round a pixel

    @property
    def standardised(self) -> np.ndarray:
        """float32, H x W x 3, in standard deviations."""
        return self.values * np.sqrt(self.weight)[..., None]


def detail_of(rgb: np.ndarray) -> Detail:
    """Detail of a uint8 RGB image of H x W pixels."""
    side, size = max(rgb.shape[:2]), rgb.shape[1::-1]
    zoom = min(1, DETAIL_PX / side)

    def smooth(array, sigma_fraction):
        small = cv2.GaussianBlur(
            reduced(array, zoom), (0, 0), max(0.5, sigma_fraction * side * zoom)
        )
        return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)

    values = rgb.astype(np.float32)
    values -= smooth(values, COARSE_SIGMA)
    variance = smooth(np.square(values).mean(2), CALM_SIGMA) + 1  # flat ground is not endless
    return Detail(values, 1 / variance)


class Pool:
    """The weighted sum of details; they can be added and taken out."""

    def __init__(self, shape: tuple[int, int]):
        self.total = np.zeros((*shape, 3), np.float32)
        self.weight = np.zeros(shape, np.float32)

    def add(self, detail: Detail) -> None:
        """Adds the detail of an image."""
        self.total += detail.values * detail.weight[..., None]
        self.weight += detail.weight

    def without(self, detail: Detail) -> "Pool":
        """A pool of all images but one that had been added."""
        rest = Pool(self.weight.shape)
        rest.total = self.total - detail.values * detail.weight[..., None]
        rest.weight = np.maximum(self.weight - detail.weight, 1e-9)
        return rest

    @property
    def mean(self) -> Detail:
        """What the images share, with the weight that their number gives it."""
        return Detail(self.total / self.weight[..., None], self.weight)

    def excess(self) -> np.ndarray:
        """float32, H x W: by how much the squared shared detail exceeds chance; 1: it does not."""
        squared = np.square(self.mean.standardised).mean(2)
        return cv2.GaussianBlur(squared, (0, 0), EXCESS_SIGMA_PX)

    def picture(self, contrast: float) -> np.ndarray:
        """uint8, H x W x 3, RGB: the shared detail on grey, `contrast` levels for each sigma."""
        return np.clip(128 + contrast * self.mean.standardised, 0, 255).astype(np.uint8)
