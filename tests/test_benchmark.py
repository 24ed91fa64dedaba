"""Each command of benchmark.py prints its rates, and one JSON object for programs."""

import json

import pytest

import benchmark


@pytest.fixture
def run(photo_folder, capsys):
    """Runs a command on the painted photos; gives its rates and all that it printed."""

    def run(command, *arguments):
        tiny = "--size 32 --batch-size 2 --workers 1 --seconds 0.05".split()
        benchmark.main([command, "--photos", str(photo_folder), "--json", *tiny, *arguments])
        *lines, last = capsys.readouterr().out.splitlines()
        return json.loads(last)["rates"], "\n".join(lines)

    return run


def test_samples_are_compared_with_decoding(run):
    rates, printed = run("samples")
    decoding, samples, loaded = rates.values()
    assert decoding > samples > 0 and loaded > 0
    assert f"{samples / decoding:.2f}\n" in printed and "torch: " in printed


def test_training_is_compared_with_a_cached_batch(run, make_model, monkeypatch):
    monkeypatch.setattr(benchmark, "WatermarkSegmenter", make_model)
    rates, _ = run("training")
    assert list(rates) == ["cached batch", "new samples, 1 workers"] and min(rates.values()) > 0


def test_inference_is_compared_with_the_original_network(run, tiny_model, monkeypatch):
    monkeypatch.setattr(benchmark, "SIZES_PX", ((64, 64), (96, 64)))
    monkeypatch.setattr(benchmark, "segmenters", lambda: {"tiny": tiny_model})
    rates, _ = run("inference")
    assert set(rates) == {"64px", "96px"} and rates["96px"]["tiny, fast"] > 0


def test_a_folder_is_timed_without_the_start(run, monkeypatch):
    seconds = iter([9.0, 2.0, 2.0 + 7 / 4])  # 8 photos: the last 7 take 7/4 s
    monkeypatch.setattr(benchmark, "run_command", lambda *_: next(seconds))
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)  # no Ray
    assert run("scan")[0] == {"segment.py, start 2.0 s": 4.0}
