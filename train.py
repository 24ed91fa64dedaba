"""Trains the segmenter: `python train.py fit --config configs/train.yaml --data.photos DIR`.

The command line or a YAML file sets the arguments of `WatermarkSegmenter`, `WatermarkData` and
Lightning's Trainer. Each training writes into its own folder under lightning_logs/: metrics for
TensorBoard and as CSV, sample pictures, and after every epoch `weights/` (the averaged model) and
`checkpoints/last.ckpt`, from which `--ckpt_path` continues the training.
With configs/adapt.yaml you train the shipped weights on your own mark.
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
    """Training and validation samples. Most arguments are those of `dataset.make_datasets`.

    To train on your own mark, give `mark`, a folder with it (`own_mark.find_mark`), or `images` and
    `masks`, folders of marked photos and their painted masks. A share `own_share` of the training
    samples, and all validation samples, then come from these (`mixing.mix_in`). `own_settings` are
    the settings that `mark` is drawn with.
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
            raise ValueError("Pairs need two folders: give both images and masks, or neither.")
        if train_length < batch_size:
            raise ValueError(
                f"train_length {train_length} is below batch_size {batch_size}, so there is no "
                "full batch. Give a larger train_length or a smaller batch_size."
            )
        self.batch_size, self.workers = batch_size, workers
        self.arguments = dict(
            photos=photos, logos=logos, fonts=fonts, settings=settings, train_length=train_length,
            val_length=val_length, val_fraction=val_fraction, seed=seed, held_out=held_out,
            marks_per_crop=marks_per_crop, val_settings=val_settings,
        )  # fmt: skip
        self.mixing = dict(share=own_share, settings=own_settings, val_fraction=val_fraction)
        self.mark = find_mark(mark) if mark else None
        self.pairs = find_pairs(images, masks) if images else None
        self.trained_before = make_manifest()  # files that the start weights were trained on

    def setup(self, stage: str) -> None:
        if hasattr(self, "train_data"):  # `CLI.before_fit` calls `setup` first
            return
        self.train_data, self.val_data = make_datasets(**self.arguments)
        self.general_val_data = self.val_data
        if self.mark or self.pairs:
            general = (self.train_data, self.val_data)
            mixed = mix_in(general, mark=self.mark, pairs=self.pairs, **self.mixing)
            self.train_data, self.val_data = mixed

    def trained_on(self):
        """The manifest of all files that the new weights are trained on.

        None if nobody knows what the start weights were trained on.
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
        # `loading.FreshSampler` already gives each process its own samples.
        parser.set_defaults({"trainer.use_distributed_sampler": False})

    def before_instantiate_classes(self):
        trainer = self.config[self.subcommand].trainer
        if trainer.precision is None:
            trainer.precision = best_precision(trainer.accelerator)

    def before_fit(self):
        config = self.config[self.subcommand]
        self.datamodule.setup("fit")  # errors in the data come before the folder is made
        if config.trainer.logger in (None, True):
            warnings.filterwarnings("ignore", "Experiment logs directory")  # both write into one
            board = TensorBoardLogger(self.trainer.default_root_dir)
            table = CSVLogger(self.trainer.default_root_dir, version=board.version)
            self.trainer.loggers = [board, table]
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
                f"{checkpoint!r} is no checkpoint, or it is damaged. Give a file such as "
                "RUN/checkpoints/last.ckpt. For a folder of weights, use --init_from."
            )
        if folder is not None:
            config_path, path = check_folder(folder)
            what = f"this network (set --model.encoder and the channels as in {config_path})"
            load_weights(self.model.network, path, what)
            trained_on = Path(folder) / TRAINED_ON
            if not trained_on.exists():
                print(f"No {trained_on}, so the new weights get no such list of training files.")
            before = read_manifest(trained_on) if trained_on.exists() else None
            self.datamodule.trained_before = before

    def _parse_ckpt_path(self) -> None:
        """Does nothing, so that settings of the command line win over those of the checkpoint.

        `WatermarkSegmenter.on_load_checkpoint` checks that both are of the same network.
        """


def train(arguments=None) -> CLI:
    """Runs `fit` or `validate`; the result has the model, the datamodule and the trainer."""
    errors = dict(exit_on_error=False)  # `main` prints them
    parsers = {**errors, "fit": errors, "validate": errors}
    options = dict(seed_everything_default=0, parser_kwargs=parsers, args=arguments)
    return CLI(WatermarkSegmenter, WatermarkData, **options)


def one_sentence(error: BaseException) -> str:
    """The cause of an error, without the list of all types that jsonargparse tried."""
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
