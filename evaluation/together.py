"""What images that share a mark gain from being segmented together."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.metrics import bootstrap, score_mask
from evaluation.tables import cell, table
from evaluation.test_files import files_of
from evaluation.testset import render_group
from inference.pooling import segment_together
from samples.loading import image_label


def compare_together(
    segmenter, files: dict[str, list], slices, count: int, seed: int, threshold: float,
    group_sizes: Sequence[int],
) -> list[dict]:  # fmt: skip
    """The first 3, 10 ... photos of each group of `testset.render_group`, alone and together.

    Args:
        count: groups of each slice.
        group_sizes: numbers of photos.

    Returns:
        What `_compare` says of each slice, group and size.
    """
    rows = []
    for name in slices:
        for index in range(count):
            cases = render_group(name, index, seed, **files_of(name, files), count=max(group_sizes))
            alone = [segmenter.segment(case.image, threshold) for case in cases]
            for images in group_sizes:
                found = _compare(images, cases, alone, segmenter, threshold)
                rows += [{"slice": name, "images": images, **found}] if found else []
        print(f"{name}: {count} groups", flush=True)
    return rows


def _compare(images: int, cases, alone, segmenter, threshold) -> dict | None:
    """The first so many cases and the last one, which has no mark; None if no mark shows.

    Returns:
        Mean IoU over the images that show the mark, alone and together; whether a shared mark was
        found; whether the photo without it got another mask.
    """
    shown = [i for i in range(images) if image_label(cases[i].mask) == 1]
    if not shown:
        return None
    pictures = [case.image for case in (*cases[:images], cases[-1])]
    (group,), found = segment_together(segmenter, pictures, threshold)
    single, together = (
        float(np.mean([score_mask(r[i].mask, cases[i].mask).iou for i in shown]))
        for r in (alone, found)
    )
    changed = not np.array_equal(found[-1].mask, alone[-1].mask)
    return {"single_iou": single, "together_iou": together, "found": group.shared is not None,
            "unmarked_changed": changed}  # fmt: skip


def together_table(rows: list[dict]) -> str:
    """Markdown; in brackets 95 % bootstrap intervals over groups."""
    lines = []
    for name, images in dict.fromkeys((row["slice"], row["images"]) for row in rows):
        some = [row for row in rows if (row["slice"], row["images"]) == (name, images)]
        line = [name, images]
        for key in ("single_iou", "together_iou"):
            line.append(cell(bootstrap(np.mean, [row[key] for row in some])))
        for key in ("found", "unmarked_changed"):
            line.append(f"{sum(row[key] for row in some)} of {len(some)}")
        lines.append(line)
    titles = ("slice", "images", "IoU alone", "IoU together", "mark found",
              "unmarked photo changed")  # fmt: skip
    return "\n".join(table(titles, lines)) + "\n"


def write_together(rows: list[dict], output: Path) -> None:
    """together.json and together.md in a folder that is there; prints the table."""
    text = together_table(rows)
    (output / "together.json").write_text(json.dumps(rows, indent=1) + "\n")
    (output / "together.md").write_text(text)
    print(f"\n{text}\nEverything is in {output}/.")
