"""Fits the score on whole photos, and makes it a probability. No mask changes.

`fit_score`: the network trains on small crops. The maxima of its features grow with the area they
are taken over, so on whole photos the score of such a training ranks worse than it could (log 35).

`calibrate`: scale and shift of the score head's logit, fitted on validation photos with marks of
the slices of `testset.py`. What the strongest region adds to the score stays as it is. Clean and
marked photos weigh the same: a score of 0.5 says that either is as likely, where half of all photos
are marked. Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999.

Both take folders of photos, logos and fonts and the `val_fraction` as in the training, whose
validation files they tell apart by it; see `dataset.make_datasets`.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dataset import WatermarkSettings, add_watermark, make_datasets
from evaluation.metrics import expected_calibration_error
from evaluation.testset import CLEAN, MARKED, SLICES, render_case
from inference.maps import logit, sigmoid
from inference.regions import region_evidence
from inference.runtime import load_segmenter
from inference.segmenter import LEAST_SCORE, native_views
from model import WatermarkSegmenter
from samples import IGNORE
from samples.drawing import draw_sample
from samples.loading import image_label
from samples.splits import (
    TRAINED_ON,
    make_manifest,
    merge_manifests,
    read_manifest,
    write_manifest,
)

SETTINGS = WatermarkSettings(
    clean_probability=0.5, enlarge_probability=0.3, edit_probability=0.05, negative_probability=0
)
SIDES_PX = (192, 640)  # long side of a photo
LARGE_PX, LARGE_PROBABILITY = 1225, 0.08  # of some: their views show what is large and smooth
PENALTY = 0.01  # of squared weights, of features that vary by 1
LEAST_SPREAD = 1e-6  # of a feature over all photos
# To calibrate on. Slices of other sources draw the same marks. No marked slice is edited: edits
# among the clean photos alone would pass for a sign of no mark.
SLICES_USED = [name for name, one in SLICES.items() if one.source == "photos" and not one.edits]
N_MARKED, N_CLEAN = (sum(name in names for name in SLICES_USED) for names in (MARKED, CLEAN))


def fit_logistic(features: Tensor, target: Tensor, weight: Tensor, offset=0.0, penalty=0.0):
    """Logistic regression: target by `features @ coefficients + offset`, float64.

    Args:
        features: N x F. Coefficients start at 1 for the first one, at 0 for the others.
        target, weight: N; the weights add up to 1.
        offset: N, or a number.
        penalty: of the squared coefficients; F, or a number.

    Returns:
        Coefficients (F), and the loss before and after.
    """
    fit = torch.eye(features.shape[1], dtype=torch.double)[0].requires_grad_()
    optimizer = torch.optim.LBFGS([fit], max_iter=500, line_search_fn="strong_wolfe")

    def loss():
        found = features @ fit + offset
        return binary_cross_entropy_with_logits(found, target, weight, reduction="sum")

    def penalised():
        optimizer.zero_grad()
        value = loss() + (penalty * fit.square()).sum()
        value.backward()
        return value

    before = loss().item()
    optimizer.step(penalised)
    return fit.detach(), (before, loss().item())


# --- Fitted on whole photos --------------------------------------------------------------------


def fit_score(weights, folders, val_fraction: float, count: int, seed: int) -> str:
    """Writes a score head fitted on training photos into a weights folder; says what it gained.

    Args:
        count: photos; half of them carry marks.
    """
    model = WatermarkSegmenter.load(weights)
    data = make_datasets(*folders, SETTINGS, val_fraction=val_fraction, seed=seed)[0]
    features = collect_features(model, whole_photos(data, count))
    scale, shift, of_maxima, losses = fit_linear(*features)
    model.network.score_head.rescale(scale, shift, of_maxima)
    model.save(weights, half=True)
    note = Path(weights) / TRAINED_ON
    if note.exists():
        write_manifest(merge_manifests(read_manifest(note), make_manifest(**data.files)), note)
    return (
        f"loss of the score {losses[0]:.3f} before, {losses[1]:.3f} after, on the "
        f"{len(features[2])} views of {count} photos that it was fitted on"
    )


def whole_photos(data, count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Photos of a `WatermarkDataset`, uncropped (uint8, H x W x 3, RGB), and `image_label`."""
    for number in range(count):
        rng = Random(f"{data.seed} whole {number}")
        params = draw_sample(data.settings, rng, len(data.photos), data.logos, data.fonts)
        side = LARGE_PX if rng.random() < LARGE_PROBABILITY else rng.randint(*SIDES_PX)
        photo = data.photos[params.photo].read()
        zoom = side / max(photo.shape[:2])
        size = [max(1, round(length * zoom)) for length in photo.shape[1::-1]]
        method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        stages = add_watermark(cv2.resize(photo, size, interpolation=method), params)
        yield stages["image"], image_label(stages["mask"])


