"""The watermark segmenter: loss, metrics, training step, and prediction.

    model = WatermarkSegmenter.load("weights")
    result = model.segment("photo.jpg")
    result.mask  # bool, height x width of the photo

The network (inference/network.py) gives a mask logit for each pixel, and a score logit for the
image. The score is the probability that the image carries a visible mark.
"""

import math
from collections.abc import Sequence
from functools import partial

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import BinaryAUROC, BinaryF1Score, BinaryJaccardIndex
from torchmetrics.functional.classification import binary_jaccard_index

from inference.deploy import TorchSegmenter
from inference.network import SegmentationNetwork
from inference.weights import SavedModel, check_same_network, load_encoder
from samples import IGNORE

NOT_NEGATIVE = (
    "learning_rate", "encoder_rate", "weight_decay", "warmup_steps", "decay_steps", "score_weight",
    "clean_weight",
)  # fmt: skip
CLEAN_LIMIT = 0.001  # a clean photo has a false mark if a larger share of its pixels is marked


def segmentation_loss(logits: Tensor, mask: Tensor, clean_weight: float = 0.0) -> Tensor:
    """The loss of predicted masks: BCE over the pixels, plus soft Dice over the marked images.

    Dice gives small and large marks the same weight, but it ignores clean images. BCE includes
    them, but a small false mark hardly raises it. `clean_weight` adds a penalty for such marks.

    Args:
        logits: float, N x 1 x H x W.
        mask: integer, N x 1 x H x W: 1 = mark, 0 = none, IGNORE = the pixel does not count.
        clean_weight: factor of the mean penalty of the clean images. The penalty of an image grows
            from 0 to 1 with its mean squared probability, and is 0.5 where this is CLEAN_LIMIT.
    """
    return add_means(segmentation_terms(logits, mask, clean_weight))


def segmentation_terms(logits: Tensor, mask: Tensor, clean_weight: float) -> Tensor:
    """The terms of `segmentation_loss`: BCE, Dice and penalty, each as sum and count, 3 x 2."""
    decided = (mask != IGNORE).float()  # N x 1 x H x W
    target = (mask == 1).float()
    bce = binary_cross_entropy_with_logits(logits, target, decided, reduction="sum")
    probability = logits.sigmoid() * decided
    overlap = (probability * target).sum((1, 2, 3))  # N
    total = (probability + target).sum((1, 2, 3))
    marked = target.amax((1, 2, 3))
    dice = (1 - (2 * overlap + 1) / (total + 1)) * marked
    clean = (1 - marked) * decided.amax((1, 2, 3))  # 0 for padding, which is all IGNORE
    share = probability.square().sum((1, 2, 3)) / decided.sum((1, 2, 3)).clamp(min=1)
    penalty = share / (share + CLEAN_LIMIT) * clean
    sums = torch.stack([bce, dice.sum(), clean_weight * penalty.sum()])
    return torch.stack([sums, torch.stack([decided.sum(), marked.sum(), clean.sum()])], 1)


def score_terms(score_logit: Tensor, label: Tensor) -> Tensor:
    """BCE of score logits (N) against labels (N: 1, 0 or IGNORE), as sum and count, 1 x 2."""
    decided = (label != IGNORE).float()
    bce = binary_cross_entropy_with_logits(score_logit, (label == 1).float(), reduction="none")
    return torch.stack([(bce * decided).sum(), decided.sum()])[None]


def add_means(terms: Tensor) -> Tensor:
    """Adds K means. `terms` has the sum and the count of each, K x 2. The mean of nothing is 0."""
    sums, counts = terms.unbind(1)
    return (sums / counts.clamp(min=1)).sum()


class MeanLoss(Metric):
    """The loss of all batches, of all processes, as if they were one batch."""

    def __init__(self, terms: int):
        super().__init__()
        self.add_state("terms", torch.zeros(terms, 2), "sum")

    def update(self, terms: Tensor) -> None:
        self.terms += terms

    def compute(self) -> Tensor:
        return add_means(self.terms)


def rate_at(step: int, warmup: int, decay: int, total: float) -> float:
    """The factor on the learning rate at a step: it rises to 1, stays there, and falls to 0.

    Args:
        step: number of the step, from 0.
        warmup, decay: number of steps in which it rises and falls, or 0.
        total: number of steps of the training; math.inf if it has no end.
    """
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = min(1.0, max(0.0, total - step) / min(decay, total)) if decay else 1.0
    return min(rise, fall)


