"""Fitting the score on whole photos, and calibrating it."""

import os
import re

import numpy as np
import pytest
import torch

import evaluate
from dataset import make_datasets
from evaluation.score import fit_linear, fit_platt
from model import WatermarkSegmenter
from samples.splits import make_manifest, read_manifest, write_manifest


def test_platt_fit_finds_scale_and_shift():
    rng = np.random.default_rng(0)
    logits, fixed = rng.normal(0, 2, (2, 20_000))
    label = rng.random(len(logits)) < 1 / (1 + np.exp(-(0.5 * logits + fixed)))
    scale, shift = fit_platt(logits, fixed, label)
    assert scale == pytest.approx(0.5, abs=0.03) and shift == pytest.approx(0, abs=0.05)


@pytest.fixture
def command(make_model, photo_folder, logo_folder, tmp_path):
    """Runs a command of evaluate.py that changes the weights in `tmp_path`."""
    make_model().save(tmp_path, half=True)
    options = ["--weights", str(tmp_path), "--photos", str(photo_folder), "--logos"]
    options += [str(logo_folder), "--val-fraction", "0.3"]
    return lambda name, *more: evaluate.main([name, *options, *more])


def test_calibrate_rewrites_the_weights(
    command, photo_folder, logo_folder, tmp_path, capsys, monkeypatch
):
    before = WatermarkSegmenter.load(tmp_path).network.score_head.evidence.item()
    train, _ = make_datasets(photo_folder, logo_folder, val_fraction=0.3)
    write_manifest(make_manifest(**train.files), tmp_path / "trained_on.json")
    command("calibrate", "--count", "1")
    assert WatermarkSegmenter.load(tmp_path).network.score_head.evidence.item() != before
    printed = capsys.readouterr().out
    assert "on the 21 photos" in printed
    assert re.search(r"The training used 0 of \d+ photos, 0 of \d+ logos", printed)
    with pytest.raises(SystemExit, match="No folder at"):
        command("calibrate", "--count", "1", "--photos", str(tmp_path / "missing"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit, match="is read-only: copy the folder to where you may write"):
        command("calibrate", "--count", "1")


def test_a_linear_fit_finds_scale_shift_and_weights():
    generator = torch.Generator().manual_seed(0)
    maxima = torch.randn(20_000, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.0]) + 5
    logits = torch.randn(20_000, generator=generator)
    truth = 0.5 * logits + 0.1 * (maxima[:, 1] - 5)
    label = (torch.rand(20_000, generator=generator) < truth.sigmoid()).float()
    scale, shift, weights, (before, after) = fit_linear(maxima, logits, label)
    assert 0.08 < weights[1] < 0.1  # the penalty shrinks it
    assert weights[[0, 2]].tolist() == pytest.approx([0, 0], abs=0.02)  # the last never varies
    assert scale == pytest.approx(0.5, abs=0.05)
    assert shift == pytest.approx(-5 * weights[1].item(), abs=0.05)
    assert after < before - 0.05


def test_fit_score_changes_only_the_score(command, tmp_path, capsys):
    write_manifest({"photos": [], "logos": ["ab" * 8], "fonts": []}, tmp_path / "trained_on.json")
    before = WatermarkSegmenter.load(tmp_path)
    command("fit-score", "--count", "12")
    assert "on the 12 photos" in capsys.readouterr().out
    after = WatermarkSegmenter.load(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    one, other = before.segment(image), after.segment(image)
    listed = read_manifest(tmp_path / "trained_on.json")
    assert listed["photos"] and "ab" * 8 in listed["logos"]
    assert np.array_equal(one.probability, other.probability) and one.score != other.score


def test_fit_score_refuses_photos_of_one_kind(command, tmp_path):
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(SystemExit, match=r"both marked and clean photos: raise --count"):
        command("fit-score", "--count", "1")
    assert (tmp_path / "model.safetensors").read_bytes() == before
