"""Draws the README's pictures: `python docs/draw.py`, from the repository's root.

example.jpg: a photo with two text marks. examples.png: image, truth, probability and overlay of
photos and logos that the weights in weights/ were not trained on.
"""

import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
from dataset import IGNORE, WatermarkSettings, composite, make_datasets, make_layer  # noqa: E402
from images import sample_photos  # noqa: E402
from marks import MarkParams  # noqa: E402
from model import WatermarkSegmenter  # noqa: E402
from text import find_fonts  # noqa: E402

INDICES = (19, 8, 7, 9)  # of the samples in examples.png; the last two are failures


def text_mark(text, font, scale, center, opacity) -> MarkParams:
    fonts = {found.path.stem: found.path for found in find_fonts()}
    return MarkParams(
        kind="text", source=fonts[font], text=text, layout="single", color="white",
        tint=(255, 255, 255), effect="none", blend_mode="normal", opacity=opacity, scale=scale,
        stretch=1.0, rotation_deg=0.0, center=center, gap=0.5,
    )  # fmt: skip


def draw_example() -> None:
    coffee = next(file for file in sample_photos() if file.path.stem == "coffee").read()
    height, width = coffee.shape[:2]
    square = cv2.copyMakeBorder(coffee, 0, width - height, 0, 0, cv2.BORDER_REPLICATE)
    for mark in (
        text_mark("Halden & Row", "DejaVuSerif-Italic", 0.62, (0.5, 0.3), 0.5),
        text_mark("© 2026 Halden & Row Studio", "DejaVuSans", 0.36, (0.79, 0.64), 0.75),
    ):
        layer = make_layer(mark, width)
        square = composite(square, layer, mark.opacity, mark.blend_mode)
    Image.fromarray(square[:height]).save(DOCS / "example.jpg", quality=88)


def draw_examples() -> None:
    settings = WatermarkSettings(image_size=256, opacity_range=(0.25, 1.0))
    data, _ = make_datasets(settings=settings, train_length=200, val_fraction=0.1, seed=1)
    model = WatermarkSegmenter.load()
    titles = ("image", "truth", "probability", "overlay")
    size = dict(figsize=(8, 2.02 * len(INDICES) + 0.2), dpi=80, squeeze=False)
    figure, axes = plt.subplots(len(INDICES), 4, **size)
    for row, index in zip(axes, INDICES):
        one = data.stages(index)
        found = model.segment(one["image"])
        truth = np.choose(np.where(one["mask"] == IGNORE, 2, one["mask"]), np.uint8([0, 255, 96]))
        red = np.where(
            found.mask[..., None], one["image"] // 3 + np.uint8([170, 0, 0]), one["image"]
        )
        for axis, picture in zip(row, (one["image"], truth, found.probability, red)):
            limit = 255 if picture.dtype == np.uint8 else 1
            axis.imshow(picture, cmap="gray", vmin=0, vmax=limit)
            axis.axis("off")
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.2)
    figure.savefig(DOCS / "examples.png")


if __name__ == "__main__":
    draw_example()
    draw_examples()
