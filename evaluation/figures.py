"""Figures: grids of pictures, such as rows of image, truth, probability and overlay."""

import io

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from inference.pictures import overlay
from samples import IGNORE

COLUMNS = ("image", "truth", "probability", "overlay")


def truth_picture(mask: np.ndarray) -> np.ndarray:
    """A truth as uint8, H x W: black for 0, white for 1, grey for IGNORE."""
    return np.choose(np.where(mask == IGNORE, 2, mask), np.uint8([0, 255, 96]))


def four_columns(image: np.ndarray, truth: np.ndarray, result) -> list[np.ndarray]:
    """The pictures of COLUMNS for an image, its truth, and the result of `segment`."""
    return [image, truth_picture(truth), result.probability, overlay(image, result.mask)]


def picture_grid(rows, titles, row_names=None, width: float = 8.0, dpi: int = 60) -> Figure:
    """A figure with pictures in rows and columns.

    Args:
        rows: lists of H x W (grey) or H x W x 3 (RGB) arrays, uint8 in 0..255 or float in 0..1. The
            last list may be shorter.
        titles: a title for each column or for each picture.
        row_names: texts to the left of the rows.
        width: width of the figure in inches.
    """
    columns = len(rows[0])
    heights = [width / columns * max(p.shape[0] / p.shape[1] for p in row) for row in rows]
    lines = len(titles) / columns * (1 + max(title.count("\n") for title in titles))
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(width, sum(heights) + 0.15 + 0.15 * lines), dpi=dpi,
        squeeze=False, height_ratios=heights, layout="constrained",
    )  # fmt: skip
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, picture in zip(axes.flat, [picture for row in rows for picture in row]):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
    for axis, title in zip(axes.flat, titles):
        axis.set_title(title, fontsize=9)
    for axis, name in zip(axes[:, 0], row_names or ()):
        axis.set_ylabel(name, fontsize=8)
    return figure


def contact_sheet(pictures, captions, dpi: int) -> Figure:
    """A figure with six pictures (as in `picture_grid`) in each row, each with a caption above."""
    rows = [pictures[start : start + 6] for start in range(0, len(pictures), 6)]
    return picture_grid(rows, captions, dpi=dpi)


def to_picture(figure: Figure) -> Image.Image:
    """The figure as an RGBA picture. The figure is closed."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    plt.close(figure)
    return Image.open(data)
