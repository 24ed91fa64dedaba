"""How well the network finds one mark, in every opacity and size: `measure`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from random import Random

import numpy as np

from dataset import WatermarkSettings, add_watermark
from evaluation import tables
from evaluation.figures import COLUMNS, four_columns, heat_maps, picture_grid
from evaluation.metrics import score_mask
from inference.segmenter import Segmenter
from samples.drawing import SampleParams, draw_mark
from samples.files import ImageFile
from samples.loading import image_label
from samples.marks import MARKS
from samples.own_mark import OwnMark

OPACITIES = (0.05, 0.1, 0.2, 0.4, 0.8)
SIZES = (0.1, 0.2, 0.4, 0.8)
PHOTOS_PER_CELL = 10
PLAIN = WatermarkSettings(  # as the owner would lay it on a photo
    layouts={"inside": 1}, kind_layouts={}, scales={"inside": (1, 1)}, upright_probability=1,
    stretch_range=(1, 1), colors={"original": 1}, effects={"none": 1}, blend_modes={"normal": 1},
    highest_opacity_probability=0, usual_look_probability=0,
)  # fmt: skip
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Cell:
    """What the network makes of a mark of one opacity and size; means over photos, 0..1."""

    opacity: float
    size: float  # the mark's longer side over the photo's shorter one
    visible: float  # share of the mark's pixels that it changed by VISIBLE_LEVELS or more
    recall: float  # share of those pixels that the network found
    iou: float
    photos: int  # with a visible mark; with none of them the numbers above are nan


class DoesNotFit(ValueError):  # noqa: N818
    """A text cannot be drawn so small that anybody reads it."""


def lay_on(
    photo: np.ndarray, mark: OwnMark, opacity: float, size: float, rng: Random
) -> dict[str, np.ndarray]:
    """The own mark, upright and plain, somewhere on a photo; see `dataset.add_watermark`.

    Args:
        photo: uint8, H x W x 3, RGB.
        opacity: 0..1.
        size: the mark's longer side over the photo's shorter one, up to 1.
        rng: decides where, and which of the mark's logos and lines.

    Raises:
        ValueError: the mark would be larger than the photo; DoesNotFit: text too small to read.
    """
    if not 0 < size <= 1:
        raise ValueError(
            f"A mark of size {size} is larger than the photo; sizes are the mark's longer side "
            "over the photo's shorter one, above 0 and up to 1."
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
            f"of {width} x {height} px: too small to read, the least is {drawn_px} px. Take larger "
            "sizes or photos."
        )
    plain = dict(downscale=1.0, blur_sigma_px=0.0, noise_std=0.0, noise_seed=0)
    sample = SampleParams(0, (1, 0, 0), False, (params,), jpeg_quality=JPEG_QUALITY, **plain)
    return add_watermark(photo, sample)


def measure(
    segmenter: Segmenter,
    mark: OwnMark,
    photos: Sequence[ImageFile],
    opacities: Sequence[float] = OPACITIES,
    sizes: Sequence[float] = SIZES,
    count: int = PHOTOS_PER_CELL,
    seed: int = 0,
) -> list[Cell]:
    """One Cell for each opacity and size, by opacity, then size.

    Photos repeat if there are fewer than `count`. The mark's place on a photo is the same in all
    cells. Photos on which a text would be too small to read are left out of a cell.

    Raises:
        ValueError: see `lay_on`; DoesNotFit if no cell has a photo for that reason.
    """
    pictures = [photos[index % len(photos)].read() for index in range(count)]
    cells, refused = [], None
    for opacity, size in product(opacities, sizes):
        found = []
        for index, photo in enumerate(pictures):
            try:
                sample = lay_on(photo, mark, opacity, size, Random(f"{seed} {index}"))
            except DoesNotFit as error:
                refused = error
                continue
            if image_label(sample["mask"]) == 1:
                found.append(_compare(segmenter, sample))
        means = np.mean(found, 0).tolist() if found else [float("nan")] * 3
        cells.append(Cell(opacity, size, *means, len(found)))
    if refused and not any(cell.photos for cell in cells):
        raise refused
    return cells


def _compare(segmenter, sample) -> tuple[float, float, float]:
    """visible, recall and IoU of one photo."""
    truth = sample["mask"] == 1
    scores = score_mask(segmenter.segment(sample["image"]).mask, sample["mask"])
    visible = truth.sum() / np.count_nonzero(sample["coverage"] >= 128)
    return visible, scores.intersection_px / truth.sum(), scores.iou


def table(cells: list[Cell]) -> str:
    """The cells as Markdown; "-" where no photo shows the mark."""
    rows = []
    for cell in cells:
        numbers = (cell.visible, cell.recall, cell.iou)
        numbers = [f"{number:.2f}" if cell.photos else "-" for number in numbers]
        rows.append((cell.opacity, cell.size, *numbers, cell.photos))
    titles = ("opacity", "size", "visible", "recall", "IoU", "photos")
    return "\n".join(tables.table(titles, rows))


def heat_map(cells: list[Cell]):
    """Figure of recall and IoU, opacity downwards and size to the right."""
    opacities, sizes = (sorted({getattr(c, name) for c in cells}) for name in ("opacity", "size"))
    order = sorted(cells, key=lambda cell: (cell.opacity, cell.size))
    grids = {title: np.reshape([getattr(cell, name) for cell in order], (len(opacities), -1))
             for title, name in (("recall", "recall"), ("IoU", "iou"))}  # fmt: skip
    return heat_maps(grids, opacities, sizes, "opacity", "size of the mark")


def examples(segmenter, mark, photo: np.ndarray, opacities=OPACITIES, size: float = 0.4, seed=0):
    """Figure: one photo with the mark in each opacity."""
    samples = [lay_on(photo, mark, opacity, size, Random(f"{seed} 0")) for opacity in opacities]
    rows = [four_columns(s["image"], s["mask"], segmenter.segment(s["image"])) for s in samples]
    return picture_grid(rows, COLUMNS, [f"opacity {opacity}" for opacity in opacities])


def fitting_photo(photos, mark, size: float, seed: int = 0) -> np.ndarray:
    """The first photo on which the mark fits; DoesNotFit if there is none."""
    for photo in photos:
        try:
            rgb = photo.read()
            lay_on(rgb, mark, 1.0, size, Random(f"{seed} 0"))
            return rgb
        except DoesNotFit as error:
            refused = error
    raise refused


def write_cells(cells: list[Cell], figure, output: Path) -> None:
    """cells.json, table.md, heat_map.png, and the figure of `examples` as examples.png."""
    output.mkdir(parents=True, exist_ok=True)
    rows = [{k: None if v != v else v for k, v in asdict(c).items()} for c in cells]  # no nan
    (output / "cells.json").write_text(json.dumps(rows, indent=1) + "\n")
    (output / "table.md").write_text(table(cells) + "\n")
    heat_map(cells).savefig(output / "heat_map.png")
    figure.savefig(output / "examples.png")
