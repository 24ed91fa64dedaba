"""What images that share a mark gain from being segmented together."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from evaluation import metrics
from evaluation.tables import cell
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
    together: Sequence[int],
) -> list[GroupOutcome]:  # fmt: skip
    """The first 3, 10 ... photos of each group of `testset.render_group`, alone and together.

    Args:
        count: groups of each slice.
        together: numbers of photos.
    """
    outcomes, most = [], max(together)
    for name in slices:
        for index in range(count):
            cases = render_group(name, index, seed, **files, count=most)
            alone = [segmenter.segment(case.image, threshold) for case in cases]
            for images in together:
                outcome = _compare(name, images, cases, alone, segmenter, threshold)
                outcomes += [outcome] if outcome else []
        print(f"{name}: {count} groups", flush=True)
    return outcomes


def _compare(name, images: int, cases, alone, segmenter, threshold) -> GroupOutcome | None:
    """The first so many cases and the last one, which has no mark; None if no mark shows."""
    chosen = [*range(images), len(cases) - 1]
    pictures = [cases[i].image for i in chosen]
    (group,), found = segment_together(segmenter, pictures, threshold)
    shown = [i for i in range(images) if image_label(cases[i].mask) == 1]
    if not shown:
        return None
    single, together = (
        float(np.mean([metrics.score_mask(r[i].mask, cases[i].mask).iou for i in shown]))
        for r in (alone, found)
    )
    changed = not np.array_equal(found[-1].mask, alone[-1].mask)
    return GroupOutcome(name, images, single, together, group.shared is not None, changed)


def together_table(outcomes: list[GroupOutcome]) -> str:
    """Markdown; in brackets 95 % bootstrap intervals over groups."""
    lines = ["| slice | images | IoU alone | IoU together | mark found | unmarked photo changed |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for name, images in dict.fromkeys((o.slice, o.images) for o in outcomes):
        rows = [o for o in outcomes if (o.slice, o.images) == (name, images)]
        cells = [cell(metrics.bootstrap(np.mean, [getattr(o, key) for o in rows]))
                 for key in ("single_iou", "together_iou")]  # fmt: skip
        counts = (sum(o.found for o in rows), sum(o.unmarked_changed for o in rows))
        cells += [f"{count} of {len(rows)}" for count in counts]
        lines.append(f"| {name} | {images} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_together(outcomes: list[GroupOutcome], output: Path) -> None:
    """together.json and together.md in a folder that is there; prints the table."""
    print(f"\n{together_table(outcomes)}")
    content = json.dumps([asdict(outcome) for outcome in outcomes], indent=1)
    (output / "together.json").write_text(content + "\n")
    (output / "together.md").write_text(together_table(outcomes))
    print(f"Everything is in {output}/.")
