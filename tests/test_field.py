"""A user's own photos: false alarms and recall, and how `min_score` is chosen."""

import json

import numpy as np
import pytest
from PIL import Image

import evaluate
from evaluation.field import Photo, min_score_for, summarise, worst
from inference.segmenter import MIN_SCORE, Segmentation


def photos(scores, marked=False, coverage=0.1):
    return [Photo(f"{score}.jpg", marked, score, coverage) for score in scores]


def test_the_lowest_min_score_with_few_enough_false_alarms_is_chosen():
    clean = photos(np.arange(100) / 100)
    for share, expected in ((0.01, 0.981), (0.05, 0.941), (0.5, 0.491)):
        assert min_score_for(clean, share) == expected
        assert np.mean([photo.is_found(expected) for photo in clean]) <= share
        assert np.mean([photo.is_found(expected - 0.001) for photo in clean]) > share
    assert min_score_for(clean[:99], 0.01) is None  # one of 99 is more than 1 %
    assert min_score_for(photos([0.9] * 20, coverage=0), 0.05) == 0  # nothing is ever marked
    assert min_score_for(photos([1.0] * 20), 0.05) == 1


def test_shares_and_auroc_by_hand():
    clean, marked = photos([0.1, 0.2, MIN_SCORE, 0.9]), photos([0.25, 0.6, 0.95], marked=True)
    marked += photos([0.99], marked=True, coverage=0)  # a high score, but an empty mask
    summary = summarise(clean + marked)
    default = summary["thresholds"]["default"]
    assert default["false_alarms"][0] == 0.5 and default["recall"][0] == 0.5
    assert summary["auroc"][0] == pytest.approx((2 + 3 + 4 + 4) / 16)
    assert [p.score for p in worst(clean + marked)] == [0.9, MIN_SCORE, 0.25, 0.99]


class ByBrightness:
    """A segmenter that marks the left half; the score is the photo's mean brightness."""

    def segment(self, image, threshold=0.5, dilation_px=0, min_score=MIN_SCORE, fast=False):
        rgb = np.asarray(Image.open(image)) if not isinstance(image, np.ndarray) else image
        probability = np.zeros(rgb.shape[:2], np.float32)
        probability[:, : rgb.shape[1] // 2] = 1
        score = float(rgb.mean() / 255)
        return Segmentation(probability, probability > (0 if score >= min_score else 1), score, 0.5)


def test_command_writes_table_curve_and_contact_sheet(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "load_segmenter", lambda folder, backend: ByBrightness())
    for folder, levels in (("clean", [0, 20, 200]), ("marked", [10, 220])):
        (tmp_path / folder).mkdir()
        for level in levels:
            Image.new("RGB", (30, 20), (level,) * 3).save(tmp_path / folder / f"{level}.png")
    call = ["field", "--clean", str(tmp_path / "clean"), "--output", str(tmp_path / "out")]
    evaluate.main([*call, "--marked", str(tmp_path / "marked")])
    printed = capsys.readouterr().out
    assert "3 clean and 2 marked photos. AUROC of the score: 0.67" in printed
    assert f"| default | {MIN_SCORE} | 33.3 (0.0-100.0) % | 50.0 (0.0-100.0) % |" in printed
    assert "| 10% | too few clean photos | - | - |" in printed
    assert len(json.loads((tmp_path / "out/field.json").read_text())["photos"]) == 5
    assert (tmp_path / "out/curve.png").exists() and (tmp_path / "out/worst.png").exists()
    evaluate.main(call)
    assert "3 clean and 0 marked photos.\n" in capsys.readouterr().out
    monkeypatch.setattr(evaluate, "segment_photos", None)  # slow, so errors come before it
    with pytest.raises(SystemExit, match="File exists"):
        evaluate.main([*call, "--output", str(tmp_path / "out/field.md")])
