"""The speed figures: that they are measured, and printed as one JSON object for programs."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import benchmark

RATES = {"data": ("samples_per_s", "decode_per_s"), "files": ("batch_per_s", "loop_per_s")}


@pytest.mark.parametrize("command", ["data", "files"])
def test_last_line_is_json_with_two_rates_and_their_ratio(
    command, photo_folder, monkeypatch, capsys
):
    arguments = [command, "--photos", str(photo_folder), "--count", "3", "--repeats", "1", "--json"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    benchmark.main()
    printed = capsys.readouterr().out.splitlines()
    result = json.loads(printed[-1])
    rate, baseline = (result[name] for name in RATES[command])
    assert rate > 0 and baseline > 0
    assert result["ratio"] == pytest.approx(rate / baseline, rel=0.05)
    assert f"{result['ratio']:.3f}" in printed[-2]


def test_the_plain_loop_writes_the_masks_that_a_batch_writes(tiny_model, photos, tmp_path):
    paths = [file.path for file in photos]
    benchmark.segment_in_a_loop(tiny_model, paths, tmp_path / "loop")
    benchmark.segment_files(paths, tmp_path / "batch", segmenter=tiny_model)
    loop, batch = (
        [np.asarray(Image.open(tmp_path / folder / f"{path.stem}.png")) for path in paths]
        for folder in ("loop", "batch")
    )
    assert all(map(np.array_equal, loop, batch))
    assert any(mask.any() for mask in loop)
