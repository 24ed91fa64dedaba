"""Where the copies of a mark lie on a photo.

The table LAYOUTS names every alternative: a new one is a function, an entry, and a weight, a scale
and an angle in `dataset.WatermarkSettings`. Nothing here is random: `marks.MarkParams` says
everything.

A layout takes a stamp, one copy of a mark (uint8, h x w x 4, RGB premultiplied with alpha), and
gives a layer: the same for the whole photo. Positions are (x, y), angles counter-clockwise, shapes
(height, width).
"""

import itertools
import math
from dataclasses import replace

import cv2
import numpy as np

from inference.maps import reduced
from samples.marks import MarkParams, in_opposite, mean_rgb, over, tinted

Shape = tuple[int, int]  # of an image: height, width
BAND_RANGE = (0.05, 0.2)  # height of a band over the image's
LINE_WIDTH = 0.004  # of a lattice over the image's
BAND_ROOM = 1.4  # height of a band over that of the mark on it


def place(stamp: np.ndarray, center, rotation_deg: float, shape: Shape) -> np.ndarray:
    """One copy with its middle at `center` (fractions), turned; what is off the image is cut."""
    height, width = stamp.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rotation_deg, 1)
    matrix[:, 2] += (center[0] * shape[1] - width / 2, center[1] * shape[0] - height / 2)
    corners = np.array([[-1, -1, 1], [width, -1, 1], [-1, height, 1], [width, height, 1]])
    corners = corners @ matrix.T
    x, y = np.clip(np.floor(corners.min(0)), 0, (shape[1] - 1, shape[0] - 1)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)) + 1, (x + 1, y + 1), shape[::-1]).astype(int)
    matrix[:, 2] -= x, y  # only the window round the copy: most are small
    layer, size = np.zeros((*shape, 4), np.uint8), (int(right - x), int(bottom - y))
    layer[y:bottom, x:right] = cv2.warpAffine(stamp, matrix, size, flags=cv2.INTER_LINEAR)
    return layer


