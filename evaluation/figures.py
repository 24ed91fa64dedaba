"""Pictures for people: overlays, and rows of image, truth, probability and overlay."""

import io

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from inference.pictures import overlay
from samples import IGNORE

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
        rows: lists of H x W or H x W x 3 arrays; the last one may be shorter.
        titles: above the columns, or, if there are more, above each picture.
        row_names: to the left of the rows.
        width: of the figure, inches.
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


def contact_sheet(pictures, captions, columns: int = 6, dpi: int = 72) -> Figure:
    """Pictures (uint8, H x W x 3 or H x W), row by row, each below its caption."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    return picture_grid(rows, captions, dpi=dpi)


def to_picture(figure: Figure, dpi: int = 110) -> Image.Image:
    """The figure as an RGBA picture; the figure is closed."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    plt.close(figure)
    return Image.open(data)
