"""Trains the segmenter: `python train.py fit --config configs/train.yaml --data.photos DIR`.

Every argument of `WatermarkSegmenter`, `WatermarkData` and Lightning's Trainer can be given on the
command line or in a YAML file. The run's folder under lightning_logs/ gets metrics for TensorBoard
and as CSV and, from the callbacks in configs/, sample pictures, after every epoch `last.ckpt`
(continue with `--ckpt_path .../last.ckpt`) and `weights/`, the averaged model.
With configs/adapt.yaml it teaches a mark of your own to trained weights.
`python train.py validate ... --init_from weights` measures a weights folder on validation samples.
"""

import math
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from adapt import find_mark, find_pairs, mix_in
from dataset import ROOT, WatermarkSettings, make_datasets, make_loader
from figures import COLUMNS, four_columns, picture_grid
from metrics import score_mask
from model import WatermarkSegmenter, best_precision
from runtime import WEIGHTS
from splits import make_manifest, merge_manifests, read_manifest, write_manifest
from testset import SLICES, render_cases
from visibility import measure


class WatermarkData(pl.LightningDataModule):
    """Synthetic samples from folders of photos, logos and fonts; see `dataset.make_datasets`.

    With `mark`, a folder (`adapt.find_mark`), or `images` and `masks`, folders of painted pairs,
    `own_share` of the training samples show these, looking as `own_settings` say, and all
    validation samples do (`adapt.mix_in`).
    """

    def __init__(
        self,
        photos: str | list[str] | None = None,
        logos: str = str(ROOT / "logos"),
        fonts: str | None = None,
        settings: WatermarkSettings | None = None,
        train_length: int = 4096,
        val_length: int = 256,
        val_fraction: float = 0.1,
        batch_size: int = 16,
        workers: int = 2,
        seed: int = 0,
        held_out: str | None = str(ROOT / "held_out.json"),
        marks_per_crop: int = 1,
        mark: str | None = None,
        images: str | None = None,
        masks: str | None = None,
        own_settings: WatermarkSettings | None = None,
        own_share: float = 0.5,
    ):
        super().__init__()
        if (images is None) != (masks is None):
            raise ValueError("Pairs need two folders: give images and masks, or neither.")
        if train_length < batch_size:
            raise ValueError(
                f"train_length {train_length} is below batch_size {batch_size}: no full batch."
            )
        self.batch_size, self.workers = batch_size, workers
        self.arguments = dict(
            photos=photos, logos=logos, fonts=fonts, settings=settings, train_length=train_length,
            val_length=val_length, val_fraction=val_fraction, seed=seed, held_out=held_out,
            marks_per_crop=marks_per_crop,
        )  # fmt: skip
        self.own = dict(share=own_share, settings=own_settings, val_fraction=val_fraction)
        self.mark = find_mark(mark) if mark else None
        self.pairs = find_pairs(images, masks) if images else None
        self.trained_before = make_manifest()  # files that the starting weights have seen

    def setup(self, stage: str) -> None:
        self.train_data, self.val_data = make_datasets(**self.arguments)
        self.general_val_data = self.val_data
        if self.mark or self.pairs:
            both = (self.train_data, self.val_data)
            mixed = mix_in(both, mark=self.mark, pairs=self.pairs, **self.own)
            self.train_data, self.val_data = mixed

    def trained_on(self):
        """The manifest of all files that the model has been trained on; validation's are not."""
        return merge_manifests(self.trained_before, make_manifest(**self.train_data.files))

    def state_dict(self):
        return {"trained_on": self.trained_on()}

    def load_state_dict(self, state):
        self.trained_before = merge_manifests(self.trained_before, state["trained_on"])

    def train_dataloader(self):
        return make_loader(self.train_data, self.batch_size, self.workers, train=True)

    def val_dataloader(self):
        return make_loader(self.val_data, self.batch_size, self.workers)


def run_folder(trainer) -> Path:
    """The run's folder, the same for all processes; each of them must ask."""
    return Path(trainer.log_dir or trainer.default_root_dir)


class ProgressLines(pl.Callback):
    """Prints, at most every `every_s` seconds: step, loss, images/s, time left if there is an end;
    and every validation."""

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
        line = f"loss {loss:.3f}  {self.images / passed_s:.1f} images/s"
        if math.isfinite(steps):
            left_s = passed_s * (steps - step) / (step - self.start_step)
            print(f"step {step}/{steps}  {line}  {left_s / 60:.1f} min left", flush=True)
        else:
            print(f"step {step}  {line}", flush=True)

    def on_validation_end(self, trainer, model):
        if trainer.is_global_zero and not trainer.sanity_checking and trainer.state.fn == "fit":
            values = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            print("  ".join(f"{k} {v:.3f}" for k, v in sorted(values.items())), flush=True)


class SamplePictures(pl.Callback):
    """Every `every_s` seconds, a picture of what the model makes of the first validation samples.

    It goes to samples/ in the run's folder, and to TensorBoard if that is one of the loggers.
    """

    def __init__(self, every_s: float = 300.0, count: int = 4):
        self.every_s, self.count, self.last_s = every_s, count, -math.inf

    def setup(self, trainer, model, stage):
        self.folder = run_folder(trainer) / "samples"

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if not trainer.is_global_zero or time.monotonic() - self.last_s < self.every_s:
            return
        self.last_s = time.monotonic()
        data = trainer.datamodule.val_data
        samples = map(data.stages, range(min(self.count, len(data))))
        rows = [four_columns(s["image"], s["mask"], model.segment(s["image"])) for s in samples]
        figure = picture_grid(rows, COLUMNS)
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / f"{trainer.global_step:07d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("samples", figure, trainer.global_step, close=False)
        plt.close(figure)


