"""What images that share a mark gain from being segmented together."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from evaluation import metrics
from evaluation.tables import cell, table
from evaluation.test_files import files_of
from evaluation.testset import render_group
from inference.pooling import segment_together
from samples.loading import image_label


@dataclass(frozen=True)
class GroupOutcome:
    """One group of photos with the same mark, and one photo without it."""

    slice: str
    images: int  # with the mark
    single_iou: float  # mean over the images that show it
    together_iou: float
    found: bool  # that they share a mark
    unmarked_changed: bool  # the photo without the mark got another mask


def compare_together(
    segmenter, files: dict[str, list], slices, count: int, seed: int, threshold: float,
    group_sizes: Sequence[int],
) -> list[GroupOutcome]:  # fmt: skip
    """The first 3, 10 ... photos of each group of `testset.render_group`, alone and together.

    Args:
        count: groups of each slice.
        group_sizes: numbers of photos.
    """
    outcomes = []
    for name in slices:
        for index in range(count):
            cases = render_group(name, index, seed, **files_of(name, files), count=max(group_sizes))
            alone = [segmenter.segment(case.image, threshold) for case in cases]
            for images in group_sizes:
                outcomes += _compare(name, images, cases, alone, segmenter, threshold)
        print(f"{name}: {count} groups", flush=True)
    return outcomes


def _compare(name, images: int, cases, alone, segmenter, threshold) -> list[GroupOutcome]:
    """The first so many cases and the last one, which has no mark; empty if no mark shows."""
    shown = [i for i in range(images) if image_label(cases[i].mask) == 1]
    if not shown:
        return []
    pictures = [case.image for case in (*cases[:images], cases[-1])]
    (group,), found = segment_together(segmenter, pictures, threshold)
    single, together = (
        float(np.mean([metrics.score_mask(r[i].mask, cases[i].mask).iou for i in shown]))
        for r in (alone, found)
    )
    changed = not np.array_equal(found[-1].mask, alone[-1].mask)
    return [GroupOutcome(name, images, single, together, group.shared is not None, changed)]


def together_table(outcomes: list[GroupOutcome]) -> str:
    """Markdown; in brackets 95 % bootstrap intervals over groups."""
    lines = []
    for name, images in dict.fromkeys((o.slice, o.images) for o in outcomes):
        rows = [o for o in outcomes if (o.slice, o.images) == (name, images)]
        single, together = (cell(metrics.bootstrap(np.mean, [getattr(o, key) for o in rows]))
                            for key in ("single_iou", "together_iou"))  # fmt: skip
        found, changed = (f"{sum(getattr(o, key) for o in rows)} of {len(rows)}"
                          for key in ("found", "unmarked_changed"))  # fmt: skip
        lines.append((name, images, single, together, found, changed))
    titles = "slice images IoU_alone IoU_together mark_found unmarked_photo_changed".split()
    return "\n".join(table([title.replace("_", " ") for title in titles], lines)) + "\n"


def write_together(outcomes: list[GroupOutcome], output: Path) -> None:
    """together.json and together.md in a folder that is there; prints the table."""
    print(f"\n{together_table(outcomes)}")
    content = json.dumps([asdict(outcome) for outcome in outcomes], indent=1)
    (output / "together.json").write_text(content + "\n")
    (output / "together.md").write_text(together_table(outcomes))
    print(f"Everything is in {output}/.")
