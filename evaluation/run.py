"""A whole evaluation: test images segmented, measured, drawn and written to a folder."""

import hashlib
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import PIL
import torch

from evaluation import metrics
from evaluation.accuracy import Outcome, TestImage, measure, summarise
from evaluation.figures import COLUMNS, four_columns, picture_grid, reliability_plot
from evaluation.tables import markdown
from inference.folder import WEIGHTS
from inference.pictures import encode
from inference.segmenter import Segmenter
from samples.pairs import Case


def evaluate_slices(
    slices: dict[str, list[TestImage]],
    segmenter: Segmenter,
    settings: dict,
    output: Path,
    save_images: bool = False,
) -> dict:
    """Measures test images and draws typical ones; see `accuracy.summarise`.

    Args:
        slices: name to its images.
        settings: arguments of `Segmenter.segment`.
        output: gets the pictures and, with `save_images`, the test set.

    Returns:
        What results.json holds.
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
        "outcomes": [asdict(outcome) for one in outcomes.values() for outcome in one],
    }


def draw_typical(images: list[TestImage], outcomes: list[Outcome], segmenter, settings: dict):
    """Figure of the best, median and worst image: by IoU, of clean photos by the marked area."""
    scores = [outcome.decidable for outcome in outcomes]
    order = sorted(range(len(scores)), key=lambda i: (-scores[i].iou, scores[i].marked_fraction))
    rows, titles = [], []
    for title, i in zip(("best", "median", "worst"), (order[0], order[len(order) // 2], order[-1])):
        case, one = images[i].make(), scores[i]
        found = segmenter.segment(case.image, **settings)
        rows.append(four_columns(case.image, case.mask, found))
        value = f"{one.iou:.2f}" if outcomes[i].label else f"{one.marked_fraction:.1%}"
        titles.append(f"{title}: {value}")
    return picture_grid(rows, COLUMNS, titles, width=9, dpi=80)


def save_case(case: Case, folder: Path) -> None:
    """The image and its mask as PNG files that --images and --masks read again."""
    grey = np.choose(np.minimum(case.mask, 2), np.uint8([0, 255, 128]))
    for kind, picture in (("images", case.image), ("masks", grey)):
        path = folder / kind / f"{case.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture, ".png"))


def write_results(results: dict, weights: Path, options: dict, output: Path) -> dict:
    """results.json, results.md and reliability.png; prints the tables.

    Args:
        options: of the call, for the record.

    Returns:
        What results.json holds.
    """
    versions = {"python": platform.python_version(), "torch": torch.__version__,
                "opencv": cv2.__version__, "pillow": PIL.__version__}  # fmt: skip
    model = hashlib.sha256((weights / WEIGHTS).read_bytes()).hexdigest()
    about = {"model_sha256": model, "versions": versions}
    about["options"] = {name: str(value) for name, value in options.items()}
    results = {**results, **about}
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    tables = markdown(results)
    (output / "results.md").write_text(tables)
    if results["score"]:
        known = np.array([(o["score"], o["label"]) for o in results["outcomes"] if o["label"] < 2])
        figure = reliability_plot(*metrics.reliability(known[:, 0], known[:, 1] == 1))
        figure.savefig(output / "reliability.png")
    print(f"\n{tables}\nTest set {results['test_set_sha256'][:16]}, model {model[:16]}. "
          f"Everything is in {output}/.")  # fmt: skip
    return results