class WatermarkSegmenter(pl.LightningModule, TorchSegmenter, SavedModel):
    """Trains and runs the network. Batches come from `dataset.WatermarkDataset`.

    `segment` and `export_onnx` come from `inference.deploy.TorchSegmenter`; `save`, `load`,
    `from_pretrained` and `push_to_hub` from `inference.weights.SavedModel`.
    """

    def __init__(
        self,
        encoder: str = "timm-tf_efficientnet_lite0",
        encoder_weights: str | None = None,
        bridge_channels: int = 96,
        decoder_channels: Sequence[int] = (96, 64, 32, 16),
        learning_rate: float = 1e-3,
        encoder_rate: float = 0.5,
        weight_decay: float = 1e-2,
        warmup_steps: int = 200,
        decay_steps: int = 0,
        score_weight: float = 0.2,
        clean_weight: float = 0.0,
        freeze_batch_norm: bool = False,
    ):
        """
        Args:
            encoder: a name that smp.encoders.get_encoder knows.
            encoder_weights: start weights of the encoder: "imagenet" (smp downloads them), a path
                to a .safetensors file with smp's names, or None (random).
            bridge_channels: channels to which the encoder's deepest features are reduced.
            decoder_channels: width of each decoder block, deepest first.
            learning_rate, weight_decay: arguments of AdamW. Norms and biases do not decay.
            encoder_rate: the encoder's learning rate, as a fraction of `learning_rate`.
            warmup_steps: the learning rate rises linearly during this many first steps.
            decay_steps: the learning rate falls linearly to 0 during this many last steps. With 0
                it stays constant, and you can continue the training from its checkpoint.
            score_weight: weight of the score in the loss; with 0 the score head does not learn.
            clean_weight: weight of the penalty for false marks on clean images. With 0.3 half as
                many photos have a false mark, but the network misses more marks (log 50).
            freeze_batch_norm: keep the statistics of batch norm. Use it for a short training of
                trained weights, because the statistics of few samples are worse.
        """
        super().__init__()
        self.save_hyperparameters()
        for name in NOT_NEGATIVE:
            if not 0 <= self.hparams[name] < math.inf:
                raise ValueError(f"{name} is {self.hparams[name]}; give 0 or more.")
        self.network = SegmentationNetwork(encoder, bridge_channels, decoder_channels)
        if encoder_weights is not None:
            load_encoder(self.network.encoder, encoder, encoder_weights)
        self.mean_loss = MeanLoss(terms=4)
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

    def train(self, mode: bool = True) -> "WatermarkSegmenter":
        """Sets the mode of all layers; with `freeze_batch_norm`, batch norm stays in evaluation."""
        super().train(mode)
        if self.hparams.freeze_batch_norm:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def _terms(self, logits: Tensor, score_logit: Tensor, batch) -> Tensor:
        """The terms of the loss: BCE, Dice, penalty and score, each as sum and count, 4 x 2."""
        score = score_terms(score_logit, batch["label"])
        score[:, 0] *= self.hparams.score_weight  # the sum, not the count
        mask = segmentation_terms(logits, batch["mask"], self.hparams.clean_weight)
        return torch.cat([mask, score])

    def on_train_start(self) -> None:
        self.train()  # a loaded model is in evaluation mode, which Lightning does not change
        self._set_rates()

    def training_step(self, batch, batch_idx: int) -> Tensor:
        loss = add_means(self._terms(*self(batch["image"]), batch))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        self._share_statistics()
        # `validate` leaves inference tensors in the metrics, and `fit` cannot update these.
        for module in self.children():
            if isinstance(module, Metric):
                module.reset()

    def on_train_end(self) -> None:
        self._share_statistics()

    def _share_statistics(self) -> None:
        """Copies the batch-norm statistics of the first process, which are saved, to the others.

        The processes have the same weights, but each has the statistics of its own samples. DDP
        copies them too, but not after a step that only accumulates gradients.
        """
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch, batch_idx: int) -> None:
        logits, score_logit = self(batch["image"])
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
        self.mean_loss.update(self._terms(logits, score_logit, batch))
        self.log("val/loss", self.mean_loss)
        self.log("val/iou", self.image_iou, prog_bar=True)  # mean over the marked photos
        self.log("val/pooled_iou", self.pooled_iou)
        self.log("val/f1", self.f1)
        self.log("val/clean_marked", self.clean_marked)  # share of the clean photos
        self.log("val/score_auroc", self.auroc)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Raises ValueError if the checkpoint is of another network."""
        check_same_network(checkpoint.get("hyper_parameters", {}), self.hparams)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.network.freeze_unused()

    def configure_optimizers(self):
        settings, optimizer = self.hparams, torch.optim.AdamW(self._groups())
        total = self.trainer.estimated_stepping_batches
        if settings.decay_steps and math.isinf(total):
            raise ValueError("decay_steps needs an end: give --trainer.max_steps or max_epochs.")
        rate = partial(
            rate_at, warmup=settings.warmup_steps, decay=settings.decay_steps, total=total
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def _groups(self) -> list[dict]:
        settings = self.hparams
        rates = settings.learning_rate * settings.encoder_rate, settings.learning_rate
        return self.network.parameter_groups(*rates, settings.weight_decay)

    def _set_rates(self) -> None:
        """Replaces the checkpoint's learning rates and weight decay by those of this model."""
        scheduler = self.lr_schedulers()
        groups = scheduler.optimizer.param_groups
        for group, own, factor in zip(groups, self._groups(), scheduler.lr_lambdas):
            lr = own["lr"] * factor(scheduler.last_epoch)
            group.update(lr=lr, initial_lr=own["lr"], weight_decay=own["weight_decay"])
        scheduler.base_lrs = [group["initial_lr"] for group in groups]
