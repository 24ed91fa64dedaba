"""Speed and memory figures: that they are measured, and printed as one JSON object for programs."""

import contextlib
import json
import mmap
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
from batch.scan import Pool, Summary
from batch.scanner import Report
from evaluation.speed import data, files, memory, network, timing
from evaluation.speed import scan as speed_of_scan

LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read there")
TINY = "--size 32 --batch-size 2 --workers 1".split()


@pytest.fixture
def run(photo_folder, monkeypatch, capsys):
    """Runs a subcommand on the painted photos; gives its JSON object and the lines before."""

    def run(*arguments):
        photos = [] if arguments[0] == "inference" else ["--photos", str(photo_folder)]
        arguments = [arguments[0], *photos, "--json", *arguments[1:]]
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
        assert set(shares) == {*data.STAGES, "rest"}
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


def test_scan_compares_with_a_loop(run, monkeypatch):
    seen = []

    def scan(source, output, options):
        names = {path.name: len(speed_of_scan.images_of(path)) for path in Path(source).iterdir()}
        seen.append((options.actors, options.cpus_per_actor, names))
        report = Report("0", "", 6, begin_s=0, end_s=0.1)
        return Summary([report], 0, Pool(options.actors, 1, 0, "cpu", 1), 1, output)

    monkeypatch.setattr(speed_of_scan, "check_ray", lambda address: None)
    monkeypatch.setattr(speed_of_scan, "session", contextlib.nullcontext)
    monkeypatch.setattr(speed_of_scan, "scan", scan)
    result, lines = run("scan", "--count", "6", "--shards", "2", "--repeats", "1")
    shards = {"00000.tar": 3, "00001.tar": 3}
    assert seen == [(1, 1, shards), (2, 1, shards)]
    assert result["scan2_per_s"] == 60 and result["loop_per_s"] > 0
    assert result["ratio2"] == pytest.approx(60 / result["loop_per_s"], rel=0.01)
    assert any("60.00 images/s (actors: 2, cores each: 1" in line for line in lines)


def test_memory_of_a_short_scan_is_not_judged():
    assert speed_of_scan.memory_of(1, [1.0] * 7) == {}
    found = speed_of_scan.memory_of(2, [1.0] * 20 + [5.0] * 20)
    assert found == {"peak2_mb": 5, "growth2_mb": 4}


@pytest.fixture
def small(monkeypatch):
    """Small images, and a small baseline."""
    small = dict(SIZE_PX=64, LARGE_PX=(1700, 64), BASELINE="mit_b0", BATCHES={"cpu": (1, 2)})
    for name, value in small.items():
        monkeypatch.setattr(network, name, value)
    monkeypatch.setattr(network, "find_spec", lambda name: None)
    monkeypatch.setattr(network, "best_device", lambda: torch.device("cpu"))


def test_inference_compares_with_the_originals_network(run, small, monkeypatch):
    command = dict(command_s=3.0, photo_s=2.0, peak_mb=900.0)
    monkeypatch.setattr(network, "run_segment", lambda *_: command)
    result, lines = run("inference", "--count", "1", "--repeats", "1", "--large-repeats", "1")
    cpu = result["devices"]["cpu"]
    assert set(cpu["512"]["rates"]) == {
        f"{name}, {how}"
        for name in ("mit_b0", "torch")
        for how in ("batch 1", "batch 2", "one on each core")
    }
    assert len(cpu["large"]["rates"]) == 2
    for part in cpu.values():
        rates = part["rates"]
        theirs = max(rate for name, rate in rates.items() if name.startswith("mit_b0"))
        assert part["fastest"].startswith("torch") and min(rates.values()) > 0
        assert part["ratio"] == pytest.approx(rates[part["fastest"]] / theirs, rel=0.1)
    assert result["ratio_512"] == cpu["512"]["ratio"]
    assert result["segment_large"] == command
    assert any("3.0 s, of which the photo 2.0 s; peak 900 MB" in line for line in lines)


def test_levers_are_compared_one_after_the_other(run, small, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: network)  # takes minutes
    result, lines = run("inference", "--levers", "--count", "1", "--repeats", "1")
    assert "channels_last" in result["rates"] and "merged, bf16" in result["rates"]
    assert result["ratio"] > 0 and lines


