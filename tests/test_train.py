"""Training on painted data: it learns, resumes exactly, and has clear errors."""

import copy
import functools
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import TINY
from PIL import Image, ImageDraw
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import load_file

from dataset import ROOT, WatermarkSettings
from evaluation.callbacks import AveragedWeights, BeforeAfter, ProgressLines
from inference.folder import SHIPPED_WEIGHTS
from model import WatermarkSegmenter
from samples.own_mark import find_mark
from samples.splits import make_manifest, read_manifest, split_by_hash, write_manifest
from samples.text import find_fonts
from train import WatermarkData

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging

assert_equal = functools.partial(torch.testing.assert_close, rtol=0, atol=0)
CONFIGS = [ROOT / "configs" / f"{name}.yaml" for name in ("train", "decay")]


@pytest.fixture
def make_data(photo_folder, logo_folder):
    """Makes `WatermarkData` of tiny samples whose marks are easy to see."""

    def make(**changes) -> WatermarkData:
        settings = WatermarkSettings(
            image_size=32, clean_probability=0.2, opacity_range=(0.7, 1.0), kinds={"logo": 1},
            layouts={"single": 1}, scales={"single": (0.5, 0.9)}, usual_look_probability=0,
        )  # fmt: skip
        arguments = dict(
            photos=str(photo_folder), logos=str(logo_folder), settings=settings, train_length=8,
            val_length=4, val_fraction=0.3, batch_size=4, workers=0,
        )  # fmt: skip
        return WatermarkData(**{**arguments, **changes})

    return make


@pytest.fixture(scope="module")
def own_mark(tmp_path_factory, logo_folder):
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(logo_folder / "logo3.png", folder)
    return folder


def make_trainer(folder, *callbacks, **options) -> pl.Trainer:
    quiet = dict(enable_progress_bar=False, enable_model_summary=False, logger=False)
    quiet |= dict(accelerator="cpu", num_sanity_val_steps=0, default_root_dir=folder)
    quiet["enable_checkpointing"] = any(isinstance(one, ModelCheckpoint) for one in callbacks)
    return pl.Trainer(callbacks=list(callbacks), **{**quiet, **options})


class Recorder(pl.Callback):
    """Records the loss and learning rate of each step. It can stop the training after an epoch."""

    def __init__(self, stop_after_epoch=None):
        self.losses, self.rates, self.stop_after_epoch = [], [], stop_after_epoch

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())

    def on_train_epoch_end(self, trainer, model):
        trainer.should_stop = trainer.current_epoch == self.stop_after_epoch


def test_a_training_never_replaces_the_shipped_weights(make_model, make_data):
    trainer = make_trainer(SHIPPED_WEIGHTS.parent, AveragedWeights(decay=0.9), max_steps=1)
    before = (SHIPPED_WEIGHTS / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"would replace those in .*--trainer\.default_root_dir"):
        trainer.fit(make_model(), datamodule=make_data())
    assert (SHIPPED_WEIGHTS / "model.safetensors").stat().st_mtime_ns == before


def test_training_lowers_the_loss_and_follows_the_schedule(make_model, make_data, tmp_path):
    recorder, model = Recorder(), make_model(learning_rate=0.01, warmup_steps=8, decay_steps=16)
    trainer = make_trainer(tmp_path, recorder, max_epochs=4)
    trainer.fit(model, make_data(train_length=64, batch_size=8))
    assert len(recorder.losses) == 32
    assert np.mean(recorder.losses[-8:]) < 0.8 * np.mean(recorder.losses[:8])
    rates = np.array(recorder.rates) / 0.01
    assert rates[:8] == pytest.approx(0.5 * np.arange(1, 9) / 8)  # the first group: the encoder
    assert rates[8:16] == pytest.approx(0.5)
    assert rates[16:] == pytest.approx(0.5 * np.arange(16, 0, -1) / 16)


def test_decay_steps_need_an_end_of_the_training(make_model, make_data, tmp_path):
    trainer = make_trainer(tmp_path, max_epochs=-1)
    with pytest.raises(ValueError, match=r"decay_steps needs an end: give --trainer\.max_steps"):
        trainer.fit(make_model(decay_steps=4), make_data())


