"""Fits the score on whole photos, and makes it a probability. The masks do not change.

`fit_score` fits the score head on whole training photos. The training sees only small crops. The
maxima of the features are larger on whole photos, so there the score is less accurate (log 35).

`calibrate` fits a scale and a shift of the score head's logit on validation photos with marks of
the slices of `testset.py`. The evidence of the strongest region is added as before. Clean and
marked photos weigh the same, so the score is a probability where half of all photos are marked.
Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999.

Both need the `val_fraction` of the training to find its training or validation files. `folders` are
folders of photos, of logos and of fonts; see `dataset.make_datasets`.
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
from samples.splits import TRAINED_ON, make_manifest, merge_manifests, read_manifest, write_manifest

SETTINGS = WatermarkSettings(
    clean_probability=0.5, enlarge_probability=0.3, edit_probability=0.05, negative_probability=0
)
SIDES_PX = (192, 640)  # long side of a photo
LARGE_PX, LARGE_PROBABILITY = 1225, 0.08  # some are larger: their views have large smooth areas
PENALTY = 0.01  # on squared weights; each feature has a standard deviation of 1
LEAST_SPREAD = 1e-6  # smallest standard deviation to divide a feature by
# Slices to calibrate on. Other sources have the same marks. Only clean slices have edits, so the
# score would learn that an edited photo is clean.
SLICES_USED = [name for name, one in SLICES.items() if one.source == "photos" and not one.edits]
N_MARKED, N_CLEAN = (sum(name in names for name in SLICES_USED) for names in (MARKED, CLEAN))


def fit_logistic(features: Tensor, target: Tensor, weight: Tensor, offset=0.0, penalty=0.0):
    """Logistic regression of `target` on `features @ coefficients + offset`, float64.

    Args:
        features: N x F. The first coefficient starts at 1, the others at 0.
        target, weight: N; the weights add up to 1.
        offset: N, or a number.
        penalty: F, or a number; factor of the squared coefficients in the loss.

    Returns:
        Coefficients (F), and the losses before and after the fit.
    """
    coefficients = torch.eye(features.shape[1], dtype=torch.double)[0].requires_grad_()
    optimizer = torch.optim.LBFGS([coefficients], max_iter=500, line_search_fn="strong_wolfe")

    def loss():
        logits = features @ coefficients + offset
        return binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")

    def penalised():
        optimizer.zero_grad()
        value = loss() + (penalty * coefficients.square()).sum()
        value.backward()
        return value

    before = loss().item()
    optimizer.step(penalised)
    return coefficients.detach(), (before, loss().item())


# --- Fit on whole photos -----------------------------------------------------------------------


def fit_score(weights, folders, val_fraction: float, count: int, seed: int) -> str:
    """Fits the score head on training photos, changes the weights folder, and returns a message.

    Args:
        count: number of photos. Half of them get marks.
    """
    model = WatermarkSegmenter.load(weights)
    data = make_datasets(*folders, SETTINGS, val_fraction=val_fraction, seed=seed)[0]
    features = collect_features(model, whole_photos(data, count))
    *fit, losses = fit_linear(*features)
    model.network.score_head.rescale(*fit)
    model.save(weights, half=True)
    path = Path(weights) / TRAINED_ON
    if path.exists():
        write_manifest(merge_manifests(read_manifest(path), make_manifest(**data.files)), path)
    return (
        f"Loss of the score: {losses[0]:.3f} before, {losses[1]:.3f} after, on the {count} photos "
        f"({len(features[2])} views) that it was fitted on."
    )


def whole_photos(data, count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Whole photos (uint8, H x W x 3, RGB), some with marks, and their labels (0, 1 or IGNORE)."""
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
    """Runs the network on the views of photos, and keeps the inputs of the score.

    Args:
        photos: from `whole_photos`. Those with the label IGNORE are left out.

    Returns:
        Of N views: maxima of the deepest features (N x C), score logits (N), labels (N); float32.

    Raises:
        ValueError: there are no marked or no clean photos.
    """
    maxima, logits, labels = [], [], []

    def record(head, inputs, score_logit):
        maxima.append(inputs[1].amax((2, 3))[0].float().cpu())
        logits.append(score_logit[0].float().cpu())
        labels.append(float(label))

    hook = model.network.score_head.register_forward_hook(record)
    with model.predicting() as predict:
        for image, label in photos:
            for view in native_views(image) if label != IGNORE else ():
                predict([view])
    hook.remove()
    if len(set(labels)) < 2:
        raise ValueError("The fit needs both marked and clean photos: raise --count.")
    return torch.stack(maxima), torch.stack(logits), torch.tensor(labels)


