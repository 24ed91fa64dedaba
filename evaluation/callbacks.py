"""Callbacks of a training: progress, sample pictures, averaged weights, before and after."""

import math
import time
from itertools import chain
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger

from evaluation.figures import COLUMNS, four_columns, picture_grid
from evaluation.metrics import score_mask
from evaluation.tables import table
from evaluation.testset import MARKED, SLICES, synthetic_slices
from evaluation.visibility import DoesNotFit, measure
from inference.folder import SHIPPED_WEIGHTS
from samples.files import sample_photos
from samples.loading import image_label
from samples.splits import TRAINED_ON, write_manifest

OPACITIES, SIZES = (0.1, 0.2, 0.4, 0.8), (0.3, 0.6)  # of your own mark in `BeforeAfter`


def run_folder(trainer) -> Path:
    """The folder of a training, the same in all processes. All of them must call this."""
    return Path(trainer.log_dir or trainer.default_root_dir)


class ProgressLines(pl.Callback):
    """Prints step, loss, images/s and time left every `every_s` seconds, and each validation."""

    def __init__(self, every_s: float = 30.0):
        self.every_s = every_s

    def on_train_start(self, trainer, model):
        self.start_s = self.last_s = time.monotonic()
        self.start_step, self.images = trainer.global_step, 0

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        now_s, step = time.monotonic(), trainer.global_step
        self.images += len(batch["image"]) * trainer.world_size
        if now_s - self.last_s < self.every_s or not trainer.is_global_zero:
            return
        self.last_s, passed_s = now_s, now_s - self.start_s
        steps, loss = trainer.estimated_stepping_batches, trainer.callback_metrics["train/loss"]
        total, left = "", ""
        if math.isfinite(steps) and step > self.start_step:
            left_s = passed_s * (steps - step) / (step - self.start_step)
            total, left = f"/{steps}", f"  {left_s / 60:.1f} min left"
        rate = self.images / passed_s
        print(f"step {step}{total}  loss {loss:.3f}  {rate:.1f} images/s{left}", flush=True)

    def on_validation_end(self, trainer, model):
        if trainer.is_global_zero and not trainer.sanity_checking and trainer.state.fn == "fit":
            values = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            print("  ".join(f"{k} {v:.3f}" for k, v in sorted(values.items())), flush=True)


