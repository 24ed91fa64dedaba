"""Pictures of an evaluation: typical images of each slice, and the test set as files."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from evaluation.accuracy import Outcome
from evaluation.figures import COLUMNS, four_columns, picture_grid
from inference.pictures import encode
from samples.pairs import Case


def draw_gallery(name: str, cases: list[Case], segmenter, threshold: float, titles, folder):
    """One picture of a slice, `folder/name.png`: image, truth, probability and overlay."""
    rows = []
    for case in cases:
        found = segmenter.segment(case.image, threshold=threshold)
        rows.append(four_columns(case.image, case.mask, found))
    figure = picture_grid(rows, COLUMNS, titles, width=9, dpi=80)
    figure.savefig(folder / f"{name}.png")
    plt.close(figure)


def pick_typical(outcomes: list[Outcome]) -> list[tuple[str, int]]:
    """Best, median and worst as (title, index); by IoU, for clean photos by the marked area."""
    order = sorted(
        range(len(outcomes)),
        key=lambda i: (-outcomes[i].decidable.iou, outcomes[i].decidable.marked_fraction),
    )
    picks = zip(("best", "median", "worst"), (order[0], order[len(order) // 2], order[-1]))
    return [
        (f"{title}: {outcomes[i].decidable.iou:.2f}"
         if outcomes[i].label else f"{title}: {outcomes[i].decidable.marked_fraction:.1%}", i)
        for title, i in picks
    ]  # fmt: skip


def save_case(case: Case, folder: Path) -> None:
    """The image and its mask as PNG files that --images and --masks read again."""
    grey = np.choose(np.minimum(case.mask, 2), np.uint8([0, 255, 128]))
    for kind, picture in (("images", case.image), ("masks", grey)):
        path = folder / kind / f"{case.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture, ".png"))