@LINUX
def test_a_call_of_segment_is_timed_and_its_peak_read(tiny_model, photos, tmp_path):
    tiny_model.save(tmp_path / "weights")
    arguments = ("--weights", tmp_path / "weights", "--backend", "torch")
    found = network.run_segment(photos[0].path, tmp_path / "out", *arguments)
    assert 0 < found["photo_s"] < found["command_s"] and found["peak_mb"] > 100
    with pytest.raises(RuntimeError, match="status 2"):
        network.run_segment(tmp_path / "none.txt", tmp_path / "out2", *arguments)


@LINUX
def test_memory_says_peaks_and_growth(run, monkeypatch):
    monkeypatch.setattr(memory, "in_fresh_process", lambda function, *given: function(*given))
    monkeypatch.setattr(network, "run_segment", lambda *_: {"peak_mb": 99.0})
    result, lines = run("memory", *TINY, "--soak", "160")
    assert result["inference_mb"] == 99
    assert result["worker_mb"] > 50 and result["training_mb"] > 50
    assert result["grows"] == (result["growth_mb"] > memory.MAX_GROWTH_MB)
    assert any("160 samples" in line for line in lines)


def process() -> tuple[int, str]:
    return os.getpid(), multiprocessing.get_start_method()


def test_a_fresh_process_is_another_one_that_starts_workers_as_this_one():
    number, method = timing.in_fresh_process(process)
    assert number != os.getpid() and method == multiprocessing.get_start_method()


class Samples(Dataset):
    """Samples that leave `leak_kb` behind in the process."""

    def __init__(self, leak_kb: int):
        self.leak_kb, self.kept = leak_kb, []

    def __len__(self):
        return 10**4

    def __getitem__(self, index):
        if self.leak_kb:  # new pages, whatever free memory the tests before have left
            self.kept.append(mmap.mmap(-1, self.leak_kb * 1024))
            self.kept[-1].write(bytes([1]) * len(self.kept[-1]))
        return torch.zeros(3)


@LINUX
@pytest.mark.parametrize("leak_kb, grows", [(0, False), (50, True)])
def test_a_soak_finds_a_leak(leak_kb, grows):
    readings, peak_mb = memory.soak(Samples(leak_kb), 1600)
    assert len(readings) == 100 and max(readings) <= peak_mb
    assert (memory.growth_mb(readings) > memory.MAX_GROWTH_MB) == grows


def test_growth_is_counted_after_the_warm_up():
    filling, full = list(range(10)), [10.0] * 30
    assert memory.growth_mb(filling + full) == 0
    assert memory.growth_mb([float(i) for i in range(40)]) == 26  # 36..39 against 10..13


def test_alternating_runs_take_turns():
    turns = []
    tasks = {name: lambda n, name=name: turns.append((name, n)) or 1.0 for name in "ab"}
    assert timing.alternate(tasks, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert turns == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]


def test_ratios_are_medians_over_the_repeats(capsys):
    rates = {"base": [1.0, 2.0, 10.0], "other": [2.0, 2.0, 5.0]}
    assert timing.report(rates, "base", "images/s")["other"] == (2.0, 1.0)
    assert capsys.readouterr().out.splitlines()[1].split() == ["other", "2.00", "images/s", "1.000"]


def test_an_option_of_zero_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("training", "--seconds", "0")
    assert "seconds is 0.0; give a number above 0." in capsys.readouterr().err


def test_a_missing_folder_is_named(run):
    with pytest.raises(SystemExit, match="No folder at nowhere"):
        run("data", "--photos", "nowhere")


def test_the_plain_loop_writes_the_masks_that_a_batch_writes(make_model, photos, tmp_path):
    from batch.run import segment_files

    tiny_model = make_model().eval()
    tiny_model.network.score_head.rescale(1, 5)  # or masks stay empty
    torch.nn.init.zeros_(tiny_model.network.mask_head.bias)
    paths = [file.path for file in photos]
    files.segment_in_a_loop(tiny_model, paths, tmp_path / "loop")
    segment_files(paths, tmp_path / "batch", segmenter=tiny_model)
    loop, batch = (
        [np.asarray(Image.open(tmp_path / folder / f"{path.stem}.png")) for path in paths]
        for folder in ("loop", "batch")
    )
    assert all(map(np.array_equal, loop, batch))
    assert any(mask.any() for mask in loop)
