"""Makes the score a probability: scale and shift of the score head's logit (Platt scaling).

They are fitted on whole photos with marks of the slices of `testset.py`, from the validation files
of training. What the strongest region adds to the score stays as it is. Clean and marked photos
weigh the same: a score of 0.5 says that either is as likely, where half of all photos are marked.

Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dataset import make_datasets
from evaluation.metrics import expected_calibration_error
from evaluation.testset import CLEAN, MARKED, SLICES, render_case
from inference.maps import logit, sigmoid
from inference.regions import region_evidence
from inference.runtime import load_segmenter
from inference.segmenter import LEAST_SCORE
from model import WatermarkSegmenter
from samples.loading import image_label
from samples.splits import TRAINED_ON, make_manifest, read_manifest

# Slices of other sources draw the same marks. No marked slice is edited: edits among the clean
# photos alone would pass for a sign of no mark.
SLICES_USED = [name for name, one in SLICES.items() if one.source == "photos" and not one.edits]
MARKED_USED, CLEAN_USED = ([n for n in SLICES_USED if n in names] for names in (MARKED, CLEAN))


def fit_platt(logits: np.ndarray, fixed: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """(scale, shift) so that sigmoid(scale * logit + shift + fixed) is the probability of label 1.

    Args:
        logits, fixed: float, N.
        label: bool, N; both kinds must occur. Each kind weighs one half.
    """
    logits, fixed = torch.tensor(logits).double(), torch.tensor(fixed).double()
    label = torch.tensor(label)
    n_marked, n_clean = label.sum().double(), (~label).sum().double()
    weight = torch.where(label, 0.5 / n_marked, 0.5 / n_clean)
    # Platt's targets, not 1 and 0: finite even where the scores separate both kinds
    target = torch.where(label, (n_marked + 1) / (n_marked + 2), 1 / (n_clean + 2))
    fit = torch.tensor([1.0, 0.0], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([fit], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = binary_cross_entropy_with_logits(
            fit[0] * logits + fit[1] + fixed, target, weight, reduction="sum"
        )
        value.backward()
        return value

    optimizer.step(loss)
    return fit[0].item(), fit[1].item()


def collect_scores(segmenter, data, count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Head's logit, logit of the strongest region, and label (bool) of whole photos.

    `count` photos of each marked slice, as many clean as marked.
    """
    rows = []
    for name in SLICES_USED:
        n_images = count if name in MARKED else count * len(MARKED_USED) // len(CLEAN_USED)
        for index in range(n_images):
            case = render_case(name, index, seed, data.photos, data.logos, data.fonts)
            found = segmenter.segment(case.image)
            region = region_evidence(found.probability)
            head = logit(np.float64(found.score), LEAST_SCORE) - region
            rows.append((head, region, image_label(case.mask) == 1))
    return tuple(map(np.array, zip(*rows)))


def calibrate(weights, folders, val_fraction: float, count: int, seed: int) -> str:
    """Writes scale and shift into a weights folder; says what they are and what they changed.

    Args:
        folders: of photos, logos and fonts, as in the training; see `dataset.make_datasets`.
        val_fraction: as in the training.
        count: marked photos of each slice.
    """
    segmenter, model = load_segmenter(weights), WatermarkSegmenter.load(weights)
    data = make_datasets(*folders, val_fraction=val_fraction)[1]
    head, region, label = collect_scores(segmenter, data, count, seed)
    scale, shift = fit_platt(head, region, label)
    model.network.score_head.rescale(scale, shift)
    model.save(weights, half=True)
    logits = head + region, scale * head + shift + region
    errors = [expected_calibration_error(sigmoid(values), label) for values in logits]
    return (
        f"scale {scale:.3f}, shift {shift:.3f}: calibration error {errors[0]:.3f} before, "
        f"{errors[1]:.3f} after, on the {len(label)} photos it was fitted on"
        + _trained_share(data, Path(weights) / TRAINED_ON)
    )


def _trained_share(data, path: Path) -> str:
    """How much of the files was trained on: by another split than `val_fraction` says, perhaps."""
    if not path.exists():
        return ""
    here, there = make_manifest(**data.files), read_manifest(path)
    shares = (
        f"{len(set(here[kind]) & set(there[kind]))} of {len(here[kind])} {kind}"
        for kind in ("photos", "logos")
    )
    return f"; trained on, by {path.name}: {', '.join(shares)}"
