"""Draws the README's pictures: `python docs/draw.py PHOTOS LOGOS FONTS`, from the top folder.

example.jpg: a photo with two text marks. examples.png: test images of the benchmark, of which the
weights in weights/ have seen no photo, logo or font; failures included.
"""

import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
import evaluate  # noqa: E402
from dataset import composite, make_layer  # noqa: E402
from figures import COLUMNS, four_columns, picture_grid  # noqa: E402
from images import sample_photos  # noqa: E402
from marks import MarkParams  # noqa: E402
from model import WatermarkSegmenter  # noqa: E402
from testset import render_case  # noqa: E402
from text import find_fonts  # noqa: E402

EXAMPLES = (("LOGO-H", 3), ("text", 4), ("tiled", 2), ("faint", 5))  # slice, index


def text_mark(text, font, scale, center, opacity) -> MarkParams:
    fonts = {found.path.stem: found.path for found in find_fonts()}
    return MarkParams(
        kind="text", source=fonts[font], text=text, layout="single", color="white",
        tint=(255, 255, 255), effect="none", blend_mode="normal", opacity=opacity, scale=scale,
        stretch=1.0, rotation_deg=0.0, center=center, gap=0.5,
    )  # fmt: skip


def draw_example() -> None:
    photo = next(file for file in sample_photos() if file.path.stem == "coffee").read()
    for mark in (
        text_mark("Halden & Row", "DejaVuSerif-Italic", 0.62, (0.5, 0.45), 0.5),
        text_mark("© 2026 Halden & Row Studio", "DejaVuSans", 0.36, (0.79, 0.96), 0.75),
    ):
        photo = composite(photo, make_layer(mark, photo.shape[:2]), mark.opacity, mark.blend_mode)
    Image.fromarray(photo).save(DOCS / "example.jpg", quality=88)


def draw_examples(photos, logos, fonts) -> None:
    folders = ["--photos", photos, "--logos", logos, "--fonts", fonts]
    options = evaluate.parse([*folders, "--manifest", str(DOCS.parent / "held_out.json")])
    files = evaluate.test_files(options)
    model, rows = WatermarkSegmenter.load(), []
    for name, index in EXAMPLES:
        case = render_case(name, index, 0, **files)
        image, mask = fit_square(case.image), fit_square(case.mask)
        rows.append(four_columns(image, mask, model.segment(image)))
    picture_grid(rows, COLUMNS, [name for name, _ in EXAMPLES], dpi=80).savefig(
        DOCS / "examples.png"
    )


def fit_square(array: np.ndarray) -> np.ndarray:
    """The middle of an H x W or H x W x 3 array, square."""
    side = min(array.shape[:2])
    y, x = ((length - side) // 2 for length in array.shape[:2])
    return np.ascontiguousarray(array[y : y + side, x : x + side])


if __name__ == "__main__":
    cv2.setNumThreads(1)
    draw_example()
    if len(sys.argv) == 4:
        draw_examples(*sys.argv[1:])
    else:
        print("Give folders of photos, logos and fonts to draw examples.png, too.")