def fit_linear(maxima: Tensor, logits: Tensor, label: Tensor):
    """Fits `scale * logit + shift + weights @ maxima` to the labels; see `collect_features`.

    Returns:
        scale, shift, weights (float32, C), and the losses before and after the fit.
    """
    mean, spread = maxima.mean(0), maxima.std(0).clamp(min=LEAST_SPREAD)
    columns = [logits[:, None], torch.ones(len(logits), 1), (maxima - mean) / spread]
    features = torch.cat(columns, 1).double()
    penalty = PENALTY * (torch.arange(features.shape[1]) > 1)  # none on scale and shift
    weight = torch.full((len(label),), 1 / len(label), dtype=torch.double)
    fit, losses = fit_logistic(features, label.double(), weight, penalty=penalty)
    weights = (fit[2:] / spread).float()
    return fit[0].item(), fit[1].item() - (weights @ mean).item(), weights, losses


# --- Calibrate ---------------------------------------------------------------------------------


def calibrate(weights, folders, val_fraction: float, count: int, seed: int) -> str:
    """Fits scale and shift of the score, changes the weights folder, and returns a message.

    Args:
        count: number of marked photos of each slice.
    """
    segmenter, model = load_segmenter(weights), WatermarkSegmenter.load(weights)
    data = make_datasets(*folders, val_fraction=val_fraction)[1]
    head, region, label = collect_scores(segmenter, data, count, seed)
    scale, shift = fit_platt(head, region, label)
    model.network.score_head.rescale(scale, shift)
    model.save(weights, half=True)
    logits = head + region, scale * head + shift + region
    errors = [expected_calibration_error(sigmoid(values), label) for values in logits]
    message = (
        f"Scale {scale:.3f}, shift {shift:.3f}. Calibration error: {errors[0]:.3f} before, "
        f"{errors[1]:.3f} after, on the {len(label)} photos that it was fitted on."
    )
    path = Path(weights) / TRAINED_ON
    if path.exists():  # tells if `val_fraction` is not that of the training
        used, trained_on = make_manifest(**data.files), read_manifest(path)
        counts = (f"{len(set(used[kind]) & set(trained_on[kind]))} of {len(used[kind])} {kind}"
                  for kind in ("photos", "logos"))  # fmt: skip
        message += f" The training used {', '.join(counts)} of these."
    return message


def collect_scores(segmenter, data, count: int, seed: int) -> tuple[np.ndarray, ...]:
    """The score head's logit, the strongest region's logit, and the label (bool) of photos.

    There are `count` photos of each marked slice, and as many clean photos as marked ones.
    """
    rows = []
    for name in SLICES_USED:
        for index in range(count if name in MARKED else count * N_MARKED // N_CLEAN):
            case = render_case(name, index, seed, data.photos, data.logos, data.fonts)
            result = segmenter.segment(case.image)
            region = region_evidence(result.probability)
            head = logit(np.float64(result.score), LEAST_SCORE) - region
            rows.append((head, region, image_label(case.mask) == 1))
    return tuple(map(np.array, zip(*rows)))


def fit_platt(logits: np.ndarray, fixed: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """(scale, shift) that make sigmoid(scale * logit + shift + fixed) the probability of a mark.

    Args:
        logits, fixed: float, N.
        label: bool, N, with both values. All True and all False ones together weigh the same.
    """
    n_marked, n_clean = label.sum(), (~label).sum()
    weight = np.where(label, 0.5 / n_marked, 0.5 / n_clean)
    # Platt's targets instead of 1 and 0: the fit is finite even if the logits separate the labels.
    target = np.where(label, (n_marked + 1) / (n_marked + 2), 1 / (n_clean + 2))
    features = np.stack([logits, np.ones(len(logits))], 1)
    arrays = (torch.tensor(array).double() for array in (features, target, weight, fixed))
    return tuple(fit_logistic(*arrays)[0].tolist())
