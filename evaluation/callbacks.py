"""What a training prints, draws and saves on its way."""

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
from evaluation.visibility import measure
from inference.folder import SHIPPED_WEIGHTS
from samples.files import sample_photos
from samples.loading import image_label
from samples.splits import TRAINED_ON, write_manifest

OPACITIES, SIZES = (0.1, 0.2, 0.4, 0.8), (0.3, 0.6)  # of one's own mark, before and after


def run_folder(trainer) -> Path:
    """The run's folder, the same for all processes; each of them must ask."""
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
        of, left = "", ""
        if math.isfinite(steps) and step > self.start_step:
            left_s = passed_s * (steps - step) / (step - self.start_step)
            of, left = f"/{steps}", f"  {left_s / 60:.1f} min left"
        rate = self.images / passed_s
        print(f"step {step}{of}  loss {loss:.3f}  {rate:.1f} images/s{left}", flush=True)

    def on_validation_end(self, trainer, model):
        if trainer.is_global_zero and not trainer.sanity_checking and trainer.state.fn == "fit":
            values = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            print("  ".join(f"{k} {v:.3f}" for k, v in sorted(values.items())), flush=True)


class SamplePictures(pl.Callback):
    """After each validation, a picture of what the model makes of the first `count` samples of it.

    It goes to samples/ in the run's folder, and to TensorBoard if that is one of the loggers.
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
    """Lightning's moving average, written as a weights folder after each validation and at the end.

    Saving belongs here: elsewhere the network has other weights during the training.
    """

    def __init__(self, start_share: float = 0.0, **arguments):
        """
        Args:
            start_share: of the weights that the training started from, in those that are
                validated, saved and left in the model: their mean with what was learnt forgets far
                less than that (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
            arguments: of EMAWeightAveraging, such as `decay`.
        """
        if not 0 <= start_share < 1:
            raise ValueError(f"start_share is {start_share}; it must lie from 0 to below 1.")
        super().__init__(**arguments)
        self.start_share, self.start = start_share, None

    def state_dict(self):
        return {**super().state_dict(), "start": self.start}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.start = state["start"]

    def setup(self, trainer, model, stage):
        """ValueError if the run has no folder of its own, and would replace the shipped weights."""
        self.folder = run_folder(trainer) / "weights"
        if self.folder.resolve() == SHIPPED_WEIGHTS.resolve():
            raise ValueError(
                f"The averaged weights would replace those in {SHIPPED_WEIGHTS}: without one of "
                "Lightning's own loggers give the run a folder, --trainer.default_root_dir DIR."
            )
        super().setup(trainer, model, stage)

    def on_fit_start(self, trainer, model):
        if self.start_share and self.start is None:  # a checkpoint brings its own
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

    def on_train_end(self, trainer, model):  # `max_steps` may end it without a last validation
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
        if share and others:  # none if only validated
            for value, other in zip(model.network.parameters(), others):
                value.data.lerp_(other.to(value.device), share)


class BeforeAfter(pl.Callback):
    """Prints what a training changed, on photos, logos and pairs that it does not train on.

    Only where a mark, pairs or `photos` of one's own are trained on. Rows: the mark in each
    opacity, over all sizes (`visibility.lay_on`); the pairs; false marks on one's own photos, and
    marks drawn on them; general marks, of the slices of `testset.py` that are made of ordinary
    photos. The table goes to before_after.md in the run's folder, too.
    """

    def __init__(self, count: int = 6, photos: int = 0):
        """
        Args:
            count: images for each opacity and size, and for each slice.
            photos: how many validation photos are looked at for false marks, at most; they must be
                clean. General marks then lie on scikit-image's photos. 0: none.
        """
        if count < 1 or photos < 0:
            raise ValueError(f"count is {count}, photos {photos}; give 1 or more, and 0 or more.")
        self.count, self.photos, self.before = count, photos, None

    def state_dict(self):
        return {"before": self.before, "measured_on": self.measured_on}

    def load_state_dict(self, state):
        self.before, self.before_on = state["before"], state.get("measured_on")

    def setup(self, trainer, model, stage):
        self.folder, data = run_folder(trainer), trainer.datamodule
        self.acts = trainer.is_global_zero and bool(data.mark or data.pairs or self.photos)
        files = sorted(f.sha256 for kind in ("photos", "logos") for f in data.val_data.files[kind])
        self.measured_on = [self.count, self.photos, str(data.mark), files]

    def on_fit_start(self, trainer, model):
        if self.acts and self.before is None:  # a checkpoint brings its own
            self.before = self.rows(model, trainer.datamodule, "before")
        elif self.acts and self.before_on != self.measured_on:
            raise ValueError(
                "The training of this checkpoint measured other photos, another mark or another "
                "number of images. Give the same ones, or start from its weights: "
                "--init_from RUN/weights"
            )
        trainer.strategy.barrier()

    def on_train_end(self, trainer, model):  # after AveragedWeights, and still on the device
        if self.acts:
            after = self.rows(model, trainer.datamodule, "after")
            rows = [(n, f"{old:.3f}", f"{after[n]:.3f}") for n, old in self.before.items()]
            text = table(("not trained on", "before", "after"), rows)
            (self.folder / "before_after.md").write_text(text + "\n")
            print(text, f"The new weights: {self.folder / 'weights'}", sep="\n", flush=True)
        trainer.strategy.barrier()

    def rows(self, model, data: pl.LightningDataModule, when: str) -> dict[str, float]:
        """Name to mean IoU, or to a share of photos."""
        print(f"Measuring {when} the training ...", flush=True)
        rows, general = {}, data.general_val_data
        if data.mark:
            print(f"Your mark: {data.mark}", flush=True)
            photos = [photo.read() for photo in general.photos[: self.count]]
            cells = measure(model, data.mark, photos, OPACITIES, SIZES, self.count)
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