class SamplePictures(pl.Callback):
    """Draws the masks of the first `count` validation samples after each validation.

    The pictures go to samples/ in the training's folder, and to TensorBoard if it is a logger.
    """

    def __init__(self, count: int = 4):
        self.count = count

    def on_validation_end(self, trainer, model):
        folder, data = run_folder(trainer) / "samples", trainer.datamodule.val_data
        if not trainer.is_global_zero or trainer.state.fn != "fit":
            return
        samples = map(data.stages, range(min(self.count, len(data))))
        rows = [four_columns(s["image"], s["mask"], model.segment(s["image"])) for s in samples]
        figure = picture_grid(rows, COLUMNS)
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{trainer.global_step:07d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("samples", figure, trainer.global_step)
        plt.close(figure)


class AveragedWeights(EMAWeightAveraging):
    """Averages the weights and writes the mean as a weights folder after each validation.

    The network has the mean as its weights only in a validation and at the end of the training.
    """

    def __init__(self, start_share: float = 0.0, **arguments):
        """
        Args:
            start_share: share of the start weights, 0 to below 1. The weights that are validated,
                saved and left in the model are the mean of these and the trained weights. It
                forgets far less (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
            arguments: arguments of EMAWeightAveraging, such as `decay`.
        """
        if not 0 <= start_share < 1:
            raise ValueError(f"start_share is {start_share}; give a number from 0 to below 1.")
        super().__init__(**arguments)
        self.start_share, self.start = start_share, None

    def state_dict(self):
        return {**super().state_dict(), "start": self.start}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.start = state["start"]

    def setup(self, trainer, model, stage):
        """Raises ValueError if the folder of the training is the one of the shipped weights."""
        self.folder = run_folder(trainer) / "weights"
        if self.folder.resolve() == SHIPPED_WEIGHTS.resolve():
            raise ValueError(
                f"The averaged weights would replace those in {SHIPPED_WEIGHTS}. Give the training "
                "another folder: --trainer.default_root_dir DIR."
            )
        super().setup(trainer, model, stage)

    def on_fit_start(self, trainer, model):
        if self.start_share and self.start is None:  # else it comes from the checkpoint
            self.start = [value.detach().clone() for value in model.network.parameters()]

    def on_validation_epoch_start(self, trainer, model):
        super().on_validation_epoch_start(trainer, model)
        self.learnt = [value.detach().clone() for value in model.network.parameters()]
        self._mix(model, self.start, self.start_share)

    def on_validation_epoch_end(self, trainer, model):
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._write(trainer, model)
        self._mix(model, self.learnt, 1)
        super().on_validation_epoch_end(trainer, model)

    def on_train_end(self, trainer, model):  # `max_steps` may end it without a validation
        super().on_train_end(trainer, model)
        self._mix(model, self.start, self.start_share)
        self._write(trainer, model)

    def _write(self, trainer, model):
        if trainer.is_global_zero:
            model.save(self.folder, half=True)
            trained_on = trainer.datamodule.trained_on()
            if trained_on is not None:
                write_manifest(trained_on, self.folder / TRAINED_ON)

    def _mix(self, model, others, share: float):
        if share and others:  # `start` is None in a validation without a training
            for value, other in zip(model.network.parameters(), others):
                value.data.lerp_(other.to(value.device), share)


class BeforeAfter(pl.Callback):
    """Measures the network before and after a training on files that it does not train on.

    It does so only if you train on your own mark, pairs or photos. It prints a table and writes
    before_after.md in the training's folder. The rows are: your mark at each opacity, as the mean
    over SIZES (`visibility.lay_on`); the pairs; false marks on your photos, and marks drawn on
    them; general marks (the slices of `testset.py` whose source is `photos`).
    """

    def __init__(self, count: int = 6, photos: int = 0):
        """
        Args:
            count: number of images for each opacity and size, and for each slice.
            photos: largest number of validation photos in which to count false marks, or 0. They
                must be clean. If it is above 0, general marks lie on scikit-image's photos.
        """
        if count < 1 or photos < 0:
            raise ValueError(f"count {count}, photos {photos}: give a count from 1, photos from 0.")
        self.count, self.photos, self.before = count, photos, None

    def state_dict(self):
        return {"before": self.before, "measured_on": self.measured_on}

    def load_state_dict(self, state):
        self.before, self.before_on = state["before"], state.get("measured_on")

    def setup(self, trainer, model, stage):
        self.folder, data = run_folder(trainer), trainer.datamodule
        self.active = trainer.is_global_zero and bool(data.mark or data.pairs or self.photos)
        files = sorted(f.sha256 for kind in ("photos", "logos") for f in data.val_data.files[kind])
        self.measured_on = [self.count, self.photos, str(data.mark), files]

    def on_fit_start(self, trainer, model):
        if self.active and self.before is None:  # else it comes from the checkpoint
            self.before = self.rows(model, trainer.datamodule, "before")
        elif self.active and self.before_on != self.measured_on:
            raise ValueError(
                "The checkpoint's training measured other photos, another mark or another number "
                "of images. Give the same ones, or start from its weights: --init_from RUN/weights"
            )
        trainer.strategy.barrier()

    def on_train_end(self, trainer, model):  # the weights are final, the device is still in use
        if self.active:
            after = self.rows(model, trainer.datamodule, "after")
            rows = [(n, f"{old:.3f}", f"{after[n]:.3f}") for n, old in self.before.items()]
            text = table(("not trained on", "before", "after"), rows)
            (self.folder / "before_after.md").write_text(text + "\n")
            print(text, f"The new weights: {self.folder / 'weights'}", sep="\n", flush=True)
        trainer.strategy.barrier()

    def rows(self, model, data: pl.LightningDataModule, when: str) -> dict[str, float]:
        """Maps the name of each row to its mean IoU, or to its share of photos."""
        print(f"Measuring {when} the training ...", flush=True)
        rows, general = {}, data.general_val_data
        if data.mark:
            print(f"Your mark: {data.mark}", flush=True)
            photos = [photo.read() for photo in general.photos[: self.count]]
            try:
                cells = measure(model, data.mark, photos, OPACITIES, SIZES, self.count)
            except DoesNotFit as error:
                print(f"Your mark is not measured. {error}", flush=True)
            else:
                for opacity in OPACITIES:
                    ious = [cell.iou for cell in cells if cell.opacity == opacity]
                    rows[f"IoU of the mark at opacity {opacity}"] = float(np.nanmean(ious))
        if data.pairs:
            cases = [vars(pair.read()) for pair in data.val_data.pairs]
            if marked := [case for case in cases if (case["mask"] == 1).any()]:
                rows["IoU of the pairs"] = mean_iou(model, marked)
        if self.photos:
            clean = general.photos[: self.photos]
            share = f"share of {len(clean)} clean photos with a false mark"
            rows[share] = float(np.mean([model.segment(p.path).mask.any() for p in clean]))
            samples = map(general.stages, range(len(general)))
            marked = [sample for sample in samples if image_label(sample["mask"]) == 1]
            if marked:
                rows[f"IoU of {len(marked)} marks on such photos"] = mean_iou(model, marked)
        photos = sample_photos() if self.photos else general.photos
        files = {"photos": photos, "logos": general.logos, "fonts": general.fonts}
        names = [name for name in MARKED if SLICES[name].source == "photos"]
        images = chain(*synthetic_slices(names, self.count, 0, files).values())
        rows["IoU of general marks"] = mean_iou(model, (vars(one.make()) for one in images))
        return rows


def mean_iou(model, samples) -> float:
    """Mean IoU over mappings of `image` (uint8, H x W x 3) and `mask` (H x W, see `Case`)."""
    pairs = ((model.segment(one["image"]).mask, one["mask"]) for one in samples)
    return float(np.mean([score_mask(*pair).iou for pair in pairs]))
