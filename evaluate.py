"""Accuracy of a weights folder, on a frozen synthetic test set or on real pairs.

    python evaluate.py --photos PHOTOS --logos LOGOS --fonts FONTS --manifest held_out.json
    python evaluate.py --photos PHOTOS --logos LOGOS
    python evaluate.py --images IMAGES --masks MASKS
    python evaluate.py --photos PHOTOS --logos LOGOS --together 3 10 30 --slices faint

Writes results.json, results.md (the table it prints), reliability.png and a gallery of the best,
median and worst images of each slice into --output. `testset.py` says what the slices are,
`metrics.py` what the numbers mean. With --together: what images that share a mark gain from each
other (`pooling.py`), in together.json and together.md.
"""

import argparse
import hashlib
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import PIL
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import metrics
from dataset import image_label
from figures import COLUMNS, four_columns, picture_grid, reliability_plot
from images import find_images
from marks import check_logo
from model import CLEAN_LIMIT
from pooling import segment_together
from runtime import SHIPPED_WEIGHTS, WEIGHTS, load_segmenter
from splits import check_disjoint, make_manifest, pick_listed, read_manifest
from testset import SLICES, Case, check_sizes, pair_files, read_pair, render_case, render_group
from text import find_fonts

TRUTHS = ("decidable", "alpha")  # fields of Outcome: two definitions of what is marked


@dataclass(frozen=True)
class Outcome:
    """One test image, measured."""

    name: str
    label: int  # 1 marked, 0 clean, IGNORE: a mark that nobody can see
    score: float
    decidable: metrics.MaskScores  # against the honest mask
    alpha: metrics.MaskScores  # against "anything drawn"


def measure(case: Case, segmenter, threshold: float) -> Outcome:
    """Segments one test image with the settings that a user gets, and compares."""
    found = segmenter.segment(case.image, threshold=threshold)
    truths = (metrics.score_mask(found.mask, mask) for mask in (case.mask, case.alpha_mask))
    return Outcome(case.name, image_label(case.mask), found.score, *truths)


def mask_rows(outcomes: list[Outcome], truth: str) -> dict[str, tuple[float, float, float]]:
    """Mask metrics over the marked images, each as (value, low, high); none without such images.

    Args:
        truth: one of TRUTHS.
    """
    scores = [getattr(outcome, truth) for outcome in outcomes if outcome.label == 1]
    if not scores:
        return {}
    pixels = [(score.intersection_px, score.union_px) for score in scores]
    rows = {
        name: metrics.bootstrap(np.mean, [getattr(score, name) for score in scores])
        for name in ("iou", "f1", "boundary_f1")
    }
    rows["pooled_iou"] = metrics.bootstrap(lambda p: p[:, 0].sum() / max(1, p[:, 1].sum()), pixels)
    return rows


def clean_rows(outcomes: list[Outcome]) -> dict[str, tuple[float, float, float]]:
    """False alarms on the clean images: share of images, and share of their pixels."""
    marked = [outcome.decidable.marked_fraction for outcome in outcomes if outcome.label == 0]
    if not marked:
        return {}
    return {
        "images_marked": metrics.bootstrap(np.mean, np.array(marked) > CLEAN_LIMIT),
        "area_marked": metrics.bootstrap(np.mean, marked),
    }


def summarise(slices: dict[str, list[Outcome]]) -> dict:
    """All numbers of the table; see `mask_rows` and `clean_rows`."""
    everything = [outcome for outcomes in slices.values() for outcome in outcomes]
    clean = [outcome.score for outcome in everything if outcome.label == 0]
    table = {}
    for name, outcomes in slices.items():
        marked = [outcome.score for outcome in outcomes if outcome.label == 1]
        labels = [outcome.label for outcome in outcomes]
        row = {"marked": labels.count(1), "clean": labels.count(0)}
        row["undecided"] = len(labels) - row["marked"] - row["clean"]
        row |= {truth: mask_rows(outcomes, truth) for truth in TRUTHS} | clean_rows(outcomes)
        if marked and clean:
            row["auroc"] = metrics.bootstrap(metrics.auroc, marked, clean)
        table[name] = row
    return {"slices": table, "score": score_rows(everything)}


