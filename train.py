"""Trains the segmenter: `python train.py fit --config configs/train.yaml --data.photos DIR`.

Every argument of `WatermarkSegmenter`, `WatermarkData` and Lightning's Trainer can be given on the
command line or in a YAML file. A training writes into its own folder under lightning_logs/: metrics
for TensorBoard and as CSV, sample pictures, and after every epoch `weights/` (the averaged model)
and `last.ckpt` (continue with `--ckpt_path .../last.ckpt`).
With configs/adapt.yaml it trains shipped weights on your own mark.
`python train.py validate ... --init_from weights` measures a weights folder on validation samples.
"""

import re
import sys
import warnings
from argparse import ArgumentError
from pathlib import Path
from zipfile import is_zipfile

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dataset import ROOT, WatermarkSettings, make_datasets
from evaluation.callbacks import BeforeAfter
from inference.devices import best_precision
from inference.folder import check_folder
from inference.weights import load_weights
from model import WatermarkSegmenter
from samples.loading import make_loader
from samples.mixing import mix_in
from samples.own_mark import find_mark
from samples.pairs import find_pairs
from samples.splits import TRAINED_ON, make_manifest, merge_manifests, read_manifest


class WatermarkData(pl.LightningDataModule):
    """Synthetic samples from folders of photos, logos and fonts; see `dataset.make_datasets`.

    `mark` is a folder (`own_mark.find_mark`). `images` and `masks` are folders of painted pairs. If
    given, a share `own_share` of the training samples and all validation samples show them
    (`mixing.mix_in`). `own_settings` say how the mark looks.
    """

    def __init__(
        self,
        photos: str | list[str] | dict[str, float] | None = None,
        logos: str | None = str(ROOT / "logos"),
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
        val_settings: WatermarkSettings | None = None,
    ):
        super().__init__()
        if (images is None) != (masks is None):
            raise ValueError("Pairs need two folders: give images and masks, or neither.")
        if train_length < batch_size:
            raise ValueError(
                f"train_length {train_length} is below batch_size {batch_size}: no full batch. "
                "Raise train_length, or give a smaller batch_size."
            )
        self.batch_size, self.workers = batch_size, workers
        self.arguments = dict(
            photos=photos, logos=logos, fonts=fonts, settings=settings, train_length=train_length,
            val_length=val_length, val_fraction=val_fraction, seed=seed, held_out=held_out,
            marks_per_crop=marks_per_crop, val_settings=val_settings,
        )  # fmt: skip
        self.own = dict(share=own_share, settings=own_settings, val_fraction=val_fraction)
        self.mark = find_mark(mark) if mark else None
        self.pairs = find_pairs(images, masks) if images else None
        self.trained_before = make_manifest()  # training files of the start weights

    def setup(self, stage: str) -> None:
        if hasattr(self, "train_data"):  # the command line calls it early
            return
        self.train_data, self.val_data = make_datasets(**self.arguments)
        self.general_val_data = self.val_data
        if self.mark or self.pairs:
            both = (self.train_data, self.val_data)
            mixed = mix_in(both, mark=self.mark, pairs=self.pairs, **self.own)
            self.train_data, self.val_data = mixed

    def trained_on(self):
        """The manifest of all training files, without the validation files.

        None if the training files of the start weights are unknown.
        """
        if self.trained_before is None:
            return None
        return merge_manifests(self.trained_before, make_manifest(**self.train_data.files))

    def state_dict(self):
        return {"trained_on": self.trained_on()}

    def load_state_dict(self, state):
        before, listed = self.trained_before, state["trained_on"]
        known = before is not None and listed is not None
        self.trained_before = merge_manifests(before, listed) if known else None

    def train_dataloader(self):
        return make_loader(self.train_data, self.batch_size, self.workers, train=True)

    def val_dataloader(self):
        return make_loader(self.val_data, self.batch_size, self.workers)


class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.add_lightning_class_args(BeforeAfter, "before_after")
        parser.add_argument("--init_from", type=str | None, help="weights folder to start from")
        # Our sampler gives each process its samples: see `loading.FreshSampler`.
        parser.set_defaults({"trainer.use_distributed_sampler": False})

    def before_instantiate_classes(self):
        trainer = self.config[self.subcommand].trainer
        if trainer.precision is None:
            trainer.precision = best_precision(trainer.accelerator)

    def before_fit(self):
        self.datamodule.setup("fit")  # raises errors of the data before the folder exists
        if self.config[self.subcommand].trainer.logger in (None, True):
            warnings.filterwarnings("ignore", "Experiment logs directory")  # has TensorBoard files
            board = TensorBoardLogger(self.trainer.default_root_dir)
            table = CSVLogger(self.trainer.default_root_dir, version=board.version)
            self.trainer.loggers = [board, table]  # both in one folder
        config = self.config[self.subcommand]
        self._start_from(config.init_from, config.ckpt_path)

    def before_validate(self):
        config = self.config[self.subcommand]
        if not (config.init_from or config.ckpt_path):
            raise ValueError(
                "validate measures trained weights: give --init_from FOLDER or --ckpt_path FILE."
            )
        self._start_from(config.init_from, config.ckpt_path)

    def _start_from(self, folder: str | None, checkpoint: str | None) -> None:
        if checkpoint is not None and Path(checkpoint).exists() and not is_zipfile(checkpoint):
            raise ValueError(
                f"{checkpoint!r} is no checkpoint, or it is damaged. Give a file, such as "
                "RUN/checkpoints/last.ckpt. For a folder of weights use --init_from."
            )
        if folder is not None:
            config_path, path = check_folder(folder)
            what = f"this network (set --model.encoder and its channels as {config_path} has them)"
            load_weights(self.model.network, path, what)
            trained_on = Path(folder) / TRAINED_ON
            known = trained_on.exists()
            if not known:
                print(f"No {trained_on}, so the new weights cannot say what they were trained on.")
            self.datamodule.trained_before = read_manifest(trained_on) if known else None

    def _parse_ckpt_path(self) -> None:
        """Does nothing, so that the checkpoint's settings do not override the command line's.

        `WatermarkSegmenter.on_load_checkpoint` compares the two instead.
        """


def train(arguments=None) -> CLI:
    """Runs a command (by default that of the command line); gives model, data and trainer."""
    errors = dict(exit_on_error=False)  # `main` prints them in one sentence
    parsers = {**errors, "fit": errors, "validate": errors}
    how = dict(seed_everything_default=0, parser_kwargs=parsers, args=arguments)
    return CLI(WatermarkSegmenter, WatermarkData, **how)


def one_sentence(error: BaseException) -> str:
    """What is wrong, without the list of all types that jsonargparse tried."""
    keys, wrappers = [], ("Union subtypes", "Problem with given class_path")
    while isinstance(error, ArgumentError) or any(text in str(error) for text in wrappers):
        keys += re.findall(r'^Parser key "([\w.]+)"', str(error))
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", " ".join(str(error).split()))
    return ": ".join([*dict.fromkeys(keys), re.sub(r'^Parser key "[\w.]+": ', "", reason)])


def main() -> None:
    try:
        train()
    except (ArgumentError, MisconfigurationException, OSError, ValueError) as error:
        sys.exit(f"train.py: {one_sentence(error)}")


if __name__ == "__main__":
    main()
