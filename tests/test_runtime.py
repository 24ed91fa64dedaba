"""The choice of the backend; all backends give the same masks."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import paint_photo

from inference import deploy, openvino_backend, runtime
from inference.deploy import TorchSegmenter
from inference.folder import CONFIG, WEIGHTS
from inference.openvino_backend import OpenVinoSegmenter
from inference.runtime import load_segmenter
from inference.segmenter import recompressed
from model import WatermarkSegmenter

ROOT = Path(openvino_backend.__file__).parents[1]
needs_openvino = pytest.mark.skipif(not find_spec("openvino"), reason="openvino is optional")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A new folder with the shipped weights in single precision."""
    folder = tmp_path_factory.mktemp("weights")
    WatermarkSegmenter.load().save(folder)
    return folder


@pytest.fixture
def openvino(folder, monkeypatch):
    """The weights, run by OpenVINO."""
    monkeypatch.setattr(runtime, "find_spec", find_spec)
    return load_segmenter(folder, "cpu")


def marked_photo(seed: int, height: int, width: int) -> np.ndarray:
    photo = paint_photo(seed, height, width)
    photo[height // 3 : height // 2, width // 8 : -width // 8] += 45
    return photo


@needs_openvino
def test_openvino_is_chosen_on_the_cpu_and_torch_on_request_and_on_a_gpu(
    openvino, folder, monkeypatch
):
    assert isinstance(openvino, OpenVinoSegmenter)
    assert isinstance(load_segmenter(folder, "cpu", "torch"), TorchSegmenter)
    with pytest.raises(ValueError, match="runs on the cpu, not on 'cuda'"):
        load_segmenter(folder, "cuda", "openvino")
    monkeypatch.setattr(runtime, "has_gpu", lambda: True)
    assert isinstance(load_segmenter(folder), TorchSegmenter)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(backend="tensorrt"), "backend is 'tensorrt'; use auto, torch, openvino"),
        (dict(backend="openvino"), "pip install openvino"),
        (dict(device="gpu"), "device is 'gpu'; use auto, cpu, cuda, cuda:1 or mps.$"),
        (dict(device="cuda:77", backend="torch"), "The device cuda:77 cannot be used here: "),
    ],
)
def test_backends_and_devices_that_cannot_run_are_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_segmenter(folder, **arguments)


LIMITS = dict(threshold=0.2, min_score=0)  # low enough that the shipped weights mark something


@needs_openvino
def test_openvino_gives_the_masks_of_torch(openvino, folder):
    torch_segmenter = load_segmenter(folder, "cpu", "torch")
    bf16 = openvino.precision == "bf16"  # has three digits
    equal, marked, differences = [], [], []
    for index in range(12):
        photo = marked_photo(index, 33 + 18 * index, 190 - 14 * index)
        one, other = (each.segment(photo, **LIMITS) for each in (openvino, torch_segmenter))
        differences.append(np.abs(one.probability - other.probability))
        assert bf16 or differences[-1].max() < 1e-3
        assert one.score == pytest.approx(other.score, abs=0.1 if bf16 else 1e-3)
        equal.append(one.mask == other.mask)
        marked.append(other.mask)
    equal, marked, differences = (
        np.concatenate([part.ravel() for part in parts]) for parts in (equal, marked, differences)
    )
    assert differences.mean() < 0.015  # what bf16 may do
    assert equal.mean() >= (0.98 if bf16 else 0.999) and 0 < marked.mean() < 1


@needs_openvino
def test_the_bits_do_not_depend_on_the_number_of_threads(openvino):
    views = [marked_photo(seed, 60, 80 + seed) for seed in range(6)]
    with openvino.predicting() as predict:
        expected = predict(views)
    for threads in (1, 3):
        with openvino.predicting(threads) as predict:
            for (probability, score), (one, other) in zip(predict(views), expected):
                assert np.array_equal(probability, one) and score == other


@pytest.fixture
def brightness(folder, tmp_path, monkeypatch):
    """A weights folder whose conversion is instant: the network is the mean of red, green, blue."""
    openvino_backend.import_openvino()  # without its telemetry
    from openvino import opset13 as ops

    def convert(folder, openvino):
        image = ops.parameter([-1, 3, -1, -1], np.uint8, name="image")
        mean = ops.reduce_mean(
            ops.divide(ops.convert(image, np.float32), np.float32([255])), [1], True
        )
        return openvino.Model([mean, ops.reduce_mean(mean, [1, 2, 3])], [image], "brightness")

    monkeypatch.setattr(runtime, "find_spec", find_spec)
    monkeypatch.setattr(deploy, "convert_to_openvino", convert)
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