def score_rows(outcomes: list[Outcome]) -> dict:
    """AUROC and calibration over all slices together; empty unless both kinds occur."""
    marked, clean = ([o.score for o in outcomes if o.label == kind] for kind in (1, 0))
    if not marked or not clean:
        return {}

    score, label = np.array(marked + clean), np.arange(len(marked) + len(clean)) < len(marked)
    return {
        "auroc": metrics.bootstrap(metrics.auroc, marked, clean),
        # No interval: resampling makes this one larger, so that it would not hold the value.
        "calibration_error": metrics.expected_calibration_error(score, label),
    }


# --- Writing -----------------------------------------------------------------------------------


def _cell(value, percent=False) -> str:
    if value is None:
        return "-"
    scale, digits = (100, 1) if percent else (1, 2)
    middle, low, high = (f"{number * scale:.{digits}f}" for number in value)
    return f"{middle} ({low}-{high})" + (" %" if percent else "")


def _mask_table(slices: dict, truth: str) -> list[str]:
    """Markdown lines of the mask metrics against one of TRUTHS."""
    lines = [
        "| slice | images | IoU | F1 | boundary F1 | pooled IoU | AUROC |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in slices.items():
        if row["marked"]:
            cells = [_cell(row[truth][key]) for key in ("iou", "f1", "boundary_f1", "pooled_iou")]
            cells.append(_cell(row.get("auroc")))
            lines.append(f"| {name} | {row['marked']} | {' | '.join(cells)} |")
    return lines


def markdown(results: dict) -> str:
    """The tables, with 95 % bootstrap intervals in brackets."""
    slices, score = results["slices"], results["score"]
    lines = [
        "Mean over the marked images of each slice; pooled: all pixels together. AUROC: the score "
        "against clean photos. In brackets 95 % bootstrap intervals.", "",
        "Truth without undecidable pixels:", "", *_mask_table(slices, "decidable"), "",
        'Truth "alpha > 0", as papers have it:', "", *_mask_table(slices, "alpha"),
    ]  # fmt: skip
    for name, row in slices.items():
        if row["clean"]:
            share, area = (_cell(row[key], True) for key in ("images_marked", "area_marked"))
            lines += ["", f"{name}: {share} of {row['clean']} clean images have more than 0.1 % of "
                      f"their pixels marked; {area} of all their pixels are."]  # fmt: skip
        if row["undecided"]:
            lines += ["", f"{name}: {row['undecided']} images left out, because their mark is too "
                      "small or faint to decide."]  # fmt: skip
    if score:
        lines += ["", f"Score over all slices: AUROC {_cell(score['auroc'])}, expected calibration "
                  f"error {score['calibration_error']:.2f}, clean and marked photos weighing the "
                  "same."]  # fmt: skip
    return "\n".join(lines) + "\n"


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
    for kind in ("images", "masks"):
        (folder / kind / case.name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images" / f"{case.name}.png"), case.image[..., ::-1])
    grey = np.choose(np.minimum(case.mask, 2), np.uint8([0, 255, 128]))
    cv2.imwrite(str(folder / "masks" / f"{case.name}.png"), grey)


# --- Images that share a mark --------------------------------------------------------------------


@dataclass(frozen=True)
class GroupOutcome:
    """One group of photos with the same mark, and one photo without it."""

    slice: str
    images: int  # with the mark
    single_iou: float  # mean over the images that show it
    together_iou: float
    found: bool  # that they share a mark
    unmarked_changed: bool  # the photo without the mark got another mask


def compare_together(options) -> list[GroupOutcome]:
    """The first 3, 10 ... photos of each group of `testset.render_group`, alone and together."""
    segmenter, files = load_segmenter(options.weights), test_files(options)
    outcomes, most = [], max(options.together)
    for name in options.slices:
        for index in range(options.count):
            cases = render_group(name, index, options.seed, **files, count=most)
            alone = [segmenter.segment(case.image, options.threshold) for case in cases]
            for count in options.together:
                chosen = [*range(count), most]
                images = [cases[i].image for i in chosen]
                (group,), found = segment_together(segmenter, images, options.threshold)
                shown = [i for i in range(count) if image_label(cases[i].mask) == 1]
                if shown:
                    ious = [
                        np.mean([metrics.score_mask(r[i].mask, cases[i].mask).iou for i in shown])
                        for r in (alone, found)
                    ]
                    changed = not np.array_equal(found[-1].mask, alone[-1].mask)
                    shared = group.shared is not None
                    outcomes.append(GroupOutcome(name, count, *ious, shared, changed))
        print(f"{name}: {options.count} groups", flush=True)
    return outcomes


def together_table(outcomes: list[GroupOutcome]) -> str:
    """Markdown; in brackets 95 % bootstrap intervals over groups."""
    lines = ["| slice | images | IoU alone | IoU together | mark found | unmarked photo changed |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for name, images in dict.fromkeys((o.slice, o.images) for o in outcomes):
        rows = [o for o in outcomes if (o.slice, o.images) == (name, images)]
        cells = [_cell(metrics.bootstrap(np.mean, [getattr(o, key) for o in rows]))
                 for key in ("single_iou", "together_iou")]  # fmt: skip
        counts = (sum(o.found for o in rows), sum(o.unmarked_changed for o in rows))
        cells += [f"{count} of {len(rows)}" for count in counts]
        lines.append(f"| {name} | {images} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_together(outcomes: list[GroupOutcome], options) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    content = json.dumps([asdict(outcome) for outcome in outcomes], indent=1)
    (options.output / "together.json").write_text(content + "\n")
    (options.output / "together.md").write_text(together_table(outcomes))
    print(f"\n{together_table(outcomes)}\nEverything is in {options.output}/.")


# --- The command -------------------------------------------------------------------------------


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--weights", default=SHIPPED_WEIGHTS, help="folder that train.py wrote")
    add("--photos", help="folder of photos without marks, to draw marks on")
    add("--logos", help="folder of logos with transparency")
    add("--fonts", help="folder of fonts for text marks, instead of matplotlib's")
    add("--manifest", help="use the files that this manifest lists, and no other")
    add("--images", help="folder of real images, instead of --photos")
    add("--masks", help="folder of their masks, of the same names: white = mark")
    add("--slices", nargs="+", default=list(SLICES), choices=SLICES, metavar="SLICE")
    add("--count", type=int, default=100, help="images, or groups, of each slice")
    add("--seed", type=int, default=0)
    add("--threshold", type=float, default=0.5, help="probability from which a pixel is marked")
    add("--output", type=Path, default=Path("evaluation"), help="folder to write to")
    add("--together", nargs="+", type=int, metavar="N", help="groups of N photos with one mark")
    add("--save-images", action="store_true", help="write the test images and masks, too")
    options = parser.parse_args(arguments)
    synthetic, real = (options.photos, options.logos), (options.images, options.masks)
    if not (all(synthetic) or all(real)) or (any(synthetic) and any(real)):
        parser.error("give either --photos and --logos, or --images and --masks")
    if options.count < 1:
        parser.error(f"--count is {options.count}; give 1 or more")
    if options.together and (min(options.together) < 1 or options.images):
        parser.error("--together takes numbers of photos from 1, and needs --photos and --logos")
    return options


def test_files(options) -> dict:
    """Photos, logos and fonts to test with; ValueError if the model was trained on one.

    Fonts that were trained on only make a note: without --fonts there are no others.
    """
    files = {
        "photos": find_images(options.photos),
        "logos": find_images(options.logos, check_logo),
        "fonts": find_fonts(options.fonts, shipped=options.fonts is None),
    }
    if options.manifest:
        listed = read_manifest(options.manifest)
        for kind in ("photos", "logos", "fonts") if options.fonts else ("photos", "logos"):
            files[kind] = pick_listed(files[kind], listed[kind], kind)
    path = Path(options.weights) / "trained_on.json"
    if not path.exists():
        print(f"No {path}: nobody can tell whether these files were trained on.")
        return files
    trained_on, tested = read_manifest(path), make_manifest(**files)
    check_disjoint({**tested, "fonts": []}, trained_on, path)
    known = set(tested["fonts"]) & set(trained_on["fonts"])
    if known:
        print(
            f"{len(known)} of {len(tested['fonts'])} fonts were trained on; --fonts takes others."
        )
    return files


def sources(options) -> dict:
    """Slice name to one function for each of its cases, which makes it."""
    if options.images:
        pairs = pair_files(options.images, options.masks)
        for _, image, mask in pairs:
            check_sizes(image, mask)
        return {"pairs": [partial(read_pair, *pair) for pair in pairs]}
    files = test_files(options)
    return {
        name: [partial(render_case, name, i, options.seed, **files) for i in range(options.count)]
        for name in options.slices
    }


def run(options) -> dict:
    """The whole evaluation; returns what results.json holds."""
    segmenter = load_segmenter(options.weights)
    cases_of, digest, slices = sources(options), hashlib.sha256(), {}
    gallery = options.output / "gallery"
    gallery.mkdir(parents=True, exist_ok=True)
    for name, cases in cases_of.items():
        start_s, slices[name] = time.monotonic(), []
        for case in (make() for make in cases):
            digest.update(case.image.tobytes() + case.mask.tobytes())
            slices[name].append(measure(case, segmenter, options.threshold))
            if options.save_images:
                save_case(case, options.output)
        titles, picks = zip(*pick_typical(slices[name]))
        chosen = [cases[i]() for i in picks]
        draw_gallery(name, chosen, segmenter, options.threshold, titles, gallery)
        print(f"{name}: {len(slices[name])} images, {time.monotonic() - start_s:.0f} s", flush=True)
    results = summarise(slices)
    results["test_set_sha256"] = digest.hexdigest()
    results["program"] = segmenter.fingerprint()
    results["outcomes"] = [asdict(outcome) for one in slices.values() for outcome in one]
    return results


def write(results: dict, options) -> None:
    """results.json, results.md and reliability.png; prints the table."""
    versions = {"python": platform.python_version(), "torch": torch.__version__,
                "opencv": cv2.__version__, "pillow": PIL.__version__}  # fmt: skip
    model = hashlib.sha256((Path(options.weights) / WEIGHTS).read_bytes()).hexdigest()
    results["model_sha256"], results["versions"] = model, versions
    results["options"] = {key: str(value) for key, value in vars(options).items()}
    (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    table = markdown(results)
    (options.output / "results.md").write_text(table)
    known = [o for o in results["outcomes"] if o["label"] in (0, 1)]
    label = np.array([o["label"] == 1 for o in known])
    if label.any() and not label.all():
        score = np.array([o["score"] for o in known])
        figure = reliability_plot(*metrics.reliability(score, label))
        figure.savefig(options.output / "reliability.png")
    print(f"\n{table}\nTest set {results['test_set_sha256'][:16]}, model {model[:16]}. "
          f"Everything is in {options.output}/.")  # fmt: skip


def main(arguments=None) -> None:
    options = parse(arguments)
    try:
        if options.together:
            write_together(compare_together(options), options)
        else:
            write(run(options), options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"evaluate.py: {error}")


if __name__ == "__main__":
    main()
