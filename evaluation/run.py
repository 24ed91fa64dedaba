"""A whole evaluation: test images segmented, measured, drawn and written to a folder."""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch

from evaluation import metrics
from evaluation.accuracy import measure, summarise
from evaluation.figures import reliability_plot
from evaluation.gallery import draw_gallery, pick_typical, save_case
from evaluation.tables import markdown
from inference.folder import WEIGHTS
from inference.segmenter import Segmenter
from samples.pairs import Case


def evaluate_slices(
    slices: dict[str, list[Callable[[], Case]]],
    segmenter: Segmenter,
    threshold: float,
    output: Path,
    save_images: bool = False,
) -> dict:
    """Measures test images and draws typical ones; see `accuracy.summarise`.

    Args:
        slices: name to a function for each image, which makes it.
        output: gets the pictures and, with `save_images`, the test set.

    Returns:
        What results.json holds.
    """
    digest, outcomes, gallery = hashlib.sha256(), {}, output / "gallery"
    gallery.mkdir(parents=True, exist_ok=True)
    for name, cases in slices.items():
        start_s, outcomes[name] = time.monotonic(), []
        for case in (make() for make in cases):
            digest.update(case.image.tobytes() + case.mask.tobytes())
            outcomes[name].append(measure(case, segmenter, threshold))
            if save_images:
                save_case(case, output)
        titles, picks = zip(*pick_typical(outcomes[name]))
        draw_gallery(name, [cases[i]() for i in picks], segmenter, threshold, titles, gallery)
        seconds = time.monotonic() - start_s
        print(f"{name}: {len(outcomes[name])} images, {seconds:.0f} s", flush=True)
    return {
        **summarise(outcomes),
        "test_set_sha256": digest.hexdigest(),
        "program": segmenter.fingerprint(),
        "outcomes": [asdict(outcome) for one in outcomes.values() for outcome in one],
    }


def write_results(results: dict, weights: Path, options: dict, output: Path) -> dict:
    """results.json, results.md and reliability.png; prints the table.

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
    table = markdown(results)
    (output / "results.md").write_text(table)
    known = [o for o in results["outcomes"] if o["label"] in (0, 1)]
    label = np.array([o["label"] == 1 for o in known])
    if label.any() and not label.all():
        score = np.array([o["score"] for o in known])
        figure = reliability_plot(*metrics.reliability(score, label))
        figure.savefig(output / "reliability.png")
    print(f"\n{table}\nTest set {results['test_set_sha256'][:16]}, model {model[:16]}. "
          f"Everything is in {output}/.")  # fmt: skip
    return results
