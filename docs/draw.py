"""Draws the README's pictures: `python docs/draw.py PHOTOS LOGOS FONTS`, from the top folder.

example.jpg: a photo with two text marks; example_clean.jpg: one without; example_wrong.jpg: one
with false alarms. examples.png: test images of the benchmark, of which the
weights in weights/ have seen no photo, logo or font; failures included. my_mark/: an invented mark.
visibility.png: how well the weights find it on the benchmark's photos.
"""

import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

matplotlib.use("Agg")

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
from dataset import composite, make_layer  # noqa: E402
from evaluation.figures import COLUMNS, four_columns, picture_grid  # noqa: E402
from evaluation.test_files import find_test_files  # noqa: E402
from evaluation.testset import render_case  # noqa: E402
from evaluation.visibility import heat_map, measure  # noqa: E402
from inference.folder import SHIPPED_WEIGHTS  # noqa: E402
from model import WatermarkSegmenter  # noqa: E402
from samples.files import ImageFile, sample_photos  # noqa: E402
from samples.marks import MarkParams  # noqa: E402
from samples.own_mark import find_mark  # noqa: E402
from samples.text import find_fonts  # noqa: E402

EXAMPLES = (("LOGO-H", 3), ("text", 4), ("tiled", 2), ("faint", 5))  # slice, index


def text_mark(text, font, scale, center, opacity) -> MarkParams:
    fonts = {found.path.stem: found.path for found in find_fonts()}
    return MarkParams(
        kind="text", logo=None, font=fonts[font], text=text, layout="single",
        color="white", tint=(255, 255, 255), effect="none", blend_mode="normal",
        opacity=opacity, scale=scale, stretch=1.0, rotation_deg=0.0, center=center, gap=0.5,
    )  # fmt: skip


def sample_photo(name: str) -> np.ndarray:
    return next(file for file in sample_photos() if file.path.stem == name).read()


def draw_example() -> None:
    photo = sample_photo("coffee")
    for mark in (
        text_mark("Halden & Row", "DejaVuSerif-Italic", 0.62, (0.5, 0.45), 0.5),
        text_mark("© 2026 Halden & Row Studio", "DejaVuSans", 0.36, (0.79, 0.96), 0.75),
    ):
        photo = composite(photo, make_layer(mark, photo.shape[:2]), mark.opacity, mark.blend_mode)
    for name, rgb in (("", photo), ("_clean", sample_photo("chelsea")),
                      ("_wrong", sample_photo("coins"))):  # fmt: skip
        Image.fromarray(rgb).save(DOCS / f"example{name}.jpg", quality=88)


def draw_mark() -> None:
    """A compass star and two lines, in white: drawn four times as large, then reduced."""
    picture, fonts = Image.new("RGBA", (2032, 800)), Path(matplotlib.get_data_path()) / "fonts/ttf"
    draw = ImageDraw.Draw(picture)
    draw.ellipse((32, 32, 768, 768), outline="white", width=28)
    radii, angles = np.tile([336, 64, 176, 64], 4), np.arange(16) * np.pi / 8
    points = np.stack([400 + radii * np.sin(angles), 400 - radii * np.cos(angles)], axis=1)
    draw.polygon([tuple(point) for point in points], fill="white")
    for text, place, font, size in (
        ("POLARIS", (848, 176), "DejaVuSans-Bold", 224),
        ("photo studio", (856, 448), "DejaVuSerif-Italic", 160),
    ):
        draw.text(place, text, "white", ImageFont.truetype(str(fonts / f"{font}.ttf"), size))
    (DOCS / "my_mark").mkdir(exist_ok=True)
    small = picture.resize((508, 200), Image.Resampling.LANCZOS)
    small.convert("LA").save(DOCS / "my_mark" / "polaris.png")


def draw_visibility(photos: list[ImageFile]) -> None:
    mark, model = find_mark(DOCS / "my_mark"), WatermarkSegmenter.load()
    heat_map(measure(model, mark, photos, count=24)).savefig(DOCS / "visibility.png")


def draw_examples(files: dict) -> None:
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
    draw_mark()
    if len(sys.argv) == 4:
        files = find_test_files(*sys.argv[1:], DOCS.parent / "held_out.json", SHIPPED_WEIGHTS)
        draw_examples(files)
        draw_visibility(files["photos"])
    else:
        print("Give folders of photos, logos and fonts to draw the other two.")