def test_a_resumed_training_equals_an_uninterrupted_one(make_model, make_data, tmp_path):
    def fit(name, stop_after_epoch=None, resume=None):
        torch.manual_seed(0 if resume is None else 99)
        recorder = Recorder(stop_after_epoch)
        checkpoint = ModelCheckpoint(dirpath=tmp_path / name, save_last=True)
        averaged = AveragedWeights(decay=0.8)
        trainer = make_trainer(tmp_path, averaged, checkpoint, recorder, max_epochs=2)
        model = WatermarkSegmenter(**TINY)
        trainer.fit(model, make_data(), ckpt_path=resume, weights_only=False)
        saved = torch.load(tmp_path / name / "last.ckpt", weights_only=False)
        return recorder.losses, model.state_dict(), saved

    losses, weights, saved = fit("straight")
    first_losses, _, first = fit("first", stop_after_epoch=0)
    second_losses, resumed_weights, resumed = fit("second", resume=tmp_path / "first/last.ckpt")
    assert (first["global_step"], saved["global_step"], resumed["global_step"]) == (2, 4, 4)
    assert first_losses + second_losses == losses
    assert_equal(resumed_weights, weights)
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert_equal(resumed[key], saved[key])
    assert_equal(*(one["optimizer_states"][0]["state"] for one in (resumed, saved)))