class AveragedWeights(EMAWeightAveraging):
    """Lightning's moving average, written as a weights folder after every validation.

    Saving belongs here: the averaged weights are in the network only until this hook returns.
    """

    def setup(self, trainer, model, stage):
        self.folder = run_folder(trainer) / "weights"
        super().setup(trainer, model, stage)

    def on_validation_epoch_end(self, trainer, model):
        if trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.is_global_zero:
            model.save(self.folder, half=True)
            write_manifest(trainer.datamodule.trained_on(), self.folder / "trained_on.json")
        super().on_validation_epoch_end(trainer, model)


class BeforeAfter(pl.Callback):
    """Prints what a training changed, in mean IoU over photos, logos and pairs not trained on.

    Only where a mark of one's own or pairs are trained on. Rows: the mark in each opacity, over all
    sizes (`visibility.lay_on`); the pairs; general marks of all slices of `testset.py`. The table
    goes to before_after.md in the run's folder, too.
    """

    def __init__(
        self,
        opacities: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8),
        sizes: tuple[float, ...] = (0.3, 0.6),
        count: int = 6,
    ):
        """
        Args:
            count: images for each opacity and size, and for each slice.
        """
        self.opacities, self.sizes, self.count, self.before = opacities, sizes, count, None

    def state_dict(self):
        return {"before": self.before}

    def load_state_dict(self, state):
        self.before = state["before"]

    def setup(self, trainer, model, stage):
        self.folder = run_folder(trainer)

    def on_fit_start(self, trainer, model):
        if self.acts(trainer) and self.before is None:
            data = trainer.datamodule
            print(f"Own: {data.mark or ''} {len(data.pairs or ())} pairs", flush=True)
            print("Measuring before the training ...", flush=True)
            self.before = self.rows(model, data)
        trainer.strategy.barrier()

    def on_train_end(self, trainer, model):  # after AveragedWeights, and still on the device
        if self.acts(trainer):
            self.compare(trainer, model)
        trainer.strategy.barrier()

    def compare(self, trainer, model):
        print("Measuring after the training ...", flush=True)
        after = self.rows(model, trainer.datamodule)
        lines = ["| IoU on | before | after |", "|---|---|---|"]
        lines += [f"| {n} | {value:.3f} | {after[n]:.3f} |" for n, value in self.before.items()]
        (self.folder / "before_after.md").write_text("\n".join(lines) + "\n")
        print(*lines, f"The new weights: {self.folder / 'weights'}", sep="\n", flush=True)

    def acts(self, trainer) -> bool:
        data = trainer.datamodule
        return trainer.is_global_zero and bool(data and (data.mark or data.pairs))

    def rows(self, model, data: WatermarkData) -> dict[str, float]:
        """Name to mean IoU."""
        rows, general = {}, data.general_val_data
        if data.mark:
            for opacity in self.opacities:
                grid = ((opacity,), self.sizes, self.count)
                cells = measure(model, data.mark, general.photos, *grid)
                ious = [cell.iou for cell in cells]
                rows[f"the mark at opacity {opacity}"] = float(np.nanmean(ious))
        if data.pairs:
            marked = [c for c in (p.read() for p in data.val_data.pairs) if (c.mask == 1).any()]
            if marked:
                rows["pairs"] = mean_iou(model, marked)
        files = (general.photos, general.logos, general.fonts)
        cases = (case for name in SLICES if name != "clean"
                 for case in render_cases(name, self.count, 0, *files))  # fmt: skip
        rows["general marks"] = mean_iou(model, cases)
        return rows


def mean_iou(model, cases) -> float:
    """Mean IoU of the masks of test images (`testset.Case`)."""
    scores = [score_mask(model.segment(case.image).mask, case.mask) for case in cases]
    return float(np.mean([score.iou for score in scores]))


class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.add_lightning_class_args(BeforeAfter, "before_after")
        parser.add_argument("--init_from", type=str | None, help="weights folder to start from")
        # Our loaders share the samples out themselves: see `dataset.FreshSampler`.
        parser.set_defaults(
            {"trainer.precision": best_precision(), "trainer.use_distributed_sampler": False}
        )

    def before_fit(self):
        if self.config[self.subcommand].trainer.logger in (None, True):
            board = TensorBoardLogger(self.trainer.default_root_dir)
            table = CSVLogger(self.trainer.default_root_dir, version=board.version)
            self.trainer.loggers = [board, table]  # both in one folder
        config, data = self.config[self.subcommand], self.datamodule
        if self.model.hparams.keep_weight:
            if not (data.mark or data.pairs):
                raise ValueError(
                    "keep_weight is for a mark of one's own: give --data.mark FOLDER, or "
                    "--data.images DIR --data.masks DIR."
                )
            if not (config.init_from or config.ckpt_path):
                raise ValueError("keep_weight keeps what trained weights know: give --init_from.")
        self.before_validate()

    def before_validate(self):
        folder = self.config[self.subcommand].init_from
        if folder:
            self.model.start_from(Path(folder) / WEIGHTS, "this network")
            trained_on = Path(folder) / "trained_on.json"
            if trained_on.exists():
                self.datamodule.trained_before = read_manifest(trained_on)

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let the checkpoint's settings override the command line's.

        `WatermarkSegmenter.on_load_checkpoint` compares the two instead.
        """


def train(arguments=None) -> CLI:
    """Runs the arguments (by default the command line's); gives model, datamodule and trainer."""
    return CLI(WatermarkSegmenter, WatermarkData, seed_everything_default=0, args=arguments)


def main() -> None:
    try:
        train()
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        sys.exit(f"train.py: {error}")


if __name__ == "__main__":
    main()