def collect_features(model: WatermarkSegmenter, photos) -> tuple[Tensor, Tensor, Tensor]:
    """What the score of each view is made of: all that `segment` sees of photos of known label.

    Returns:
        Maxima of the deepest features (N x C), score logits (N) and labels (N), float32.

    Raises:
        ValueError: the photos are not of both kinds.
    """
    maxima, logits, labels = [], [], []

    def note(head, inputs, score_logit):
        maxima.append(inputs[1].amax((2, 3))[0].float().cpu())
        logits.append(score_logit[0].float().cpu())
        labels.append(float(label))

    hook = model.network.score_head.register_forward_hook(note)
    with model.predicting() as predict:
        for image, label in photos:
            for view in native_views(image) if label != IGNORE else ():
                predict([view])
    hook.remove()
    if len(set(labels)) < 2:
        raise ValueError("The score needs marked and clean photos to be fitted on: raise --count.")
    return torch.stack(maxima), torch.stack(logits), torch.tensor(labels)


def fit_linear(maxima: Tensor, logits: Tensor, label: Tensor):
    """Fits label by `scale * logit + shift + weights @ maxima`; see `collect_features`.

    Returns:
        scale, shift, weights (float32, C), and the loss before and after.
    """
    mean, spread = maxima.mean(0), maxima.std(0).clamp(min=LEAST_SPREAD)
    columns = [logits[:, None], torch.ones(len(logits), 1), (maxima - mean) / spread]
    features = torch.cat(columns, 1).double()
    penalty = PENALTY * (torch.arange(features.shape[1]) > 1)  # not of scale and shift
    weight = torch.full((len(label),), 1 / len(label), dtype=torch.double)
    fit, losses = fit_logistic(features, label.double(), weight, penalty=penalty)
    of_maxima = (fit[2:] / spread).float()
    return fit[0].item(), fit[1].item() - (of_maxima @ mean).item(), of_maxima, losses


# --- Calibrated --------------------------------------------------------------------------------


def calibrate(weights, folders, val_fraction: float, count: int, seed: int) -> str:
    """Writes scale and shift into a weights folder; says what they are and what they changed.

    Args:
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
    said = (
        f"scale {scale:.3f}, shift {shift:.3f}: calibration error {errors[0]:.3f} before, "
        f"{errors[1]:.3f} after, on the {len(label)} photos it was fitted on"
    )
    path = Path(weights) / TRAINED_ON
    if path.exists():  # trained on some, if by another split than `val_fraction` says
        here, there = make_manifest(**data.files), read_manifest(path)
        shares = (f"{len(set(here[kind]) & set(there[kind]))} of {len(here[kind])} {kind}"
                  for kind in ("photos", "logos"))  # fmt: skip
        said += f"; trained on, by {path.name}: {', '.join(shares)}"
    return said


def collect_scores(segmenter, data, count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Head's logit, logit of the strongest region, and label (bool) of whole photos.

    `count` photos of each marked slice, as many clean as marked.
    """
    rows = []
    for name in SLICES_USED:
        for index in range(count if name in MARKED else count * N_MARKED // N_CLEAN):
            case = render_case(name, index, seed, data.photos, data.logos, data.fonts)
            found = segmenter.segment(case.image)
            region = region_evidence(found.probability)
            head = logit(np.float64(found.score), LEAST_SCORE) - region
            rows.append((head, region, image_label(case.mask) == 1))
    return tuple(map(np.array, zip(*rows)))


def fit_platt(logits: np.ndarray, fixed: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """(scale, shift) so that sigmoid(scale * logit + shift + fixed) is the probability of label 1.

    Args:
        logits, fixed: float, N.
        label: bool, N; both kinds must occur. Each kind weighs one half.
    """
    n_marked, n_clean = label.sum(), (~label).sum()
    weight = np.where(label, 0.5 / n_marked, 0.5 / n_clean)
    # Platt's targets, not 1 and 0: finite even where the scores separate both kinds
    target = np.where(label, (n_marked + 1) / (n_marked + 2), 1 / (n_clean + 2))
    features = np.stack([logits, np.ones(len(logits))], 1)
    arrays = (torch.tensor(array).double() for array in (features, target, weight, fixed))
    return tuple(fit_logistic(*arrays)[0].tolist())
