"""Segments test images, measures masks and scores, and writes tables and pictures."""

import hashlib
import json
import platform
import time
from itertools import chain
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import PIL
import torch

from evaluation.figures import COLUMNS, four_columns, picture_grid
from evaluation.metrics import auroc, bootstrap, expected_calibration_error, score_mask
from evaluation.tables import cell, table
from evaluation.testset import TestImage
from inference.pictures import encode
from inference.segmenter import Segmenter
from model import CLEAN_LIMIT
from samples.loading import image_label
from samples.pairs import Case

IMITATIONS = ("LOGO-L", "LOGO-H", "LOGO-gray", "CLWD")
NAMES = {"clean": "clean thumbnails", **{name: f"{name}-like" for name in IMITATIONS}}
ORDER = (  # of the rows: usual marks first, then the imitations of published test sets
    "large-corner", "large-text", "large-real-look", "print-text", "text", "tiled", "faint",
    "opaque", "blend", "recompressed", "real-look", *IMITATIONS,
    "print-clean", "large-clean", "clean", "clean-reduced", "clean-edited",
)  # fmt: skip

# Columns: key in results.json to (title, function, *fields of the outcomes that it takes).
AUROC = {"auroc": ("AUROC", lambda score, label: auroc(score, label == 1), "score", "label")}
MARKED_COLUMNS = {
    "iou": ("IoU", np.mean, "iou"),
    "f1": ("F1", np.mean, "f1"),
    "pooled_iou": ("pooled IoU", lambda both, union: both.sum() / max(1, union.sum()),
                   "intersection_px", "union_px"),
    **AUROC,
    "alpha_iou": ("IoU, alpha > 0", np.mean, "alpha_iou"),
    "alpha_f1": ("F1, alpha > 0", np.mean, "alpha_f1"),
}  # fmt: skip
CLEAN_COLUMNS = {
    "images_marked": ("images marked", lambda share: (share > CLEAN_LIMIT).mean(),
                      "marked_fraction"),
    "area_marked": ("pixels marked", np.mean, "marked_fraction"),
    **AUROC,
}  # fmt: skip


def evaluate_slices(
    slices: dict[str, list[TestImage]], segmenter: Segmenter, settings: dict, output: Path,
    save_images: bool = False,
) -> dict:  # fmt: skip
    """Measures test images; draws the best, the median and the worst image of each slice.

    Args:
        settings: arguments of `Segmenter.segment`.
        output: folder for the pictures and, with `save_images`, for the test set.

    Returns:
        The result of `summarise`, the hash of the test set, and the outcome of each image.
    """
    digest, outcomes, gallery = hashlib.sha256(), {}, output / "gallery"
    gallery.mkdir(parents=True, exist_ok=True)
    for name, images in slices.items():
        start_s, outcomes[name] = time.monotonic(), []
        for photo, make in images:
            case = make()
            digest.update(case.image.tobytes() + case.mask.tobytes())
            outcomes[name].append(measure_image(case, photo, segmenter, settings))
            if save_images:
                save_case(case, output)
        figure = draw_typical(images, outcomes[name], segmenter, settings)
        figure.savefig(gallery / f"{name}.png")
        plt.close(figure)
        print(f"{name}: {len(images)} images, {time.monotonic() - start_s:.0f} s", flush=True)
    return {
        **summarise(outcomes),
        "test_set_sha256": digest.hexdigest(),
        "program": segmenter.fingerprint(),
        "outcomes": list(chain(*outcomes.values())),
    }


def measure_image(case: Case, photo: str, segmenter, settings: dict) -> dict:
    """The outcome of one test image: the network's answer compared with the truth.

    Returns:
        name, photo (see TestImage), label (`image_label`), score, the fields of `MaskScores`
        against `case.mask`, and alpha_iou and alpha_f1 against `case.alpha_mask`.
    """
    result = segmenter.segment(case.image, **settings)
    scores, alpha = (score_mask(result.mask, mask) for mask in (case.mask, case.alpha_mask))
    about = {"name": case.name, "photo": photo, "label": image_label(case.mask)}
    alphas = {"alpha_iou": alpha.iou, "alpha_f1": alpha.f1}
    return {**about, "score": result.score, **scores._asdict(), **alphas}