@needs_openvino
def test_the_converted_network_is_kept_until_the_weights_change(brightness, monkeypatch):
    photo = marked_photo(1, 40, 50)
    first = load_segmenter(brightness, "cpu")
    seen = recompressed(photo, quality=95)
    assert np.allclose(first.segment(photo, fast=True).probability, seen.mean(2) / 255, atol=1e-5)
    kept = set(brightness.glob("openvino-*"))
    assert sorted(path.suffix for path in kept) == [".bin", ".xml"]
    with monkeypatch.context() as patch:
        patch.setattr(deploy, "convert_to_openvino", None)  # must not be called
        again = load_segmenter(brightness, "cpu")
    assert np.array_equal(first.segment(photo).probability, again.segment(photo).probability)
    assert first.fingerprint() == again.fingerprint()
    WatermarkSegmenter.load().save(brightness, half=True)
    assert load_segmenter(brightness, "cpu").fingerprint() != first.fingerprint()
    left = set(brightness.glob("openvino-*"))
    assert len(left) == 2 and not left & kept


@needs_openvino
def test_a_damaged_file_is_made_again(brightness):
    load_segmenter(brightness, "cpu")
    (path,) = brightness.glob("openvino-*.xml")
    whole = path.read_bytes()
    path.write_text("<net")
    assert load_segmenter(brightness, "cpu").segment(marked_photo(1, 40, 50)).score > 0.1
    assert len(path.read_bytes()) == len(whole)


@needs_openvino
def test_a_folder_that_cannot_be_written_is_used_with_a_warning(brightness, monkeypatch, caplog):
    monkeypatch.setattr(openvino_backend.os, "replace", lambda *paths: os.stat("/nowhere"))
    assert load_segmenter(brightness, "cpu").segment(marked_photo(1, 40, 50)).score > 0.1
    assert "cannot be written" in caplog.text
    assert {path.name for path in brightness.iterdir()} == {CONFIG, WEIGHTS}


@needs_openvino
def test_read_only_weights_are_converted_into_the_users_cache(
    brightness, tmp_path_factory, monkeypatch
):
    cache = tmp_path_factory.mktemp("home") / "cache"
    monkeypatch.setattr(openvino_backend.os, "access", lambda path, mode: False)
    monkeypatch.setattr("pooch.os_cache", lambda name: cache)
    first = load_segmenter(brightness, "cpu")
    assert len(list(cache.glob("*/openvino-*"))) == 2 and not list(brightness.glob("openvino-*"))
    monkeypatch.setattr(deploy, "convert_to_openvino", None)  # must not be called
    assert load_segmenter(brightness, "cpu").fingerprint() == first.fingerprint()


@needs_openvino
def test_threads_may_convert_at_once_and_other_files_stay(brightness):
    (brightness / "openvino-notes.txt").write_text("mine")
    old = brightness / "openvino-0123456789abcdef.bin"
    old.write_text("of older weights")
    with ThreadPoolExecutor(4) as pool:
        segmenters = list(pool.map(lambda _: load_segmenter(brightness, "cpu"), range(4)))
    assert len({segmenter.fingerprint() for segmenter in segmenters}) == 1
    names = {path.name for path in brightness.iterdir()} - {CONFIG, WEIGHTS}
    assert sorted(name.split(".")[1] for name in names) == ["bin", "txt", "xml"]
    assert not old.exists()


@needs_openvino
def test_signals_work_after_another_thread_frees_a_segmenter(openvino, folder):
    program = (
        "import signal, threading\n"
        "from inference import load_segmenter\n"
        "signal.signal(signal.SIGINT, lambda *_: print('caught'))\n"
        f"box = [load_segmenter({str(folder)!r}, 'cpu')]\n"
        "thread = threading.Thread(target=box.clear)\n"
        "thread.start(), thread.join()\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "caught"), done.stderr


@needs_openvino
def test_segmenting_with_openvino_does_not_import_torch(openvino, folder, tmp_path):
    """Nor matplotlib or Lightning, which take long to import, nor OpenVINO's telemetry."""
    program = (
        "import sys, segment\n"
        f"assert segment.main({['docs/example.jpg', '--output', str(tmp_path / 'out')]!r}"
        f" + ['--weights', {str(folder)!r}, '--device', 'cpu']) == 0\n"
        "slow = {'torch', 'matplotlib', 'pytorch_lightning', 'scipy'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"], done.stderr
    assert (tmp_path / "out" / "docs" / "example.png").exists()