def test_a_resumed_training_uses_its_own_rates(make_model, make_data, tmp_path):
    checkpoint = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    make_trainer(tmp_path, checkpoint, max_epochs=1).fit(make_model(warmup_steps=4), make_data())
    recorder, rates = Recorder(), dict(learning_rate=0.5, encoder_rate=0.2, weight_decay=0.3)
    trainer = make_trainer(tmp_path, recorder, max_epochs=2)
    model = make_model(**rates, warmup_steps=4)
    trainer.fit(model, make_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert recorder.rates == pytest.approx([0.1 * 3 / 4, 0.1])  # steps 3, 4; the encoder
    assert [g["weight_decay"] for g in trainer.optimizers[0].param_groups] == [0.3, 0.0, 0.3, 0.0]


# --- Command line -------------------------------------------------------------------------------


def run_cli(monkeypatch, *arguments) -> None:
    """Runs `python train.py ...` in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


@pytest.fixture(scope="module")
def options(photo_folder, logo_folder):
    """A function that gives the arguments of a tiny training."""

    def options(folder, *arguments, configs=CONFIGS[:1], **changes) -> list[str]:
        small = {
            "data.photos": photo_folder, "data.logos": logo_folder, "data.workers": 0,
            "data.train_length": 8, "data.val_length": 4, "data.batch_size": 4,
            "data.settings.image_size": 32, "data.settings.clean_probability": 1.0,
            "model.encoder": TINY["encoder"], "model.decoder_channels": "[8, 8, 8, 8]",
            "model.bridge_channels": 8, "model.learning_rate": 0.01,
            "trainer.max_epochs": 2, "trainer.accelerator": "cpu", "trainer.log_every_n_steps": 1,
            "trainer.enable_model_summary": "false", "trainer.default_root_dir": folder, **changes,
        }  # fmt: skip
        parts = [part for path in configs for part in ("--config", str(path))]
        return [*parts, *(f"--{name}={value}" for name, value in small.items()), *arguments]

    return options


@pytest.fixture(scope="module")
def cli_run(tmp_path_factory, options):
    """A function that trains for two short epochs and returns the folder of the training."""

    def run(*arguments, **others) -> Path:
        folder = tmp_path_factory.mktemp("run")
        with pytest.MonkeyPatch.context() as monkeypatch:
            run_cli(monkeypatch, "fit", *options(folder, *arguments, **others))
        return folder / "lightning_logs" / "version_0"

    return run


@pytest.fixture(scope="module")
def trained(cli_run):
    return cli_run()


def test_cli_writes_metrics_pictures_and_weights_that_load(trained, photos, logos):
    model = WatermarkSegmenter.load(trained / "weights")
    assert model.segment(np.zeros((40, 50, 3), np.uint8)).mask.shape == (40, 50)
    columns = (trained / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/iou", "val/loss", "train/loss"} <= set(columns)
    assert list(trained.glob("events.out.tfevents.*"))  # TensorBoard's
    assert len(list((trained / "samples").glob("*.png"))) == 2  # one after each validation
    listed = read_manifest(trained / "weights" / "trained_on.json")
    expected = make_manifest(
        photos=split_by_hash(photos, 0.1)[0], logos=split_by_hash(logos, 0.1)[0]
    )
    assert listed["photos"] == expected["photos"] and listed["logos"] == expected["logos"]
    assert len(listed["fonts"]) == len(find_fonts())


def test_held_out_files_are_never_trained_on(make_data, photos, logos, tmp_path):
    held_out = make_manifest(photos=photos[:3], logos=logos[:2], fonts=find_fonts()[:4])
    write_manifest(held_out, tmp_path / "held_out.json")
    data = make_data(held_out=str(tmp_path / "held_out.json"))
    data.setup("fit")
    for dataset in (data.train_data, data.val_data):
        used = make_manifest(photos=dataset.photos, logos=dataset.logos, fonts=dataset.fonts)
        assert not any(set(used[kind]) & set(held_out[kind]) for kind in held_out)
        assert all(used.values())


def read_checkpoint(run) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("validate", "validate measures trained weights: give --init_from FOLDER or --ckpt_path"),
        ("validate --init_from={trained}/weights", "(set --model.encoder and the channels"),
        ("fit --config={folder}/mine.yaml", "bach_size"),
        ("fit --data.settings.blend_modes=normal", "blend_modes: Expected a Mapping. Got value: "),
        ("fit --data.settings.clean_probability=1.2", "clean_probability is 1.2; give a number"),
        ("fit --data.settings.blend_modes.dodge=1", "blend_modes has no dodge; choose from normal"),
        ("fit --data.photos=nowhere", "No folder at nowhere"),
        ("fit --data.photos=", "No folder at ''"),
        ("fit --init_from=", "No config.json in . Give a folder of weights"),
        ("fit --ckpt_path={trained}/weights", "weights' is no checkpoint, or it is damaged. Give"),
        ("fit --before_after.count=0", "count 0, photos 0: give a count from 1, photos from 0"),
        ("fit --trainer.accelerator=cpu --trainer.devices=0", "is not a valid input using cpu"),
        ("fit --data.images=here", "Pairs need two folders: give both images and masks"),
    ],
)
def test_cli_explains_what_is_wrong_in_one_sentence(
    monkeypatch, tmp_path, trained, own_mark, arguments, message
):
    (tmp_path / "mine.yaml").write_text("data:\n  bach_size: 4\n")
    places = dict(trained=trained, folder=tmp_path, mark=own_mark)
    root = f"--trainer.default_root_dir={tmp_path}"
    with pytest.raises(SystemExit) as stop:
        run_cli(monkeypatch, *arguments.format(**places).split(), root)
    text = str(stop.value)
    assert text.startswith("train.py: ") and message in text and "\n" not in text
    assert not (tmp_path / "lightning_logs").exists()  # it did not start


def test_cli_resumes_with_the_settings_of_the_command_line(trained, cli_run):
    last = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    run = cli_run(last, "--trainer.max_epochs=3", "--data.val_fraction=0.5")
    assert read_checkpoint(run)["global_step"] == 6
    before, after = (read_manifest(f / "weights" / "trained_on.json") for f in (trained, run))
    assert set(before["photos"]) <= set(after["photos"])
    with pytest.raises(SystemExit, match=r"decoder_channels is \[8, 8.* this model's is \[16"):
        cli_run(last, "--model.decoder_channels=[16, 8, 8, 8]")


def test_cli_writes_no_list_of_training_files_if_the_start_weights_have_none(
    trained, cli_run, tmp_path, capsys
):
    WatermarkSegmenter.load(trained / "weights").save(tmp_path / "bare")
    run = cli_run(f"--init_from={tmp_path / 'bare'}", configs=CONFIGS)  # the end of a training
    assert list((run / "samples").glob("*.png"))
    assert "the new weights get no such list of training files" in capsys.readouterr().out
    assert (run / "weights" / "model.safetensors").exists()
    assert not (run / "weights" / "trained_on.json").exists()


def test_progress_is_printed_before_the_first_step_too(capsys):
    trainer = SimpleNamespace(
        global_step=0, world_size=1, is_global_zero=True, estimated_stepping_batches=9,
        callback_metrics={"train/loss": torch.tensor(0.5)},
    )  # fmt: skip
    progress = ProgressLines(every_s=0)
    progress.on_train_start(trainer, None)
    for trainer.global_step in (0, 1):
        progress.on_train_batch_end(trainer, None, None, {"image": torch.zeros(4)}, 0)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step 0  loss 0.500")
    assert second.startswith("step 1/9") and second.endswith("min left")


# --- Several processes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rank_options(options):
    """Arguments of train.py: 16 steps of 8 marked samples, with a `RankRecord`.

    There are five validation samples, so that two processes get different numbers of them.
    """

    def rank_options(folder, processes, **changes) -> list[str]:
        changes = {
            "data.settings.clean_probability": 0, "data.settings.opacity_range": "[0.7, 1.0]",
            "data.settings.layouts": "{inside: 1}", "data.train_length": 64, "data.val_length": 5,
            "data.batch_size": 8 // processes, "data.val_fraction": 0.3, "data.seed": 3,
            "model.warmup_steps": 1, "model.decay_steps": 14, "trainer.devices": processes,
            "trainer.callbacks+": "ranks.RankRecord", "trainer.callbacks.folder": folder,
            **changes,
        }  # fmt: skip
        return options(folder, **changes)

    return rank_options


def read_ranks(folder, processes: int) -> list[dict]:
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(processes)]


def fit_together(arguments, timeout_s=200) -> None:
    """Runs `python train.py fit` in two processes. If they hang, both are killed."""
    command = [sys.executable, "train.py", "fit", *arguments, "--trainer.strategy=ddp"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, **pipes
    ) as running:
        try:
            output, _ = running.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise
    assert running.returncode == 0, output[-3000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, rank_options):
    """The record of a training with one process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_cli(monkeypatch, "fit", *rank_options(folder, processes=1))
    return read_ranks(folder, 1)[0]


@pytest.fixture(scope="module")
def together(tmp_path_factory, rank_options):
    """The folder of a training with two processes."""
    folder = tmp_path_factory.mktemp("together")
    fit_together(rank_options(folder, processes=2))
    return folder


def test_two_processes_share_the_samples_and_count_every_validation_image_once(together, alone):
    one, other = read_ranks(together, 2)
    assert len(one["train"]) == len(other["train"]) == 64 and len(set(alone["train"])) == 128
    for step in range(16):
        halves = [rank["train"][4 * step : 4 * step + 4] for rank in (one, other)]
        assert set(halves[0] + halves[1]) == set(alone["train"][8 * step : 8 * step + 8])
    assert (len(one["val"]), len(other["val"])) == (3, 2)
    assert sorted(one["val"] + other["val"]) == sorted(alone["val"])


def test_two_processes_measure_what_one_does(together, rank_options, monkeypatch, tmp_path):
    arguments = rank_options(tmp_path, processes=1)
    last = together / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    run_cli(monkeypatch, "validate", *arguments, f"--ckpt_path={last}")
    expected = read_ranks(tmp_path, 1)[0]["metrics"]
    assert len(expected) == 6
    for rank in read_ranks(together, 2):
        assert rank["metrics"] == pytest.approx(expected, rel=1e-5)


def test_two_processes_hold_the_same_weights(together):
    one, other = read_ranks(together, 2)
    assert_equal(one["weights"], other["weights"])
    assert_equal(one["averaged"], other["averaged"])
    run = together / "lightning_logs" / "version_0"
    checkpoint = read_checkpoint(run)
    assert_equal(checkpoint["state_dict"], one["averaged"])
    assert checkpoint["global_step"] == 16
    rates = checkpoint["lr_schedulers"][0]["_last_lr"]
    assert rates == pytest.approx([0] * 4)  # the decay ends with the last step
    assert (run / "weights" / "trained_on.json").exists()


def test_two_processes_resume(together, rank_options, tmp_path):
    """They continue from the first epoch's checkpoint, with the same result.

    Only one process has a sample to validate, and no validation follows the last steps.
    """
    changes = {"data.val_length": 1, "trainer.val_check_interval": 5}
    arguments = rank_options(tmp_path, 2, ckpt_path=together / "first.ckpt", **changes)
    fit_together(arguments)
    for straight, resumed in zip(read_ranks(together, 2), read_ranks(tmp_path, 2)):
        assert resumed["losses"] == straight["losses"][8:]
        assert_equal(resumed["weights"], straight["weights"])
        assert_equal(resumed["averaged"], straight["averaged"])


# --- Your own mark -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def painted_pairs(tmp_path_factory, photo_folder):
    folder = tmp_path_factory.mktemp("pairs")
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for i, path in enumerate(sorted(photo_folder.glob("*"))[:4]):
        photo = Image.open(path).convert("RGB")
        mask = Image.new("L", photo.size)
        for picture, color in ((photo, "white"), (mask, 255)):
            ImageDraw.Draw(picture).rectangle((10, 12, 40, 30), fill=color)
        photo.save(folder / "images" / f"{i}.png")
        mask.save(folder / "masks" / f"{i}.png")
    return folder


def adapt_options(trained, own_mark, pairs):
    return [
        f"--init_from={trained / 'weights'}", f"--data.mark={own_mark}",
        f"--data.images={pairs / 'images'}", f"--data.masks={pairs / 'masks'}",
        "--data.own_settings.image_size=32", "--before_after.count=1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def adapted(trained, cli_run, own_mark, painted_pairs):
    options = adapt_options(trained, own_mark, painted_pairs)
    return cli_run(*options, configs=[ROOT / "configs" / "adapt.yaml"])


def read_table(run) -> dict[str, list[float]]:
    """Maps the rows of before_after.md to their two numbers."""
    rows = (line.strip("| ").split(" | ")
            for line in (run / "before_after.md").read_text().splitlines()[2:])  # fmt: skip
    return {name: [float(number) for number in numbers] for name, *numbers in rows}


def test_adapting_writes_weights_a_table_and_the_files_trained_on(adapted, trained, own_mark):
    before, after = (load_file(f / "weights" / "model.safetensors") for f in (trained, adapted))
    assert set(before) == set(after)
    assert not torch.equal(before["mask_head.weight"], after["mask_head.weight"])
    table = read_table(adapted)
    marks = [f"IoU of the mark at opacity {opacity}" for opacity in (0.1, 0.2, 0.4, 0.8)]
    assert list(table) == [*marks, "IoU of the pairs", "IoU of general marks"]
    assert all(0 <= number <= 1 for numbers in table.values() for number in numbers)
    old, new = (read_manifest(f / "weights" / "trained_on.json") for f in (trained, adapted))
    assert set(make_manifest(logos=find_mark(own_mark).logos)["logos"]) <= set(new["logos"])
    assert set(old["photos"]) <= set(new["photos"])


def test_adapting_resumes_and_keeps_the_column_before(
    adapted, trained, cli_run, own_mark, painted_pairs
):
    options = adapt_options(trained, own_mark, painted_pairs)
    last = f"--ckpt_path={adapted / 'checkpoints' / 'last.ckpt'}"
    config = [ROOT / "configs" / "adapt.yaml"]
    run = cli_run(*options, last, "--trainer.max_epochs=3", configs=config)
    before = [[row[0] for row in read_table(folder).values()] for folder in (adapted, run)]
    assert before[0] == before[1]
    with pytest.raises(SystemExit, match="measured other photos, another mark or another number"):
        cli_run(*options, last, f"--data.photos={painted_pairs / 'images'}", configs=config)


def test_a_text_too_long_for_the_photos_is_not_measured(make_model, make_data, tmp_path, capsys):
    (tmp_path / "mark.txt").write_text("a text that is too long for photos of less than 100 px")
    data = make_data(mark=str(tmp_path))
    data.setup("fit")
    rows = BeforeAfter(count=1).rows(make_model(), data, "before")
    assert list(rows) == ["IoU of general marks"]
    assert "Your mark is not measured. At size 0.6 the text" in capsys.readouterr().out


def test_training_on_own_photos_writes_a_table_of_false_marks(trained, cli_run):
    start, few = f"--init_from={trained / 'weights'}", "--before_after.count=1"
    config = [ROOT / "configs" / "own_photos.yaml"]
    run = cli_run(start, few, "--data.val_length=16", configs=config)
    table = read_table(run)
    assert [re.sub(r"\d+ ", "", name) for name in table] == [
        "share of clean photos with a false mark", "IoU of marks on such photos",
        "IoU of general marks",
    ]  # fmt: skip
    assert all(0 <= number <= 1 for numbers in table.values() for number in numbers)
    assert (run / "weights" / "model.safetensors").exists()


def test_saved_and_final_weights_are_mixed_with_the_start_weights(
    make_model, make_data, own_mark, tmp_path
):
    networks, losses = {}, {}
    for share in (0.0, 0.75):
        model, averaged = make_model(learning_rate=1e-2), AveragedWeights(share, decay=0.5)
        start = copy.deepcopy(model.network)
        trainer = make_trainer(tmp_path / str(share), averaged, max_steps=3)  # within an epoch
        trainer.fit(model, make_data(mark=str(own_mark)))
        networks[share] = model.network
        losses[share] = trainer.callback_metrics["val/loss"]  # of the saved weights
        written = load_file(tmp_path / str(share) / "weights" / "model.safetensors")
        for name, value in model.network.named_parameters():
            assert torch.equal(written[name], value.half()), name
    assert losses[0.0] != losses[0.75]
    for old, learnt, mixed in zip(*(n.parameters() for n in (start, *networks.values()))):
        assert torch.allclose(mixed, 0.75 * old + 0.25 * learnt, atol=1e-6)
    assert not torch.equal(networks[0.0].mask_head.weight, start.mask_head.weight)


def test_frozen_batch_norm_does_not_change(make_model, make_data, tmp_path):
    model = make_model(learning_rate=1e-2, freeze_batch_norm=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make_trainer(tmp_path, max_epochs=1).fit(model.eval(), make_data())
    moved = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert moved and not [n for n in moved if "running_" in n or "num_batches" in n]
