"""Makes the score a probability: `python calibrate.py --weights DIR --photos DIR --logos DIR`.

Fits scale and shift of the score's logit (Platt scaling) on whole photos with marks of every slice
of `testset.py`, from the validation files of training, and writes them into the weights. Clean
and marked photos weigh the same: a score of 0.5 says that either is as likely, where half of all
photos are marked.

Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dataset import ROOT, image_label, make_datasets
from metrics import expected_calibration_error
from model import WatermarkSegmenter
from runtime import SHIPPED_WEIGHTS, load_segmenter
from testset import SLICES, render_cases


def fit_platt(logits: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """(scale, shift) for which sigmoid(scale * logit + shift) is the probability of label 1.

    Args:
        logits: float, N.
        label: bool, N; both kinds must occur. Each kind weighs one half.
    """
    logits, label = torch.tensor(logits).double(), torch.tensor(label)
    n_marked, n_clean = label.sum().double(), (~label).sum().double()
    weight = torch.where(label, 0.5 / n_marked, 0.5 / n_clean)
    # Platt's targets, not 1 and 0: finite even where the scores separate both kinds
    target = torch.where(label, (n_marked + 1) / (n_marked + 2), 1 / (n_clean + 2))
    fit = torch.tensor([1.0, 0.0], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([fit], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = binary_cross_entropy_with_logits(
            fit[0] * logits + fit[1], target, weight, reduction="sum"
        )
        value.backward()
        return value

    optimizer.step(loss)
    return fit[0].item(), fit[1].item()


def collect_scores(segmenter, data, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Score and label (bool) of `count` photos of each slice, and of as many clean as marked."""
    score, label = [], []
    for name in SLICES:
        n_images = count * (len(SLICES) - 1) if name == "clean" else count
        for case in render_cases(name, n_images, seed, data.photos, data.logos, data.fonts):
            score.append(segmenter.segment(case.image).score)
            label.append(image_label(case.mask) == 1)
    return np.array(score), np.array(label)


def logit(probability: np.ndarray) -> np.ndarray:
    probability = np.clip(probability, 1e-7, 1 - 1e-7)
    return np.log(probability / (1 - probability))


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, default=SHIPPED_WEIGHTS, help="folder to change")
    add("--photos", required=True, nargs="+", help="the folders of photos of the training")
    add("--logos", default=ROOT / "logos", help="the folder of logos of the training")
    add("--fonts", help="the folder of fonts of the training")
    add("--val-fraction", type=float, default=0.1, help="as in the training")
    add("--count", type=int, default=20, help="marked photos of each slice")
    add("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        segmenter, model = load_segmenter(options.weights), WatermarkSegmenter.load(options.weights)
        folders = (options.photos, options.logos, options.fonts)
        data = make_datasets(*folders, val_fraction=options.val_fraction)[1]
        score, label = collect_scores(segmenter, data, options.count, options.seed)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"calibrate.py: {error}")
    scale, shift = fit_platt(logit(score), label)
    after = 1 / (1 + np.exp(-(scale * logit(score) + shift)))
    model.network.score_head.rescale(scale, shift)
    model.save(options.weights, half=True)
    errors = [expected_calibration_error(values, label) for values in (score, after)]
    print(f"scale {scale:.3f}, shift {shift:.3f}: calibration error {errors[0]:.3f} before, "
          f"{errors[1]:.3f} after, on the {len(label)} photos it was fitted on")  # fmt: skip


if __name__ == "__main__":
    main()
