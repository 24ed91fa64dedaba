"""Accuracy of masks and scores: test images segmented, measured, drawn and summed up."""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import PIL
import torch

from evaluation.figures import COLUMNS, four_columns, picture_grid
from evaluation.metrics import auroc, bootstrap, expected_calibration_error, score_mask
from evaluation.tables import markdown
from inference.folder import WEIGHTS
from inference.pictures import encode
from inference.segmenter import Segmenter
from model import CLEAN_LIMIT
from samples.loading import image_label
from samples.pairs import Case


@dataclass(frozen=True)
class TestImage:
    """One image of the test set, which is made when it is needed."""

    __test__ = False  # pytest takes this class for a test otherwise

    photo: str  # images of one photo are not independent of each other
    make: Callable[[], Case]


# --- Measuring ---------------------------------------------------------------------------------


def evaluate_slices(
    slices: dict[str, list[TestImage]], segmenter: Segmenter, settings: dict, output: Path,
    save_images: bool = False,
) -> dict:  # fmt: skip
    """Measures test images, and draws the best, the median and the worst of each slice.

    Args:
        slices: name to its images.
        settings: arguments of `Segmenter.segment`.
        output: gets the pictures and, with `save_images`, the test set.

    Returns:
        What `summarise` says, the hash of the test set, and the outcome of each image.
    """
    digest, outcomes, gallery = hashlib.sha256(), {}, output / "gallery"
    gallery.mkdir(parents=True, exist_ok=True)
    for name, images in slices.items():
        start_s, outcomes[name] = time.monotonic(), []
        for image in images:
            case = image.make()
            digest.update(case.image.tobytes() + case.mask.tobytes())
            outcomes[name].append(measure(case, image.photo, segmenter, settings))
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
        "outcomes": [outcome for one in outcomes.values() for outcome in one],
    }


def measure(case: Case, photo: str, segmenter, settings: dict) -> dict:
    """Segments one test image and compares.

    Returns:
        name, photo (see TestImage), label (1 marked, 0 clean, IGNORE: a mark that nobody can see),
        score, the fields of `MaskScores` against the honest mask, and alpha_iou and alpha_f1
        against "anything drawn".
    """
    found = segmenter.segment(case.image, **settings)
    scores, alpha = (score_mask(found.mask, mask) for mask in (case.mask, case.alpha_mask))
    about = {"name": case.name, "photo": photo, "label": image_label(case.mask)}
    alphas = {"alpha_iou": alpha.iou, "alpha_f1": alpha.f1}
    return {**about, "score": found.score, **scores._asdict(), **alphas}


def draw_typical(images: list[TestImage], outcomes: list[dict], segmenter, settings: dict):
    """Figure of the best, median and worst image: by IoU, of clean photos by the marked area."""
    order = sorted(range(len(images)),
                   key=lambda i: (-outcomes[i]["iou"], outcomes[i]["marked_fraction"]))  # fmt: skip
    rows, titles = [], []
    for title, i in zip(("best", "median", "worst"), (order[0], order[len(order) // 2], order[-1])):
        case, one = images[i].make(), outcomes[i]
        found = segmenter.segment(case.image, **settings)
        rows.append(four_columns(case.image, case.mask, found))
        value = f"{one['iou']:.2f}" if one["label"] else f"{one['marked_fraction']:.1%}"
        titles.append(f"{title}: {value}")
    return picture_grid(rows, COLUMNS, titles, width=9, dpi=80)


def save_case(case: Case, folder: Path) -> None:
    """The image and its mask as PNG files that --images and --masks read again."""
    grey = np.choose(np.minimum(case.mask, 2), np.uint8([0, 255, 128]))
    for kind, picture in (("images", case.image), ("masks", grey)):
        path = folder / kind / f"{case.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture, ".png"))


def write_results(results: dict, weights: Path, options: dict, output: Path) -> None:
    """results.json and results.md; prints the tables. `options` are those of the call."""
    results["model_sha256"] = hashlib.sha256((weights / WEIGHTS).read_bytes()).hexdigest()
    results["versions"] = {"python": platform.python_version(), "torch": torch.__version__,
                           "opencv": cv2.__version__, "pillow": PIL.__version__}  # fmt: skip
    results["options"] = {name: str(value) for name, value in options.items() if name != "run"}
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    tables = markdown(results)
    (output / "results.md").write_text(tables)
    print(f"\n{tables}\nEverything is in {output}/.")


# --- Summing up --------------------------------------------------------------------------------


def summarise(slices: dict[str, list[dict]]) -> dict:
    """All numbers of the tables; those with an interval are (value, low, high).

    Of each slice (name to what `measure` returned): the mask metrics of its marked images, the
    false alarms on its clean ones, and the AUROC of the score: of its marked images against all
    clean ones, or, where it has none, of all marked ones against its own.
    """
    marked, clean = by_label([outcome for outcomes in slices.values() for outcome in outcomes])
    table, score = {}, {}
    for name, outcomes in slices.items():
        own_marked, own_clean = by_label(outcomes)
        row = {"marked": len(own_marked), "clean": len(own_clean)}
        row["undecided"] = len(outcomes) - row["marked"] - row["clean"]
        row |= mask_rows(own_marked) if own_marked else {}
        row |= clean_rows(own_clean) if own_clean else {}
        if marked and clean:
            row["auroc"] = score_auroc(own_marked + clean if own_marked else marked + own_clean)
        table[name] = row
    if marked and clean:
        scores, labels = np.array([(o["score"], o["label"]) for o in marked + clean]).T
        # No interval: resampling makes this one larger, so that it would not hold the value.
        error = expected_calibration_error(scores, labels == 1)
        score = {"auroc": score_auroc(marked + clean), "calibration_error": error}
    return {"slices": table, "score": score}


def by_label(outcomes: list[dict]) -> tuple[list[dict], list[dict]]:
    """The marked and the clean images; those that nobody can decide are in neither."""
    return tuple([outcome for outcome in outcomes if outcome["label"] == kind] for kind in (1, 0))


def _interval(statistic, outcomes: list[dict], *columns: str) -> tuple[float, float, float]:
    arrays = ([outcome[column] for outcome in outcomes] for column in columns)
    return bootstrap(statistic, *arrays, photos=[outcome["photo"] for outcome in outcomes])


def mask_rows(marked: list[dict]) -> dict[str, tuple[float, float, float]]:
    columns = ("iou", "f1", "alpha_iou", "alpha_f1")
    rows = {column: _interval(np.mean, marked, column) for column in columns}
    rows["pooled_iou"] = _interval(
        lambda both, union: both.sum() / max(1, union.sum()), marked, "intersection_px", "union_px"
    )
    return rows


def clean_rows(clean: list[dict]) -> dict[str, tuple[float, float, float]]:
    """False alarms: share of images, and share of their pixels."""
    share = "marked_fraction"
    images = _interval(lambda fraction: (fraction > CLEAN_LIMIT).mean(), clean, share)
    return {"images_marked": images, "area_marked": _interval(np.mean, clean, share)}


def score_auroc(outcomes: list[dict]) -> tuple[float, float, float]:
    return _interval(lambda score, label: auroc(score, label == 1), outcomes, "score", "label")
