"""One look at a mark of one's own: laid on a photo, searched there, and measured: `try_mark`."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from evaluation.visibility import Cell, lay_on, measure
from inference.pictures import shrunk
from inference.segmenter import Segmentation, Segmenter
from samples.files import IMAGE_SUFFIXES, check_images
from samples.own_mark import OwnMark, find_mark

PHOTO_PX = 1280  # longest side of the photo that is shown
MEASURED_PX = 640  # and of the one on which the mark is searched in every opacity and size


@dataclass(frozen=True)
class Trial:
    """A mark on a photo of H x W pixels."""

    image: np.ndarray  # uint8, H x W x 3, RGB: the photo with the mark
    found: Segmentation  # in that image
    cells: list[Cell]  # of this one photo, see `visibility.measure`


def try_mark(
    segmenter: Segmenter, logo, text: str, rgb: np.ndarray, opacity: float, size: float
) -> Trial:
    """What the network makes of a logo or a line of text on a photo.

    Args:
        logo: path of an image with transparency, or None for the text.
        rgb: uint8, H x W x 3; reduced to PHOTO_PX.
        opacity, size: see `visibility.lay_on`.

    Raises:
        ValueError: logo and text are both given or both missing, the logo cannot be used, or the
            mark does not fit the photo.
    """
    with tempfile.TemporaryDirectory() as folder:
        mark = write_mark(logo, text, Path(folder) / "mark")
        image = lay_on(shrunk(rgb, PHOTO_PX), mark, opacity, size, Random(0))["image"]
        photo = Path(folder) / "photo.png"
        Image.fromarray(shrunk(rgb, MEASURED_PX)).save(photo)
        cells = measure(segmenter, mark, check_images([photo]), count=1)
        return Trial(image, segmenter.segment(image), cells)


def write_mark(logo, text: str, folder: Path) -> OwnMark:
    """A folder that describes a mark, and what `find_mark` reads from it; see `try_mark`."""
    if (logo is None) == (not text.strip()):
        came = "neither" if logo is None else "both"
        raise ValueError(f"Give a logo or a line of text as the mark: {came} came.")
    if logo and Path(logo).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{Path(logo).name} is no logo by its ending: give a PNG or a WebP file.")
    folder.mkdir()
    if logo is None:
        (folder / "mark.txt").write_text(text, "utf-8")
    else:
        shutil.copyfile(logo, folder / Path(logo).name)
    try:
        return find_mark(folder)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{folder}/", "")) from error
