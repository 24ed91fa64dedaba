"""A callback that records each process of a training, for tests."""

from pathlib import Path

import pytorch_lightning as pl
import torch

from samples import IGNORE


class RankRecord(pl.Callback):
    """Writes rank0.pt, rank1.pt ... and a checkpoint of the first epoch to a folder."""

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.train, self.val, self.losses, self.metrics, self.weights = [], [], [], {}, {}

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        self.train += [image.numpy().tobytes() for image in batch["image"]]

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())

    def on_validation_epoch_start(self, trainer, model):
        self.val = []

    def on_validation_batch_start(self, trainer, model, batch, batch_idx):
        pairs = zip(batch["image"], batch["mask"])
        self.val += [i.numpy().tobytes() for i, mask in pairs if (mask != IGNORE).any()]

    def on_validation_end(self, trainer, model):
        values = trainer.callback_metrics.items()
        self.metrics = {k: v.item() for k, v in values if k.startswith("val/")}

    def on_train_epoch_end(self, trainer, model):
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.folder / "first.ckpt")
        self.weights = {name: value.clone() for name, value in model.named_parameters()}

    def teardown(self, trainer, model, stage):
        record = dict(
            train=self.train, val=self.val, losses=self.losses, metrics=self.metrics,
            weights=self.weights, averaged=model.state_dict(),
        )  # fmt: skip
        torch.save(record, self.folder / f"rank{trainer.global_rank}.pt")