def single(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Anywhere, also partly off the image."""
    return place(stamp, mark.center, mark.rotation_deg, shape)


def turned_size(width: float, height: float, rotation_deg: float) -> tuple[float, float]:
    """Width and height of the upright box round a turned rectangle."""
    turn = math.radians(rotation_deg)
    cosine, sine = abs(math.cos(turn)), abs(math.sin(turn))
    return width * cosine + height * sine, width * sine + height * cosine


def inside(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Anywhere, but whole; in the middle along a side that is too short for it."""
    across, down = turned_size(stamp.shape[1], stamp.shape[0], mark.rotation_deg)
    halves = (min(0.5, across / 2 / shape[1]), min(0.5, down / 2 / shape[0]))
    middle = [half + at * (1 - 2 * half) for half, at in zip(halves, mark.center)]
    return place(stamp, middle, mark.rotation_deg, shape)


def corner(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """In the corner nearest to `mark.center`; the nearer to the edge, the smaller the margin."""
    middle = []
    lengths = turned_size(stamp.shape[1], stamp.shape[0], mark.rotation_deg)
    for length, side, at in zip(lengths, shape[::-1], mark.center):
        margin = 0.12 * min(at, 1 - at) + length / 2 / side
        middle.append(margin if at < 0.5 else 1 - margin)
    return place(stamp, middle, mark.rotation_deg, shape)


def centre(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Exactly in the middle."""
    return place(stamp, (0.5, 0.5), mark.rotation_deg, shape)


def lower_right(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Near the lower right corner, as generators of images label theirs."""
    near = tuple(0.6 + 0.4 * at for at in mark.center)  # `corner` takes its margins from it
    return corner(stamp, replace(mark, center=near), shape)


def edge(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Upwards or downwards along the nearer side of the image, whole."""
    x, y = mark.center
    near = (0.1 * x if x < 0.5 else 1 - 0.1 * (1 - x), y)
    upright_deg = 90 if y < 0.5 else -90
    turned = replace(mark, center=near, rotation_deg=upright_deg + mark.rotation_deg)
    return inside(stamp, turned, shape)


def diagonal(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Across the whole image, rising or falling with the side that `mark.center` lies on."""
    slope_deg = math.degrees(math.atan2(*shape))
    rotation_deg = (slope_deg if mark.center[0] < 0.5 else -slope_deg) + mark.rotation_deg
    return place(stamp, (0.5, 0.5), rotation_deg, shape)


def grid(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Copies in straight rows all over the image."""
    return _tile(_with_gap(stamp, mark.gap), mark, shape)


def brick(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Like `grid`, every other row shifted by half a copy."""
    return _tile(_two_rows(stamp, mark.gap), mark, shape)


def lattice(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Like `brick`, with thin lines from copy to copy, as on previews of stock photos."""
    cell = _two_rows(stamp, mark.gap)
    height, width = cell.shape[:2]
    alpha = np.zeros((height, width), np.uint8)
    middle = np.array((stamp.shape[1] / 2 - 0.5, stamp.shape[0] / 2 - 0.5))
    for start, slope in itertools.product((-1, 0, 1), (-1, 1)):  # what leaves the cell comes back
        ends = [middle + (width * (start + slope * way), height * way) for way in (-1, 1)]
        points = [tuple(map(int, np.rint(16 * end))) for end in ends]
        thickness = max(1, round(LINE_WIDTH * shape[1]))
        cv2.line(alpha, *points, 255, thickness, cv2.LINE_AA, shift=4)  # 1/16 px
    return _tile(over(cell, tinted(alpha, mean_rgb(stamp))), mark, shape)


def band(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """On a strip of the opposite brightness, at the top, at the bottom or across the image.

    The strip is opaque here and belongs to the mark: the mark's opacity lets the image through.
    """
    height, width = shape
    thickest, thinnest = (max(1, round(part * height)) for part in BAND_RANGE[::-1])
    stamp = reduced(stamp, min(1, thickest / BAND_ROOM / stamp.shape[0]))
    strip_px = int(np.clip(math.ceil(BAND_ROOM * stamp.shape[0]), thinnest, thickest))
    x, y = (min(1, max(0, 2 * at - 0.5)) for at in mark.center)  # half of all touch an edge
    strip = in_opposite(stamp, np.full((strip_px, width), 255, np.uint8))
    half = min(0.5, (stamp.shape[1] + strip_px / 2) / 2 / width)  # of the mark and its margin
    strip = over(place(stamp, (half + x * (1 - 2 * half), 0.5), 0, strip.shape[:2]), strip)
    top = round(y * (height - strip_px))
    return cv2.copyMakeBorder(strip, top, height - strip_px - top, 0, 0, cv2.BORDER_CONSTANT)


def _with_gap(stamp: np.ndarray, gap: float) -> np.ndarray:
    pixels = max(1, round(gap * max(stamp.shape)))
    return cv2.copyMakeBorder(stamp, 0, pixels, 0, pixels, cv2.BORDER_CONSTANT)


def _two_rows(stamp: np.ndarray, gap: float) -> np.ndarray:
    """Of copies with gaps, the second row shifted by half a copy."""
    row = _with_gap(stamp, gap)
    return np.vstack([row, np.roll(row, row.shape[1] // 2, axis=1)])


def _tile(cell: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Copies of the cell all over the image, turned and shifted."""
    height, width = shape
    reach = math.ceil(math.hypot(height, width))  # the diagonal: the corners stay covered
    shift = (mark.center[0] * cell.shape[1], mark.center[1] * cell.shape[0])
    rows, columns = (math.ceil(reach / side) + 1 for side in cell.shape[:2])
    matrix = cv2.getRotationMatrix2D((reach / 2, reach / 2), mark.rotation_deg, 1)
    matrix[:, 2] += ((width - reach) / 2, (height - reach) / 2) - matrix[:, :2] @ shift
    sheet = cv2.repeat(cell, rows, columns)
    return cv2.warpAffine(sheet, matrix, (width, height), flags=cv2.INTER_LINEAR)


LAYOUTS = {
    "single": single, "inside": inside, "corner": corner, "diagonal": diagonal, "grid": grid,
    "brick": brick, "centre": centre, "lower_right": lower_right, "band": band,
    "lattice": lattice, "edge": edge,
}  # fmt: skip
