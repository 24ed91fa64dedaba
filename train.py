"""Trains the segmenter: `python train.py fit --config configs/stage1.yaml --data.photos DIR`.

Every argument of `WatermarkSegmenter`, `WatermarkData` and Lightning's Trainer can be given on the
command line or in a YAML file. The run's folder under lightning_logs/ gets the metrics, `last.ckpt`
after every epoch (continue with `--ckpt_path .../last.ckpt`) and `weights/`, the averaged model.
`python train.py validate ... --init_from weights` measures a weights folder on validation samples.
"""

import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.cli import LightningCLI

from dataset import ROOT, WatermarkSettings, make_datasets, make_loader
from model import WatermarkSegmenter, load_weights


class WatermarkData(pl.LightningDataModule):
    """Synthetic samples from folders of photos, logos and fonts; see `dataset.make_datasets`."""

    def __init__(
        self,
        photos: str | None = None,
        logos: str = str(ROOT / "logos"),
        fonts: str | None = None,
        settings: WatermarkSettings | None = None,
        train_length: int = 4096,
        val_length: int = 256,
        val_fraction: float = 0.1,
        batch_size: int = 16,
        workers: int = 2,
        seed: int = 0,
    ):
        super().__init__()
        if train_length < batch_size:
            raise ValueError(
                f"train_length {train_length} is below batch_size {batch_size}: no full batch."
            )
        self.batch_size, self.workers = batch_size, workers
        self.arguments = dict(
            photos=photos, logos=logos, fonts=fonts, settings=settings,
            train_length=train_length, val_length=val_length, val_fraction=val_fraction, seed=seed,
        )  # fmt: skip

    def setup(self, stage: str) -> None:
        self.train_data, self.val_data = make_datasets(**self.arguments)

    def train_dataloader(self):
        return make_loader(self.train_data, self.batch_size, self.workers, train=True)

    def val_dataloader(self):
        return make_loader(self.val_data, self.batch_size, self.workers)


class ProgressLines(pl.Callback):
    """Prints, at most every `every_s` seconds: step, loss, images/s, time left, validation."""

    def __init__(self, every_s: float = 30.0):
        self.every_s = every_s

    def on_train_start(self, trainer, model):
        self.start_s = self.last_s = time.monotonic()
        self.start_step, self.images = trainer.global_step, 0

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        now_s, step = time.monotonic(), trainer.global_step
        self.images += len(batch["image"]) * trainer.world_size
        if now_s - self.last_s < self.every_s:
            return
        self.last_s, passed_s = now_s, now_s - self.start_s
        steps = trainer.estimated_stepping_batches
        left_s = passed_s * (steps - step) / (step - self.start_step)
        print(
            f"step {step}/{steps}  loss {trainer.callback_metrics['train/loss']:.3f}  "
            f"{self.images / passed_s:.1f} images/s  {left_s / 60:.1f} min left",
            flush=True,
        )

    def on_validation_end(self, trainer, model):
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            values = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            print("  ".join(f"{k} {v:.3f}" for k, v in sorted(values.items())), flush=True)


class AveragedWeights(EMAWeightAveraging):
    """Lightning's moving average, written as a weights folder after every validation.

    Saving belongs here: the averaged weights are in the network only until this hook returns.
    """

    def on_validation_epoch_end(self, trainer, model):
        if trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.is_global_zero:
            model.save(Path(trainer.log_dir or trainer.default_root_dir) / "weights", half=True)
        super().on_validation_epoch_end(trainer, model)


class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.add_argument("--init_from", type=str | None, help="weights folder to start from")

    def load_start(self):
        folder = self.config[self.subcommand].init_from
        if folder:
            load_weights(self.model.network, Path(folder) / "model.safetensors", "this network")

    before_fit = before_validate = load_start


if __name__ == "__main__":
    CLI(WatermarkSegmenter, WatermarkData, seed_everything_default=0)
