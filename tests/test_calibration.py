"""The score as a probability."""

import numpy as np
import pytest

import evaluate
from evaluation.calibration import fit_platt
from inference.segmenter import logit
from model import WatermarkSegmenter


def test_fit_finds_scale_and_shift():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    label = rng.random(len(logits)) < 1 / (1 + np.exp(-(0.5 * logits + 0.0)))
    scale, shift = fit_platt(logits, label)
    assert scale == pytest.approx(0.5, abs=0.03) and shift == pytest.approx(0, abs=0.05)


def test_fit_weighs_both_kinds_alike():
    logits = np.tile([1.0, 1.0, 1.0, -1.0] + [1.0, -1.0], 1000)
    label = np.tile([True] * 4 + [False] * 2, 1000)
    # At logit 1: 3/4 of the marked, 1/2 of the clean; at -1: 1/4 and 1/2.
    scale, shift = fit_platt(logits, label)
    assert scale + shift == pytest.approx(np.log(0.75 / 0.5), abs=5e-3)
    assert -scale + shift == pytest.approx(np.log(0.25 / 0.5), abs=5e-3)


def test_fit_stays_finite_where_the_scores_separate_both_kinds():
    scale, shift = fit_platt(np.array([-3.0, -2.0, 2.0, 3.0]), np.arange(4) > 1)
    assert 0 < scale < 2 and abs(shift) < 1e-3


def test_rescaled_score_and_same_mask(make_model):
    model, image = make_model(), np.full((40, 50, 3), 120, np.uint8)
    before = model.segment(image)
    model.network.score_head.rescale(0.5, 0.25)
    after = model.segment(image)
    expected = 0.5 * logit(np.float64(before.score)) + 0.25
    assert logit(np.float64(after.score)) == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(before.probability, after.probability)


def test_command_rewrites_the_weights(make_model, photo_folder, logo_folder, tmp_path, capsys):
    make_model().save(tmp_path)
    before = WatermarkSegmenter.load(tmp_path).network.score_head.evidence.item()
    folders = ["--photos", str(photo_folder), "--logos", str(logo_folder)]
    calibrate = ["--calibrate", "0.3", "--count", "1"]
    evaluate.main(["--weights", str(tmp_path), *folders, *calibrate])
    assert WatermarkSegmenter.load(tmp_path).network.score_head.evidence.item() != before
    assert "24 photos" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="No folder at"):
        folders[1] = str(tmp_path / "missing")
        evaluate.main(["--weights", str(tmp_path), *folders, *calibrate])
