"""The watermark segmenter: network, loss, metrics, training step, and image in, mask out.

    model = WatermarkSegmenter.load("weights")
    result = model.segment("photo.jpg")
    result.mask  # bool, height x width of the photo

The network is a segmentation-models-pytorch model with two heads: mask logits for each pixel, and
one logit for the score "this photo carries a visible mark". Normalisation is part of it.
"""

import copy
import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import BinaryAUROC, BinaryF1Score, BinaryJaccardIndex
from torchmetrics.functional.classification import binary_jaccard_index
from torchvision.ops import sigmoid_focal_loss

from images import IGNORE, read_image
from inference import MIN_SCORE, THRESHOLD, Predict, Segmentation, check_limits, segment_image

ROOT = Path(__file__).parent
COARSE_CHANNELS = 8  # of the decoder's output, which the full-size image refines
REFINE_CHANNELS = 16
EVIDENCE_PX = 8  # side of the patches whose mean probability counts for the score
STRIDE = 32  # the encoder halves the image five times
# Views of equal shape that go through the network together. On CPUs that gains nothing, and alone
# a view gives the same bits whatever it comes with.
VIEWS_AT_ONCE = {"cpu": 1, "cuda": 8, "mps": 8}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMAT, VERSION = "watermark-segmentation", 2
NETWORK_KEYS = ("architecture", "encoder", "decoder_channels")
CLEAN_LIMIT = 0.001  # a clean photo counts as falsely marked above this share of its pixels


