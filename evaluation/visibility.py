"""Measures how well the network finds one mark, at every opacity and size, or on one photo."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from random import Random

import matplotlib.pyplot as plt
import numpy as np

from dataset import WatermarkSettings, add_watermark
from evaluation.figures import COLUMNS, four_columns, picture_grid
from evaluation.metrics import score_mask
from evaluation.tables import table
from inference.pictures import shrunk
from inference.segmenter import Segmentation, Segmenter
from samples.drawing import SampleParams, draw_mark
from samples.files import check_images
from samples.loading import image_label
from samples.marks import MARKS, check_logo
from samples.own_mark import DEFAULT_FONT, OwnMark
from samples.text import Font, fonts_that_write, shipped_folder

OPACITIES = (0.05, 0.1, 0.2, 0.4, 0.8)
SIZES = (0.1, 0.2, 0.4, 0.8)
PHOTOS_PER_CELL = 10
PLAIN = WatermarkSettings(  # the mark as it is: not turned, stretched or recoloured
    layouts={"inside": 1}, kind_layouts={}, scales={"inside": (1, 1)}, upright_probability=1,
    stretch_range=(1, 1), colors={"original": 1}, effects={"none": 1}, blend_modes={"normal": 1},
    highest_opacity_probability=0, usual_look_probability=0,
)  # fmt: skip
JPEG_QUALITY = 90
PHOTO_PX = 1280  # longest side of the photo that `try_mark` returns
MEASURED_PX = 640  # longest side of the photo on which it measures
TITLES = ("opacity", "size", "visible", "recall", "IoU", "photos")


@dataclass(frozen=True)
class Cell:
    """The accuracy for a mark of one opacity and size: means over photos, 0..1."""

    opacity: float
    size: float  # long side of the mark / short side of the photo
    visible: float  # share of the mark's pixels that visibly change the photo
    recall: float  # share of these pixels that the network finds
    iou: float
    photos: int  # number of photos with a visible mark; if it is 0, the means are NaN


class DoesNotFit(ValueError):  # noqa: N818
    """The text is too small to read at this size."""


def lay_on(
    photo: np.ndarray, mark: OwnMark, opacity: float, size: float, rng: Random
) -> dict[str, np.ndarray]:
    """Draws the mark at a random place on a photo; returns the stages of `dataset.add_watermark`.

    Args:
        photo: uint8, H x W x 3, RGB.
        opacity: 0..1.
        size: long side of the mark / short side of the photo, above 0 and up to 1.
        rng: chooses the place, and one of the mark's logos and texts.

    Raises:
        ValueError: opacity or size is out of range.
        DoesNotFit: the text would be too small to read.
    """
    if not 0 < size <= 1 or not 0 <= opacity <= 1:
        raise ValueError(
            f"The size is {size}, the opacity {opacity}; give sizes above 0 and up to 1 (long "
            "side of the mark / short side of the photo), and opacities from 0 to 1."
        )
    height, width = photo.shape[:2]
    settings = replace(mark.settings(PLAIN), opacity_range=(opacity, opacity))
    params = draw_mark(settings, rng, mark.logos, mark.fonts)
    length_px = size * min(height, width)
    params = replace(params, scale=length_px / width)
    drawn_px = max(MARKS[params.kind](params, length_px).shape[:2])
    if params.kind == "text" and drawn_px > 1.1 * length_px + 1:
        raise DoesNotFit(
            f"At size {size} the text {params.text!r} would be {length_px:.0f} px long on a photo "
            f"of {width} x {height} px: too small to read. It needs {drawn_px} px. Use larger "
            "sizes or photos."
        )
    plain = dict(downscale=1.0, blur_sigma_px=0.0, noise_std=0.0, noise_seed=0)
    sample = SampleParams(0, (1, 0, 0), False, (params,), jpeg_quality=JPEG_QUALITY, **plain)
    return add_watermark(photo, sample)


def measure(
    segmenter: Segmenter, mark: OwnMark, photos: Sequence[np.ndarray], opacities=OPACITIES,
    sizes=SIZES, count: int = PHOTOS_PER_CELL, seed: int = 0,
) -> list[Cell]:  # fmt: skip
    """Draws the mark on photos and segments them; returns a Cell for each opacity and size.

    Each cell uses the first `count` photos (uint8, H x W x 3, RGB), which repeat if there are
    fewer. On a photo the mark has the same place in all cells. A cell leaves out photos on which
    the text would be too small to read.

    Raises:
        ValueError: see `lay_on`.
        DoesNotFit: the text is too small on all photos in all cells.
    """
    cells, too_small = [], None
    for opacity, size in product(opacities, sizes):
        results = []
        for index in range(count):
            photo = photos[index % len(photos)]
            try:
                sample = lay_on(photo, mark, opacity, size, Random(f"{seed} {index}"))
            except DoesNotFit as error:
                too_small = error
                continue
            if image_label(sample["mask"]) == 1:
                scores = score_mask(segmenter.segment(sample["image"]).mask, sample["mask"])
                truth_px = np.count_nonzero(sample["mask"] == 1)
                visible = truth_px / np.count_nonzero(sample["coverage"] >= 128)
                results.append((visible, scores.intersection_px / truth_px, scores.iou))
        means = np.mean(results, 0).tolist() if results else [float("nan")] * 3
        cells.append(Cell(opacity, size, *means, len(results)))
    if too_small and not any(cell.photos for cell in cells):
        raise too_small
    return cells


def cell_table(cells: list[Cell]) -> str:
    """The cells as a Markdown table, with "-" where no photo has a visible mark."""
    rows = []
    for cell in cells:
        numbers = (cell.visible, cell.recall, cell.iou)
        numbers = [f"{number:.2f}" if cell.photos else "-" for number in numbers]
        rows.append((cell.opacity, cell.size, *numbers, cell.photos))
    return table(TITLES, rows)


def heat_map(cells: list[Cell]) -> plt.Figure:
    """Figure with two grids, of recall and of IoU: one row an opacity, one column a size."""
    opacities, sizes = (sorted({getattr(c, name) for c in cells}) for name in ("opacity", "size"))
    order = sorted(cells, key=lambda cell: (cell.opacity, cell.size))
    size = (2 * (0.55 * len(sizes) + 0.8), 0.42 * len(opacities) + 0.9)
    figure, axes = plt.subplots(1, 2, figsize=size, dpi=80, layout="constrained")
    for axis, title, name in zip(axes, ("recall", "IoU"), ("recall", "iou")):
        grid = np.reshape([getattr(cell, name) for cell in order], (len(opacities), -1))
        axis.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            text = "-" if np.isnan(value) else f"{value:.2f}"
            color = "white" if value <= 0.6 else "black"  # black on the white of NaN
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
        axis.set_xticks(range(len(sizes)), sizes)
        axis.set_yticks(range(len(opacities)), opacities)
        axis.set(title=title, xlabel="size of the mark", ylabel="opacity")
    return figure


def examples(segmenter, mark, photo: np.ndarray, opacities=OPACITIES, size: float = 0.4, seed=0):
    """Figure: the mark on one photo, with a row for each opacity."""
    samples = [lay_on(photo, mark, opacity, size, Random(f"{seed} 0")) for opacity in opacities]
    rows = [four_columns(s["image"], s["mask"], segmenter.segment(s["image"])) for s in samples]
    return picture_grid(rows, COLUMNS, [f"opacity {opacity}" for opacity in opacities])


def write_cells(cells: list[Cell], figure, output: Path) -> None:
    """Writes cells.json, table.md, heat_map.png, and `figure` (`examples`) as examples.png."""
    output.mkdir(parents=True, exist_ok=True)
    rows = [{k: None if v != v else v for k, v in asdict(c).items()} for c in cells]  # no nan
    (output / "cells.json").write_text(json.dumps(rows, indent=1) + "\n")
    (output / "table.md").write_text(cell_table(cells) + "\n")
    heat_map(cells).savefig(output / "heat_map.png")
    figure.savefig(output / "examples.png")


# --- One photo ---------------------------------------------------------------------------------


def try_mark(
    segmenter: Segmenter, logo, text: str, rgb: np.ndarray, opacity: float, size: float
) -> tuple[np.ndarray, Segmentation, list[Cell]]:
    """Draws a logo or a line of text on a photo, and segments it.

    Args:
        logo: path of an image with transparency, or None for the text.
        rgb: the photo, uint8, H x W x 3; reduced to PHOTO_PX if it is larger.
        opacity, size: see `lay_on`.

    Returns:
        The photo with the mark, its segmentation, and the cells of `measure` for this photo.

    Raises:
        ValueError: both logo and text are given, or neither; the logo cannot be used; or the text
            would be too small to read.
    """
    mark = one_mark(logo, text.strip())
    image = lay_on(shrunk(rgb, PHOTO_PX), mark, opacity, size, Random(0))["image"]
    cells = measure(segmenter, mark, [shrunk(rgb, MEASURED_PX)], count=1)
    return image, segmenter.segment(image), cells


def one_mark(logo, text: str) -> OwnMark:
    """A mark of one logo or one line of text; see `try_mark`."""
    if bool(logo) == bool(text):
        came = "both" if logo else "neither"
        raise ValueError(f"Give a logo or a line of text as the mark: {came} came.")
    logos = check_images([Path(logo)], check_logo, "for a logo") if logo else []
    fonts = [Font(shipped_folder() / DEFAULT_FONT, {})]
    texts = (text,) if text else ()
    return OwnMark(logos, texts, fonts_that_write(text, fonts, "the mark"))
