"""Pictures for people: overlays, and rows of image, truth, probability and overlay."""

import io

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from inference.pictures import overlay
from samples import IGNORE

SHEET_PX = 320  # longest side of an image on a contact sheet
COLUMNS = ("image", "truth", "probability", "overlay")


def truth_picture(mask: np.ndarray) -> np.ndarray:
    """A truth of 0, 1 and IGNORE as uint8, H x W: black, white, and grey for undecidable."""
    return np.choose(np.where(mask == IGNORE, 2, mask), np.uint8([0, 255, 96]))


def four_columns(image: np.ndarray, truth: np.ndarray, found) -> list[np.ndarray]:
    """The pictures of COLUMNS; `found` is what `segment` returned for the image."""
    return [image, truth_picture(truth), found.probability, overlay(image, found.mask)]


def picture_grid(rows, titles, row_names=None, width: float = 8.0, dpi: int = 60) -> Figure:
    """Pictures in rows and columns; floats in 0..1 and bytes in 0..255 are drawn as grey levels.

    Args:
        rows: lists of H x W or H x W x 3 arrays, each as long as `titles`.
        titles: above the columns.
        row_names: to the left of the rows.
        width: of the figure, inches.
    """
    cell = width / len(titles)
    heights = [cell * max(p.shape[0] / p.shape[1] for p in row) for row in rows]
    figure, axes = plt.subplots(
        len(rows), len(titles), figsize=(width, sum(heights) + 0.3), dpi=dpi, squeeze=False,
        height_ratios=heights, layout="constrained",
    )  # fmt: skip
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=9)
    for axis, picture in zip(axes.flat, [picture for row in rows for picture in row]):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
        axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, name in zip(axes[:, 0], row_names or ()):
        axis.set_ylabel(name, fontsize=8)
    return figure


def contact_sheet(
    pictures, captions, columns: int = 6, width: float = 8.0, dpi: int = 72
) -> Figure:
    """Pictures (uint8, H x W x 3 or H x W), row by row in square cells, each below its caption."""
    rows, cell = -(-len(pictures) // columns), width / columns
    text = 0.1 + 0.15 * max(caption.count("\n") + 1 for caption in captions)  # height, inches
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, rows * (cell + text)), dpi=dpi, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, caption in zip(axes.flat, pictures, captions):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axis.set_title(caption, fontsize=8)
    return figure


def to_picture(figure: Figure, dpi: int = 110) -> Image.Image:
    """The figure as an RGBA picture; the figure is closed."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    plt.close(figure)
    return Image.open(data)
