"""Helps to choose `min_score` for your own photos: some without marks, perhaps some with marks.

You need no masks. A photo counts as found if the mask of `segment` is not empty. A higher
`min_score` gives fewer clean photos a false mark, but finds fewer marked photos.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from evaluation.figures import contact_sheet
from evaluation.metrics import auroc, bootstrap
from evaluation.tables import cell, table
from inference.pictures import overlay_picture, shrunk
from inference.reading import read_image
from inference.segmenter import MIN_SCORE

FALSE_ALARMS = (0.01, 0.02, 0.05, 0.1)  # shares of clean photos for which min_score is chosen
STEPS = 1000  # a min_score is chosen in steps of 1 / STEPS
WORST = 12  # number of clean and of marked photos on the contact sheet
SHEET_PX = 320  # longest side of a photo on the contact sheet
TITLES = ("false alarms at most", "min_score", "clean photos with a false mark",
          "marked photos found")  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """The network's result for one photo."""

    path: str
    marked: bool  # it comes from the folder of marked photos
    score: float
    coverage: float  # share of the pixels in the mask, at min_score 0

    def is_found(self, min_score: float) -> bool:
        """Whether `segment` gives a mask that is not empty."""
        return self.coverage > 0 and self.score >= min_score


def segment_photos(segmenter, clean, marked, settings: dict) -> list[Photo]:
    """Segments clean and marked photos (lists of ImageFile); `settings`: arguments of `segment`."""
    photos = []
    for file in tqdm([*clean, *marked], desc="photos", mininterval=5):
        result = segmenter.segment(file.path, **settings, min_score=0)
        is_marked = len(photos) >= len(clean)
        photos.append(Photo(str(file.path), is_marked, result.score, result.coverage))
    return photos


def by_kind(photos: list[Photo]) -> tuple[list[Photo], list[Photo]]:
    """The clean and the marked photos."""
    return tuple([photo for photo in photos if photo.marked == kind] for kind in (False, True))


def min_score_for(clean: list[Photo], share: float) -> float | None:
    """The lowest `min_score` at which at most this share of the clean photos has a false mark.

    None if there are so few photos that one alone would be a larger share.
    """
    allowed = math.floor(share * len(clean) + 1e-9)
    if not allowed:
        return None
    false = sorted((photo.score for photo in clean if photo.coverage), reverse=True)
    if len(false) <= allowed:
        return 0.0
    return min(1.0, (math.floor(false[allowed] * STEPS + 1e-6) + 1) / STEPS)


def summarise(photos: list[Photo]) -> dict:
    """AUROC, and for each `min_score` false alarms and recall. Numbers are (value, low, high)."""
    clean, marked = by_kind(photos)
    scores = {"default": MIN_SCORE, **{f"{s:.0%}": min_score_for(clean, s) for s in FALSE_ALARMS}}
    rows = {name: {"min_score": score} for name, score in scores.items()}
    for row in rows.values():
        for kind, some in (("false_alarms", clean), ("recall", marked)):
            if some and row["min_score"] is not None:
                row[kind] = bootstrap(np.mean, [photo.is_found(row["min_score"]) for photo in some])
    summary = {"clean": len(clean), "marked": len(marked), "thresholds": rows}
    if marked:
        scores, labels = np.array([(photo.score, photo.marked) for photo in photos]).T
        summary["auroc"] = bootstrap(auroc, scores, labels == 1)
    return summary


def field_table(summary: dict) -> str:
    """The summary as Markdown, with 95 % bootstrap intervals over photos in brackets."""
    rows = []
    for name, row in summary["thresholds"].items():
        score = "too few clean photos" if row["min_score"] is None else f"{row['min_score']:g}"
        rows.append((name, score, *(cell(row.get(k), True) for k in ("false_alarms", "recall"))))
    auroc_text = f" AUROC of the score: {cell(summary['auroc'])}." if "auroc" in summary else ""
    counts = f"{summary['clean']} clean and {summary['marked']} marked photos.{auroc_text}"
    return f"{counts}\n\n{table(TITLES, rows)}\n"


def curve(photos: list[Photo]) -> Figure:
    """Figure: the share of clean and of marked photos with a mask, over `min_score`."""
    figure, axis = plt.subplots(figsize=(5.5, 3.6), dpi=100, layout="constrained")
    for some, label in zip(by_kind(photos), ("clean photos: false mark", "marked photos: found")):
        if some:
            scores = [photo.score if photo.coverage else -1 for photo in some]
            axis.ecdf(scores, complementary=True, label=label)
    axis.axvline(MIN_SCORE, color="0.7", linewidth=1, label="default")
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="min_score", ylabel="share of photos")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def worst(photos: list[Photo]) -> list[Photo]:
    """False alarms, highest score first, then missed photos, lowest first, at the default."""
    clean, marked = by_kind(photos)
    false = sorted((p for p in clean if p.is_found(MIN_SCORE)), key=lambda p: -p.score)
    missed = sorted((p for p in marked if not p.is_found(MIN_SCORE)), key=lambda p: p.score)
    return false[:WORST] + missed[:WORST]


def worst_sheet(segmenter, photos: list[Photo], settings: dict) -> Figure:
    """Contact sheet of photos with their masks at min_score 0 in red."""
    pictures, captions = [], []
    for photo in photos:
        rgb = read_image(photo.path)
        result = segmenter.segment(rgb, **settings, min_score=0)
        pictures.append(shrunk(overlay_picture(result, rgb), SHEET_PX))
        error = "missed" if photo.marked else "false alarm"
        captions.append(f"{error}, {photo.score:.2f}\n{Path(photo.path).name[:24]}")
    return contact_sheet(pictures, captions, dpi=130)


def write_field(segmenter, photos: list[Photo], settings: dict, output: Path) -> None:
    """Writes field.json, field.md, curve.png and, if there are errors, worst.png; prints field.md.

    `output` is an existing folder.
    """
    summary = summarise(photos)
    text = field_table(summary)
    print(f"\n{text}")
    content = {**summary, "photos": [asdict(photo) for photo in photos]}
    (output / "field.json").write_text(json.dumps(content, indent=1) + "\n")
    (output / "field.md").write_text(text)
    curve(photos).savefig(output / "curve.png")
    if some := worst(photos):
        worst_sheet(segmenter, some, settings).savefig(output / "worst.png")
    plt.close("all")
    print(f"Everything is in {output}/.")