def draw_typical(images: list[TestImage], outcomes: list[dict], segmenter, settings: dict):
    """Figure of the best, median and worst image, by IoU or, of clean photos, by marked area."""
    order = sorted(range(len(images)),
                   key=lambda i: (-outcomes[i]["iou"], outcomes[i]["marked_fraction"]))  # fmt: skip
    rows, titles = [], []
    for title, i in zip(("best", "median", "worst"), (order[0], order[len(order) // 2], order[-1])):
        case, one = images[i].make(), outcomes[i]
        result = segmenter.segment(case.image, **settings)
        rows.append(four_columns(case.image, case.mask, result))
        value = f"{one['iou']:.2f}" if one["label"] else f"{one['marked_fraction']:.1%}"
        titles.append(f"{title}: {value}")
    return picture_grid(rows, COLUMNS, titles, width=9, dpi=80)


def save_case(case: Case, folder: Path) -> None:
    """Writes the image and its mask as PNG files, which --images and --masks can read."""
    grey = np.choose(np.minimum(case.mask, 2), np.uint8([0, 255, 128]))
    for kind, picture in (("images", case.image), ("masks", grey)):
        path = folder / kind / f"{case.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture, ".png"))


def write_results(results: dict, options: dict, output: Path) -> None:
    """Writes results.json and results.md, and prints the tables. `options`: of the command."""
    results["versions"] = {"python": platform.python_version(), "torch": torch.__version__,
                           "opencv": cv2.__version__, "pillow": PIL.__version__}  # fmt: skip
    results["options"] = {name: str(value) for name, value in options.items() if name != "run"}
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    tables = markdown(results)
    (output / "results.md").write_text(tables)
    print(f"\n{tables}\nEverything is in {output}/.")


def summarise(slices: dict[str, list[dict]]) -> dict:
    """All numbers of the tables. Those with an interval are (value, low, high).

    AUROC compares the marked images of a slice with the clean images of all slices. In a slice
    without marked images, it compares the clean ones with the marked images of all slices.

    Args:
        slices: name to outcomes, from `measure_image`.
    """
    marked, clean = by_label(list(chain(*slices.values())))
    rows, score = {}, {}
    for name, outcomes in slices.items():
        own_marked, own_clean = by_label(outcomes)
        row = {"marked": len(own_marked), "clean": len(own_clean)}
        row["undecided"] = len(outcomes) - row["marked"] - row["clean"]
        rows[name] = row | statistics(own_clean, CLEAN_COLUMNS, marked)
        rows[name] |= statistics(own_marked, MARKED_COLUMNS, clean)
    if marked and clean:
        scores, labels = np.array([(o["score"], o["label"]) for o in marked + clean]).T
        # No interval: resampling makes this error larger, so the interval would miss the value.
        error = expected_calibration_error(scores, labels == 1)
        score = {**statistics(marked, AUROC, clean), "calibration_error": error}
    return {"slices": rows, "score": score}


def by_label(outcomes: list[dict]) -> tuple[list[dict], list[dict]]:
    """The marked and the clean images, without those whose label is IGNORE."""
    return tuple([outcome for outcome in outcomes if outcome["label"] == kind] for kind in (1, 0))


def statistics(own: list[dict], columns: dict, others: list[dict]) -> dict:
    """Key to (value, low, high) of marked or of clean images; AUROC compares with `others`."""
    row = {}
    for key, (_, statistic, *names) in columns.items():
        images = own + others * (key in AUROC)
        if own and (others or key not in AUROC):
            arrays = ([image[name] for image in images] for name in names)
            photos = [image["photo"] for image in images]
            row[key] = bootstrap(statistic, *arrays, photos=photos)
    return row


def markdown(results: dict) -> str:
    """The tables of results.json, with 95 % bootstrap intervals in brackets."""
    order = dict(zip(ORDER, range(len(ORDER))))
    slices = sorted(results["slices"].items(), key=lambda row: order.get(row[0], len(order)))
    rows = [(NAMES.get(name, name), row) for name, row in slices]
    test_set, model = (results[f"{kind}_sha256"][:16] for kind in ("test_set", "model"))
    program = results["program"].rsplit(" ", 1)[0]  # the last word is a hash
    parts = [
        f"Test set {test_set}, model {model} (SHA-256), run by {program}.",
        "In brackets: 95 % bootstrap intervals over photos.",
    ]
    if ious := [row["iou"][0] for _, row in rows if row["marked"]]:
        parts += ["Marked images. AUROC: of the score, against all clean photos.",
                  slice_table("marks", rows, "marked", MARKED_COLUMNS),
                  f"Mean IoU of {len(ious)} slices: {np.mean(ious):.3f}."]  # fmt: skip
    if any(row["clean"] for _, row in rows):
        parts += ["Clean photos. Marked: more than 0.1 % of the pixels. AUROC: against all marked "
                  "images.", slice_table("clean photos", rows, "clean", CLEAN_COLUMNS)]  # fmt: skip
    parts += [f"{name}: {row['undecided']} images left out, because their mark is too small or "
              "faint to decide." for name, row in rows if row["undecided"]]  # fmt: skip
    if score := results["score"]:
        parts += [f"Score over all slices: AUROC {cell(score['auroc'])}, expected calibration "
                  f"error {score['calibration_error']:.2f}. Clean and marked photos weigh the same "
                  "in the error."]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def slice_table(title: str, rows, kind: str, columns: dict) -> str:
    """A row for each slice with images of a kind, marked or clean; shares are in percent."""
    titles = (title, "images", *(column for column, *_ in columns.values()))
    lines = [(name, row[kind], *(cell(row.get(key), "_marked" in key) for key in columns))
             for name, row in rows if row[kind]]  # fmt: skip
    return table(titles, lines)
