"""Speed and memory figures: that they are measured, and printed as one JSON object for programs."""

import json
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import benchmark

LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read there")
TINY = "--size 32 --batch-size 2 --workers 1".split()


@pytest.fixture
def run(photo_folder, monkeypatch, capsys):
    """Runs a subcommand on the painted photos; gives its JSON object and the lines before."""

    def run(*arguments):
        arguments = [arguments[0], "--photos", str(photo_folder), "--json", *arguments[1:]]
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
        benchmark.main()
        *lines, last = capsys.readouterr().out.splitlines()
        return json.loads(last), lines

    return run


def assert_rates(result, lines, rate, baseline):
    assert result[rate] > 0 and result[baseline] > 0
    assert result["ratio"] == pytest.approx(result[rate] / result[baseline], abs=0.001)
    assert any(line.endswith(f" {result['ratio']:.3f}") for line in lines)
    assert result["machine"]["versions"] in lines[-1]


def test_data_compares_with_decoding_and_counts_stages_and_workers(run):
    result, lines = run("data", "--count", "4", "--repeats", "1")
    assert_rates(result, lines, "samples_per_s", "decode_per_s")
    for shares in result["stages"].values():
        assert set(shares) == {*benchmark.STAGES, "rest"}
        assert all(0 <= share < 1 for share in shares.values())
        assert sum(shares.values()) == pytest.approx(1)
    assert {"1", "2"} <= set(result["workers_per_s"])
    assert result["workers_ratio"]["1"] == 1


def test_training_compares_with_a_cached_batch(run):
    result, lines = run("training", *TINY, "--seconds", "0.2", "--repeats", "1")
    assert_rates(result, lines, "images_per_s", "cached_per_s")
    assert (result["batch_size"], result["size"], result["workers"]) == (2, 32, 1)


def test_files_compares_with_a_loop(run):
    result, lines = run("files", "--count", "3", "--repeats", "1")
    assert_rates(result, lines, "batch_per_s", "loop_per_s")


@LINUX
def test_memory_says_peaks_and_growth(run, monkeypatch):
    monkeypatch.setattr(benchmark, "in_fresh_process", lambda function, *given: function(*given))
    result, lines = run("memory", *TINY, "--soak", "160")
    assert result["worker_mb"] > 50 and result["training_mb"] > 50
    assert result["grows"] == (result["growth_mb"] > benchmark.MAX_GROWTH_MB)
    assert any("160 samples" in line for line in lines)


def process() -> tuple[int, str]:
    return os.getpid(), multiprocessing.get_start_method()


def test_a_fresh_process_is_another_one_that_starts_workers_as_this_one():
    number, method = benchmark.in_fresh_process(process)
    assert number != os.getpid() and method == multiprocessing.get_start_method()


class Samples(Dataset):
    """Samples that leave `leak_kb` behind in the process."""

    def __init__(self, leak_kb: int):
        self.leak_kb, self.kept = leak_kb, []

    def __len__(self):
        return 10**4

    def __getitem__(self, index):
        self.kept.append(np.ones(self.leak_kb * 1024, np.uint8))
        return torch.zeros(3)


@LINUX
@pytest.mark.parametrize("leak_kb, grows", [(0, False), (50, True)])
def test_a_soak_finds_a_leak(leak_kb, grows):
    readings, peak_mb = benchmark.soak(Samples(leak_kb), 1600)
    assert len(readings) == 100 and max(readings) <= peak_mb
    assert (benchmark.growth_mb(readings) > benchmark.MAX_GROWTH_MB) == grows


def test_growth_is_counted_after_the_warm_up():
    filling, full = list(range(10)), [10.0] * 30
    assert benchmark.growth_mb(filling + full) == 0
    assert benchmark.growth_mb([float(i) for i in range(40)]) == 26  # 36..39 against 10..13


def test_alternating_runs_take_turns():
    turns = []
    tasks = {name: lambda n, name=name: turns.append((name, n)) or 1.0 for name in "ab"}
    assert benchmark.alternate(tasks, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert turns == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]


def test_ratios_are_medians_over_the_repeats(capsys):
    rates = {"base": [1.0, 2.0, 10.0], "other": [2.0, 2.0, 5.0]}
    assert benchmark.report(rates, "base", "images/s")["other"] == (2.0, 1.0)
    assert capsys.readouterr().out.splitlines()[1].split() == ["other", "2.00", "images/s", "1.000"]


def test_an_option_of_zero_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("training", "--seconds", "0")
    assert "seconds is 0.0; give a number above 0." in capsys.readouterr().err


def test_a_missing_folder_is_named(run):
    with pytest.raises(SystemExit, match="No folder at nowhere"):
        run("data", "--photos", "nowhere")


def test_the_plain_loop_writes_the_masks_that_a_batch_writes(tiny_model, photos, tmp_path):
    from batch import segment_files

    paths = [file.path for file in photos]
    benchmark.segment_in_a_loop(tiny_model, paths, tmp_path / "loop")
    segment_files(paths, tmp_path / "batch", segmenter=tiny_model)
    loop, batch = (
        [np.asarray(Image.open(tmp_path / folder / f"{path.stem}.png")) for path in paths]
        for folder in ("loop", "batch")
    )
    assert all(map(np.array_equal, loop, batch))
    assert any(mask.any() for mask in loop)
