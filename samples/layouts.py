"""Places the copies of a mark on a photo.

A layout is a function of a stamp, a `marks.MarkParams` and the shape of the photo. A stamp is one
copy of a mark: uint8, h x w x 4, RGB premultiplied with alpha. The result is a layer: the same for
the whole photo. Nothing here is random. To add a layout, see `dataset.py`.

Positions are (x, y), shapes (height, width). Positive angles turn counter-clockwise.
"""

import itertools
import math
from dataclasses import replace

import cv2
import numpy as np

from inference.maps import reduced
from samples.marks import MarkParams, in_opposite, mean_rgb, over, tinted

Shape = tuple[int, int]  # of an image: height, width
BAND_RANGE = (0.05, 0.2)  # lowest and greatest height of a band / height of the image
LINE_WIDTH = 0.004  # width of the lines of a lattice / width of the image
BAND_ROOM = 1.4  # height of a band / height of the mark on it


def place(stamp: np.ndarray, center, rotation_deg: float, shape: Shape) -> np.ndarray:
    """One rotated copy with its centre at `center` (fractions of the image), cut at the edges."""
    height, width = stamp.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rotation_deg, 1)
    matrix[:, 2] += (center[0] * shape[1] - width / 2, center[1] * shape[0] - height / 2)
    corners = np.array([[-1, -1, 1], [width, -1, 1], [-1, height, 1], [width, height, 1]])
    corners = corners @ matrix.T
    x, y = np.clip(np.floor(corners.min(0)), 0, (shape[1] - 1, shape[0] - 1)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)) + 1, (x + 1, y + 1), shape[::-1]).astype(int)
    matrix[:, 2] -= x, y  # for speed, warp only the window around the copy
    layer, size = np.zeros((*shape, 4), np.uint8), (int(right - x), int(bottom - y))
    layer[y:bottom, x:right] = cv2.warpAffine(stamp, matrix, size, flags=cv2.INTER_LINEAR)
    return layer


def single(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """One copy anywhere, also partly outside the image."""
    return place(stamp, mark.center, mark.rotation_deg, shape)


def turned_size(width: float, height: float, rotation_deg: float) -> tuple[float, float]:
    """Width and height of the upright box around a rotated rectangle."""
    turn = math.radians(rotation_deg)
    cosine, sine = abs(math.cos(turn)), abs(math.sin(turn))
    return width * cosine + height * sine, width * sine + height * cosine


def inside(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """One copy anywhere inside the image; centred along a side that is too short for it."""
    across, down = turned_size(stamp.shape[1], stamp.shape[0], mark.rotation_deg)
    halves = (min(0.5, across / 2 / shape[1]), min(0.5, down / 2 / shape[0]))
    middle = [half + at * (1 - 2 * half) for half, at in zip(halves, mark.center)]
    return place(stamp, middle, mark.rotation_deg, shape)


def corner(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """One copy in the corner nearest to `mark.center`, which also decides the margin."""
    middle = []
    lengths = turned_size(stamp.shape[1], stamp.shape[0], mark.rotation_deg)
    for length, side, at in zip(lengths, shape[::-1], mark.center):
        margin = 0.12 * min(at, 1 - at) + length / 2 / side
        middle.append(margin if at < 0.5 else 1 - margin)
    return place(stamp, middle, mark.rotation_deg, shape)


def centre(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """One copy exactly in the middle."""
    return place(stamp, (0.5, 0.5), mark.rotation_deg, shape)


def lower_right(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """One copy in the lower right corner, where image generators put their labels."""
    near = tuple(0.6 + 0.4 * at for at in mark.center)
    return corner(stamp, replace(mark, center=near), shape)


def edge(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """One copy that runs up or down along the nearer side of the image."""
    x, y = mark.center
    near = (0.1 * x if x < 0.5 else 1 - 0.1 * (1 - x), y)
    upright_deg = 90 if y < 0.5 else -90
    turned = replace(mark, center=near, rotation_deg=upright_deg + mark.rotation_deg)
    return inside(stamp, turned, shape)


def diagonal(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """One copy in the middle, parallel to one of the two diagonals of the image."""
    slope_deg = math.degrees(math.atan2(*shape))
    rotation_deg = (slope_deg if mark.center[0] < 0.5 else -slope_deg) + mark.rotation_deg
    return place(stamp, (0.5, 0.5), rotation_deg, shape)


def grid(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Copies in rows and columns all over the image."""
    return _tile(_with_gap(stamp, mark.gap), mark, shape)


def brick(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Like `grid`, with every other row shifted by half a copy."""
    return _tile(_two_rows(stamp, mark.gap), mark, shape)


def lattice(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Like `brick`, with thin lines between the copies, as on previews of stock photos."""
    cell = _two_rows(stamp, mark.gap)
    height, width = cell.shape[:2]
    alpha = np.zeros((height, width), np.uint8)
    middle = np.array((stamp.shape[1] / 2 - 0.5, stamp.shape[0] / 2 - 0.5))
    for start, slope in itertools.product((-1, 0, 1), (-1, 1)):  # also lines from the next cells
        ends = [middle + (width * (start + slope * way), height * way) for way in (-1, 1)]
        points = [tuple(map(int, np.rint(16 * end))) for end in ends]
        thickness = max(1, round(LINE_WIDTH * shape[1]))
        cv2.line(alpha, *points, 255, thickness, cv2.LINE_AA, shift=4)  # 1/16 px
    return _tile(over(cell, tinted(alpha, mean_rgb(stamp))), mark, shape)


def band(stamp: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """One copy on a horizontal strip of black or white, whichever contrasts with the mark.

    The strip belongs to the mark. It is opaque here, and gets the mark's opacity later.
    """
    height, width = shape
    thickest, thinnest = (max(1, round(part * height)) for part in BAND_RANGE[::-1])
    stamp = reduced(stamp, min(1, thickest / BAND_ROOM / stamp.shape[0]))
    strip_px = int(np.clip(math.ceil(BAND_ROOM * stamp.shape[0]), thinnest, thickest))
    x, y = (min(1, max(0, 2 * at - 0.5)) for at in mark.center)  # 0 or 1 half of the time
    strip = in_opposite(stamp, np.full((strip_px, width), 255, np.uint8))
    half = min(0.5, (stamp.shape[1] + strip_px / 2) / 2 / width)  # of the width with a margin
    strip = over(place(stamp, (half + x * (1 - 2 * half), 0.5), 0, strip.shape[:2]), strip)
    top = round(y * (height - strip_px))
    return cv2.copyMakeBorder(strip, top, height - strip_px - top, 0, 0, cv2.BORDER_CONSTANT)


def _with_gap(stamp: np.ndarray, gap: float) -> np.ndarray:
    pixels = max(1, round(gap * max(stamp.shape)))
    return cv2.copyMakeBorder(stamp, 0, pixels, 0, pixels, cv2.BORDER_CONSTANT)


def _two_rows(stamp: np.ndarray, gap: float) -> np.ndarray:
    """Two rows of one copy with its gap each. The second row is shifted by half a copy."""
    row = _with_gap(stamp, gap)
    return np.vstack([row, np.roll(row, row.shape[1] // 2, axis=1)])


def _tile(cell: np.ndarray, mark: MarkParams, shape: Shape) -> np.ndarray:
    """Copies of the cell all over the image, rotated and shifted."""
    height, width = shape
    reach = math.ceil(math.hypot(height, width))  # the diagonal, so that no corner stays empty
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
