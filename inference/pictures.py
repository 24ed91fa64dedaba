"""Converts a segmentation to pictures, boxes and bytes."""

import cv2
import numpy as np

from inference.maps import reduced
from inference.segmenter import Segmentation

FEATHER_PX = 2  # sigma of the soft edge
OVERLAY_PX = 2048  # longest side of an overlay


def boxes_of(mask: np.ndarray) -> list[list[int]]:
    """[x, y, width, height] in px of each connected region of a bool mask, largest first."""
    stats = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)[2]
    regions = sorted(stats[1:].tolist(), key=lambda s: (-s[4], s[1], s[0]))
    return [region[:4] for region in regions]


def coco_rle(mask: np.ndarray) -> dict:
    """COCO's run-length encoding of a bool mask: {"size": [height, width], "counts": text}."""
    from pycocotools import mask as coco  # optional and slow to import

    rle = coco.encode(np.asfortranarray(mask.view(np.uint8)))
    return {"size": list(map(int, rle["size"])), "counts": rle["counts"].decode()}


def mask_bytes(mask: np.ndarray) -> np.ndarray:
    """A bool mask as uint8, H x W: 255 = mark, 0 = none."""
    return mask.view(np.uint8) * np.uint8(255)


def mask_picture(result: Segmentation, rgb: np.ndarray) -> np.ndarray:
    """See `mask_bytes`."""
    return mask_bytes(result.mask)


def soft_mask_picture(result: Segmentation, rgb: np.ndarray) -> np.ndarray:
    """The mask with an edge that falls from 255 to 0 over some FEATHER_PX pixels."""
    return cv2.GaussianBlur(mask_picture(result, rgb), (0, 0), FEATHER_PX)


def overlay_picture(result: Segmentation, rgb: np.ndarray) -> np.ndarray:
    """The image with the mask in red; its longest side is at most OVERLAY_PX."""
    mask = shrunk(mask_picture(result, rgb), OVERLAY_PX) >= 128
    return overlay(shrunk(rgb, OVERLAY_PX), mask)


def shrunk(picture: np.ndarray, longest: int) -> np.ndarray:
    """A picture, H x W or H x W x 3, reduced until no side is longer than `longest` px."""
    return reduced(picture, min(1, longest / max(picture.shape[:2])))


def probability_picture(result: Segmentation, rgb: np.ndarray) -> np.ndarray:
    """uint16, H x W: the probability times 65,535."""
    return np.rint(result.probability * np.float32(65535)).astype(np.uint16)


def encode(picture: np.ndarray, ending: str) -> bytes:
    """Encodes a grey or RGB picture in the format that the ending of a file name gives."""
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    return cv2.imencode(ending[ending.rindex(".") :], bgr)[1].tobytes()


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image (uint8, H x W x 3, RGB) with the mask (bool, H x W) in red."""
    return np.where(mask[..., None], image // 3 + np.uint8([170, 0, 0]), image)