class SegmentationNetwork(nn.Module):
    """An smp model that takes plain RGB and returns mask logits and a score logit.

    An smp decoder sees the photo at half its size or less, so that thin letters run together. Two
    convolutions at full size, which see the photo itself, correct its logits.
    """

    def __init__(self, architecture: str, encoder: str, decoder_channels: Sequence[int] | None):
        super().__init__()
        options = {"decoder_channels": tuple(decoder_channels)} if decoder_channels else {}
        head = {"classes": 1, "pooling": "max", "dropout": None}
        self.model = smp.create_model(
            architecture, encoder, None, classes=COARSE_CHANNELS, aux_params=head, **options
        )
        self.refine = nn.Sequential(
            nn.Conv2d(COARSE_CHANNELS + 3, REFINE_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(REFINE_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(REFINE_CHANNELS, 1, 3, padding=1),
        )
        self.evidence_weight = nn.Parameter(torch.tensor(5.0))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.to(memory_format=torch.channels_last)  # 1.5 times as fast on CPUs

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if (
            image.ndim != 4
            or image.shape[1] != 3
            or image.shape[2] % STRIDE
            or image.shape[3] % STRIDE
        ):
            raise ValueError(
                f"Got a batch of shape {tuple(image.shape)}; it must be N x 3 x H x W with H and W "
                f"multiples of {STRIDE}. `segment` takes images of any size."
            )
        if not image.is_floating_point():
            image = image.float() / 255
        image = (image - self.mean) / self.std
        image = image.contiguous(memory_format=torch.channels_last)
        coarse, context = self.model(image)  # N x COARSE_CHANNELS x H x W, N x 1
        logits = coarse[:, :1] + self.refine(torch.cat([coarse, image], 1))
        logits, context = logits.float(), context[:, 0].float()  # N x 1 x H x W, N
        # The score rests on the strongest patch of the mask: one small mark anywhere must do.
        evidence = avg_pool2d(logits.sigmoid(), EVIDENCE_PX).amax((1, 2, 3))  # N
        return logits, context + self.evidence_weight * evidence

    @torch.no_grad()
    def rescale_score(self, scale: float, shift: float) -> None:
        """Makes the score logit `scale * logit + shift`."""
        linear = next(m for m in self.model.classification_head if isinstance(m, nn.Linear))
        linear.weight.mul_(scale)
        linear.bias.mul_(scale).add_(shift)
        self.evidence_weight.mul_(scale)


def load_encoder(encoder: nn.Module, name: str, weights: str | os.PathLike) -> None:
    """Fills an smp encoder with "imagenet" weights, as smp downloads them, or a local file's.

    Raises:
        ConnectionError: "imagenet" was asked and the hub cannot be reached.
        FileNotFoundError, ValueError: the file is missing, or of another encoder.
    """
    choices = "a path to the encoder's .safetensors file, or None for a random start"
    if str(weights) == "imagenet":
        try:
            pretrained = smp.encoders.get_encoder(name, weights="imagenet")
        except OSError as error:
            raise ConnectionError(
                f"The ImageNet weights of {name} cannot be downloaded ({type(error).__name__}). "
                f"Without a network, set encoder_weights to {choices}."
            ) from error
        encoder.load_state_dict(pretrained.state_dict())
        return
    if not Path(weights).is_file():
        raise FileNotFoundError(
            f'No encoder weights at {weights}. Give "imagenet" (downloads), {choices}.'
        )
    load_weights(encoder, Path(weights), f"the encoder {name}")


def load_weights(module: nn.Module, path: Path, what: str) -> None:
    """Fills a module from a .safetensors file; ValueError if it is damaged or does not fit."""
    try:
        module.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}.") from error
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of {what}. {error}") from error


PIXEL_LOSSES = {  # (logits, target), both float N x 1 x H x W, to the loss of each pixel
    "bce": partial(binary_cross_entropy_with_logits, reduction="none"),
    "focal": partial(sigmoid_focal_loss, alpha=-1, gamma=2),
}


def segmentation_loss(logits: Tensor, mask: Tensor, pixel_loss: str = "bce") -> Tensor:
    """Loss of all decidable pixels plus soft Dice of each image, averaged over marked images.

    Dice weighs small marks like large ones but says nothing about clean photos; BCE does.

    Args:
        logits: float, N x 1 x H x W.
        mask: integer, N x 1 x H x W: 1, 0, or IGNORE for pixels without weight.
        pixel_loss: a name in PIXEL_LOSSES.
    """
    decided = (mask != IGNORE).float()
    target = (mask == 1).float()
    pixels = PIXEL_LOSSES[pixel_loss](logits, target)
    pixels = (pixels * decided).sum() / decided.sum().clamp(min=1)
    probability = logits.sigmoid() * decided
    overlap = (probability * target).sum((1, 2, 3))  # N
    total = (probability + target).sum((1, 2, 3))
    marked = target.amax((1, 2, 3))
    dice = (1 - (2 * overlap + 1) / (total + 1)) * marked
    return pixels + dice.sum() / marked.sum().clamp(min=1)


def score_loss(score_logit: Tensor, label: Tensor) -> Tensor:
    """BCE of the image score; N and N, label 1, 0, or IGNORE."""
    decided = (label != IGNORE).float()
    bce = binary_cross_entropy_with_logits(score_logit, (label == 1).float(), reduction="none")
    return (bce * decided).sum() / decided.sum().clamp(min=1)


def keep_loss(logits: Tensor, before: Tensor) -> Tensor:
    """How far probabilities moved: mean Kullback-Leibler divergence from those of `before`.

    Args:
        logits, before: float, of equal shape; gradients flow to the first.

    Source: Li and Hoiem, "Learning without Forgetting", ECCV 2016.
    """
    target = before.sigmoid()
    moved = binary_cross_entropy_with_logits(logits, target)
    return moved - binary_cross_entropy_with_logits(before, target)


def mix_pictures(image: Tensor) -> Tensor:
    """Each picture of a batch, float N x 3 x H x W, with a mirrored other one shining through."""
    share = torch.empty(len(image), 1, 1, 1, device=image.device).uniform_(0.5, 1)
    return share * image + (1 - share) * image.roll(1, 0).flip(3)


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively; elsewhere autocast only slows things down."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def best_device() -> torch.device:
    """CUDA (under torchrun each process its own), else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def best_precision() -> str:
    """Lightning's `precision` for this machine: bf16-mixed where it is native, else 32-true."""
    return "bf16-mixed" if bf16_is_fast(best_device()) else "32-true"


class WatermarkSegmenter(pl.LightningModule):
    """Trains and runs the network. Batches are those of `dataset.WatermarkDataset`."""

    def __init__(
        self,
        architecture: str = "unet",
        encoder: str = "mobilenet_v2",
        encoder_weights: str | None = None,
        decoder_channels: Sequence[int] | None = (128, 64, 32, 16, 16),
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        warmup_fraction: float = 0.05,
        score_weight: float = 0.2,
        pixel_loss: str = "bce",
        keep_weight: float = 0.0,
    ):
        """
        Args:
            architecture, encoder: names in smp.create_model.
            encoder_weights: start of the encoder: "imagenet" (smp downloads it), a path to a
                .safetensors file in smp's naming, or None (random).
            decoder_channels: width of each decoder block, deepest first; None for smp's own and
                for architectures without such a setting. The default is half of smp's, twice as
                fast.
            learning_rate, weight_decay: of AdamW; the rate is the peak after warm-up.
            warmup_fraction: share of the training with a rising rate; a cosine to 0 follows.
            score_weight: weight of the image score in the loss; 0 turns the head off.
            pixel_loss: a name in PIXEL_LOSSES, added to the Dice loss.
            keep_weight: above 0, the training starts from a trained network and must not forget:
                on the batch's general samples (`adapt.MixedDataset`) the answer of that network is
                the target, with this weight, and batch norm keeps its statistics.
        """
        if pixel_loss not in PIXEL_LOSSES:
            raise ValueError(f"pixel_loss is {pixel_loss!r}; use {', '.join(PIXEL_LOSSES)}.")
        super().__init__()
        self.save_hyperparameters()
        try:
            self.network = SegmentationNetwork(architecture, encoder, decoder_channels)
        except KeyError as error:  # smp's, for names that it does not know
            raise ValueError(
                f"No network of architecture {architecture!r} and encoder {encoder!r}: {error}. "
                "Use names that segmentation-models-pytorch knows."
            ) from error
        if encoder_weights is not None:
            load_encoder(self.network.model.encoder, encoder, encoder_weights)
        # Part of the checkpoint, so that a resumed training keeps to the same answers.
        self.teacher = copy.deepcopy(self.network).requires_grad_(False) if keep_weight else None
        self.image_iou, self.clean_marked = MeanMetric(), MeanMetric()
        self.pooled_iou = BinaryJaccardIndex(ignore_index=IGNORE)
        self.f1 = BinaryF1Score(ignore_index=IGNORE)
        self.auroc = BinaryAUROC(thresholds=200, ignore_index=IGNORE)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits and score logit.

        Args:
            image: RGB, N x 3 x H x W, H and W multiples of 32; integers in 0..255 or floats in
                0..1.

        Returns:
            float32 logits, N x 1 x H x W, and float32 score logits, N.
        """
        return self.network(image)

    def start_from(self, path: Path, what: str) -> None:
        """Fills the network from a .safetensors file; see `load_weights`."""
        load_weights(self.network, path, what)
        if self.teacher is not None:
            self.teacher.load_state_dict(self.network.state_dict())

    def train(self, mode: bool = True) -> "WatermarkSegmenter":
        super().train(mode)
        if self.teacher is not None:
            for module in [self.teacher, *self.network.modules()]:
                if module is self.teacher or isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def _loss(self, batch) -> tuple[Tensor, Tensor, Tensor]:
        logits, score_logit = self(batch["image"])
        return self._truth_loss(logits, score_logit, batch), logits, score_logit

    def _truth_loss(self, logits: Tensor, score_logit: Tensor, batch) -> Tensor:
        loss = segmentation_loss(logits, batch["mask"], self.hparams.pixel_loss)
        return loss + self.hparams.score_weight * score_loss(score_logit, batch["label"])

    def _adapting_loss(self, batch) -> Tensor:
        """Own samples are judged by their truth, general ones by what the teacher answers.

        The teacher answers on any picture: mixed ones make many of the few photos at hand.
        """
        general, image = batch["general"], batch["image"].float() / 255
        image[general] = mix_pictures(image[general])
        logits, score_logit = self(image)
        loss, share = 0.0, general.float().mean()
        if share < 1:
            own = {name: value[~general] for name, value in batch.items()}
            loss = (1 - share) * self._truth_loss(logits[~general], score_logit[~general], own)
        if share > 0:
            with torch.no_grad():
                before, score_before = self.teacher(image[general])
            moved = keep_loss(logits[general], before)
            moved += self.hparams.score_weight * keep_loss(score_logit[general], score_before)
            loss = loss + share * self.hparams.keep_weight * moved
        return loss

    def on_train_start(self) -> None:
        self.train()  # Lightning keeps the mode that it finds, and `load` leaves evaluation mode

    def training_step(self, batch, batch_idx: int) -> Tensor:
        loss = self._loss(batch)[0] if self.teacher is None else self._adapting_loss(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        # `validate` leaves inference tensors in the metrics, which a later `fit` cannot update.
        for module in self.children():
            if isinstance(module, Metric):
                module.reset()

    def validation_step(self, batch, batch_idx: int) -> None:
        loss, logits, score_logit = self._loss(batch)
        mask, label = batch["mask"].long(), batch["label"].long()
        predicted = (logits >= 0).long()
        for one_predicted, one_mask, one_label in zip(predicted, mask, label):
            if one_label == 1:
                iou = binary_jaccard_index(one_predicted, one_mask, ignore_index=IGNORE)
                self.image_iou.update(iou)
            elif one_label == 0:
                share = one_predicted.float().mean()
                self.clean_marked.update((share > CLEAN_LIMIT).float())
        self.pooled_iou.update(predicted, mask)
        self.f1.update(predicted, mask)
        self.auroc.update(score_logit.sigmoid(), label)
        self.log("val/loss", loss, batch_size=len(mask), sync_dist=True)
        self.log("val/iou", self.image_iou, prog_bar=True)  # mean over marked photos
        self.log("val/pooled_iou", self.pooled_iou)
        self.log("val/f1", self.f1)
        self.log("val/clean_marked", self.clean_marked)  # share of clean photos
        self.log("val/score_auroc", self.auroc)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Raises ValueError if the checkpoint is of another network."""
        saved = checkpoint.get("hyper_parameters", {})
        for name in NETWORK_KEYS:
            one, other = (np.array(values.get(name)) for values in (saved, self.hparams))
            if not np.array_equal(one, other):
                raise ValueError(
                    f"The checkpoint's {name} is {one.tolist()}, this model's is {other.tolist()}. "
                    f"Give --model.{name} as in the run that wrote it (config.yaml in its folder)."
                )

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), self.hparams.learning_rate, weight_decay=self.hparams.weight_decay
        )
        steps = max(1, self.trainer.estimated_stepping_batches)
        warmup = max(1, round(self.hparams.warmup_fraction * steps))

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            done = min(1.0, (step - warmup) / max(1, steps - warmup))
            return 0.5 * (1 + math.cos(math.pi * done))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def segment(
        self,
        image,
        threshold: float = THRESHOLD,
        dilation_px: int = 0,
        min_score: float = MIN_SCORE,
    ) -> Segmentation:
        """The watermark in one image.

        Args:
            image: a path, PIL image or array of any size and mode; see `images.read_image`.
            threshold: probability from which a pixel belongs to the mask, 0..1.
            dilation_px: widen the mask by a disk of this radius.
            min_score: a photo with a lower score, 0..1, gets an empty mask; 0 for always a mask.
                The default halves the false alarms on clean photos (EXPERIMENTS.md).

        Returns:
            A `Segmentation` of the image's own size (after EXIF orientation).

        Raises:
            FileNotFoundError, ValueError: the image cannot be read, or an argument is off.
        """
        check_limits(threshold, dilation_px, min_score)
        rgb = read_image(image)
        with self.predicting() as predict:
            return segment_image(predict, rgb, threshold, dilation_px, min_score)

    @contextmanager
    def predicting(self) -> Iterator[Predict]:
        """`predict_views`, with the network in evaluation mode meanwhile."""
        was_training = self.training
        self.eval()
        try:
            yield self.predict_views
        finally:
            self.train(was_training)

    @torch.inference_mode()
    def predict_views(self, views: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
        """Probability and score of each view, as `inference.Predict` says; for eval mode."""
        at_once = VIEWS_AT_ONCE.get(self.device.type, 1)
        results = []
        for _, group in itertools.groupby(views, key=lambda view: view.shape):
            group = list(group)
            for start in range(0, len(group), at_once):
                results += self._predict_batch(group[start : start + at_once])
        return results

    def _predict_batch(self, views: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
        height, width = views[0].shape[:2]
        padding = (0, -height % STRIDE, 0, -width % STRIDE)
        padded = [cv2.copyMakeBorder(view, *padding, cv2.BORDER_REFLECT_101) for view in views]
        batch = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, bf16_is_fast(self.device)):
            logits, score_logit = self(batch)  # N x 1 x H x W, N
        probability = logits.sigmoid()[:, 0, :height, :width].cpu().numpy()
        return list(zip(probability, score_logit.sigmoid().tolist()))

    def save(self, folder, half: bool = False) -> None:
        """Writes `config.json` and `model.safetensors`, which `load` reads.

        Args:
            folder: created if missing; an older model there is replaced.
            half: store float16, half the size; outputs then differ in the third decimal.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "format": FORMAT,
            "version": VERSION,
            **{n: self.hparams[n] for n in NETWORK_KEYS},
        }
        state = {
            name: (value.half() if half and value.is_floating_point() else value).contiguous()
            for name, value in self.network.state_dict().items()
        }
        save_file(state, folder / "model.safetensors.part")
        os.replace(folder / "model.safetensors.part", folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, folder=ROOT / "weights", **settings) -> "WatermarkSegmenter":
        """The model in a folder that `save` wrote, on the CPU, ready to segment or to train on.

        Args:
            folder: by default the weights that come with this repository.
            settings: training arguments of the constructor, such as learning_rate.

        Raises:
            FileNotFoundError: the folder or one of its two files is missing.
            ValueError: a file is damaged, or of another program or network.
        """
        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"No {name} in {folder}. Give a folder that `WatermarkSegmenter.save` wrote."
                )
        try:
            config = json.loads((folder / "config.json").read_text())
        except ValueError as error:
            raise ValueError(f"{folder}/config.json is damaged: {error}.") from error
        found = (config.get("format"), config.get("version")) if isinstance(config, dict) else None
        if found != (FORMAT, VERSION):
            raise ValueError(f"{folder}/config.json is of {found}, not of {(FORMAT, VERSION)}.")
        try:
            model = cls(**{name: config[name] for name in NETWORK_KEYS}, **settings)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{folder}/config.json names no network: {error}. It needs the names that "
                f"segmentation-models-pytorch knows for {', '.join(NETWORK_KEYS)}."
            ) from error
        model.start_from(folder / "model.safetensors", "the network in config.json")
        return model.eval()
