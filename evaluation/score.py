"""Fits the score on whole photos: the context of the score head, and the weight of its evidence.

The network trains on small crops. The maxima of its features grow with the area they are taken
over, so on whole photos the score of such a training ranks worse than it could. Only the score
changes here, no mask. What it gains: log 35.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dataset import WatermarkSettings, add_watermark, make_datasets
from evaluation.testset import fit_photo
from inference.segmenter import native_views
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


def fit_score(weights, folders, val_fraction: float, count: int, seed: int) -> str:
    """Writes a score head fitted on training photos into a weights folder; says what it gained.

    Args:
        folders: of photos, logos and fonts, as in the training; see `dataset.make_datasets`.
        val_fraction: as in the training, whose validation files stay unseen.
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
        size = tuple(max(1, round(length * zoom)) for length in photo.shape[1::-1])
        stages = add_watermark(fit_photo(photo, size), params)
        yield stages["image"], image_label(stages["mask"])


def collect_features(model: WatermarkSegmenter, photos) -> tuple[Tensor, Tensor, Tensor]:
    """What the score of each view is made of: all that `segment` sees of photos of known label.

    Returns:
        Maxima of the deepest features (N x C), score logits (N) and labels (N), float32.

    Raises:
        ValueError: the photos are not of both kinds.
    """
    rows, seen = [], []

    def note(head, inputs, score_logit):
        maxima = inputs[1].amax((2, 3))[0].float().cpu()
        seen.append((maxima, score_logit[0].float().cpu()))

    hook = model.network.score_head.register_forward_hook(note)
    try:
        with model.predicting() as predict:
            for image, label in photos:
                if label == IGNORE:
                    continue
                seen.clear()
                for view in native_views(image):
                    predict([view])
                rows += [(*features, torch.tensor(float(label))) for features in seen]
    finally:
        hook.remove()
    if len({label.item() for *_, label in rows}) < 2:
        raise ValueError("The score needs marked and clean photos to be fitted on: raise --count.")
    maxima, logits, labels = map(torch.stack, zip(*rows))
    return maxima, logits, labels


def fit_linear(maxima: Tensor, logits: Tensor, label: Tensor):
    """Logistic regression: label by `scale * logit + shift + weights @ maxima`.

    Args:
        maxima, logits, label: see `collect_features`.

    Returns:
        scale, shift, weights (float32, C), and the loss before and after.
    """
    mean, spread = maxima.mean(0), maxima.std(0).clamp(min=LEAST_SPREAD)
    features = ((maxima - mean) / spread).double()
    logits, label = logits.double(), label.double()
    line = torch.tensor([1.0, 0.0], dtype=torch.double, requires_grad=True)  # scale and shift
    weights = torch.zeros(features.shape[1], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([line, weights], max_iter=500, line_search_fn="strong_wolfe")

    def loss():
        found = line[0] * logits + line[1] + features @ weights
        return binary_cross_entropy_with_logits(found, label)

    def penalised():
        optimizer.zero_grad()
        value = loss() + PENALTY * weights.square().sum()
        value.backward()
        return value

    before = loss().item()
    optimizer.step(penalised)
    scale, shift = line.tolist()
    of_maxima = (weights.detach() / spread).float()
    return scale, shift - (of_maxima @ mean).item(), of_maxima, (before, loss().item())
