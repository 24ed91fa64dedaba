"""Images a second of the network, at 512 px and at 12 megapixels.

The baseline is the network of the repository that this one rebuilds: smp's Unet with the encoder
mit_b5 in fp32, with random weights, since only its speed counts.
"""

import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch

from evaluation.speed.timing import alternate, memory_mb, rate_per_s, report
from inference.deploy import (
    TorchSegmenter,
    fast_copy,
    fold_batch_norm,
    load_torch_segmenter,
)
from inference.devices import best_device
from inference.folder import INT8, SHIPPED_WEIGHTS
from inference.parallel import core_count, shared_network
from inference.runtime import INT8_BACKEND, load_segmenter
from inference.segmenter import predict_any_size
from inference.weights import load_network
from model import WatermarkSegmenter
from samples.files import sample_photos

SIZE_PX = 512
LARGE_PX = (4000, 3000)  # width, height
BATCHES = {"cpu": (1, 4), "cuda": (1, 4, 16, 64), "mps": (1, 4, 16)}
LARGE_NAME = "{} x {} px".format(*LARGE_PX)
TILES_TIMED = 2  # of a large photo by the baseline, for which all of them take minutes
BASELINE = "mit_b5"
ROOT = Path(__file__).parents[2]

Rate = Callable[[int], float]  # from the number of a repeat to images/s


def baseline_segmenter(device: str) -> TorchSegmenter:
    """The baseline in place of our network; it has no score."""

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = smp.create_model("unet", BASELINE, None, classes=1)

        def forward(self, image):
            return self.unet(image.float() / 255), torch.zeros(len(image))

    segmenter = TorchSegmenter(Network().eval().to(device), device)
    segmenter.dtype = torch.float32
    return segmenter


def segmenters(device: str) -> dict:
    """Name to segmenter of each program that can run the shipped weights on the device."""
    found = {"torch": load_torch_segmenter(SHIPPED_WEIGHTS, device)}
    if device == "cpu" and find_spec("openvino"):
        found["openvino"] = load_segmenter(SHIPPED_WEIGHTS, device, "openvino")
        if (SHIPPED_WEIGHTS / INT8[0]).exists():
            found[INT8_BACKEND] = load_segmenter(SHIPPED_WEIGHTS, device, INT8_BACKEND)
    return found


def view_rate(predicting, at_once: int, images: int) -> Rate:
    """Images/s of a network that is given so many views of SIZE_PX at once.

    Args:
        predicting: from nothing to a context that gives a `segmenter.Predict`.
    """
    shape = (at_once, SIZE_PX, SIZE_PX, 3)
    views = list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))

    def rate(_) -> float:
        with predicting() as predict:
            predict(views)  # allocates
            return at_once * rate_per_s(predict, [views] * -(-images // at_once))

    return rate


def small_tasks(device: str, images: int) -> dict[str, Rate]:
    """Row to rate at SIZE_PX; batch 1 is one image on all cores."""
    tasks = {}
    for name, segmenter in {BASELINE: baseline_segmenter(device), **segmenters(device)}.items():
        count = 1 if name == BASELINE and device == "cpu" else images
        if isinstance(segmenter, TorchSegmenter):
            segmenter.views_at_once = max(BATCHES[device])
            for batch in BATCHES[device]:
                rate = view_rate(segmenter.predicting, batch, max(batch, count))
                tasks[f"{name}, batch {batch}"] = rate
        else:
            tasks[f"{name}, batch 1"] = view_rate(segmenter.predicting, 1, images)
        if segmenter.one_core_each:
            cores = core_count()
            shared = partial(shared_network, segmenter, cores)
            tasks[f"{name}, one on each core"] = view_rate(shared, cores, max(cores, count))
    return tasks


def large_photo() -> np.ndarray:
    """A sample photo at LARGE_PX, uint8, RGB."""
    return cv2.resize(sample_photos()[0].read(), LARGE_PX, interpolation=cv2.INTER_CUBIC)


def large_tasks(device: str) -> dict[str, Rate]:
    """Row to rate for a photo of LARGE_PX in memory: from pixels to probability."""
    rgb, views = large_photo(), []

    def record(some):
        views.extend(some)
        return [(np.zeros(view.shape[:2], np.float32), 0.0) for view in some]

    predict_any_size(record, rgb)
    tiles = views[-TILES_TIMED:]  # the last ones; the first are whole frames, larger than tiles
    share = sum(tile.size for tile in tiles) / sum(view.size for view in views)

    def baseline(_) -> float:
        with baseline_segmenter(device).predicting() as predict:
            start_s = time.perf_counter()
            predict(tiles)
            return share / (time.perf_counter() - start_s)

    def ours(segmenter, _) -> float:
        with shared_network(segmenter, core_count()) as predict:
            return rate_per_s(lambda image: predict_any_size(predict, image), [rgb])

    tasks = {f"{BASELINE}, {TILES_TIMED} of {len(views)} views": baseline}
    return {**tasks, **{name: partial(ours, one) for name, one in segmenters(device).items()}}


def measure(title: str, tasks: dict[str, Rate], repeats: int) -> dict:
    """Rates, the name of our fastest row, and its ratio to the fastest of the baseline."""
    rates = alternate(tasks, repeats)
    baselines = [name for name in tasks if name.startswith(BASELINE)]
    theirs = max(baselines, key=lambda name: statistics.median(rates[name]))
    print(f"\n{title}; ratios to {theirs}")
    rows = report(rates, theirs, "images/s")
    ours = max(set(tasks) - set(baselines), key=rows.get)
    return dict(
        rates={name: row[0] for name, row in rows.items()}, fastest=ours, ratio=rows[ours][1]
    )


# --- The command -------------------------------------------------------------------------------


def run_segment(photo: Path, output: Path, *arguments) -> dict[str, float]:
    """One call of segment.py: seconds of the command and of the photo in it, peak in MB.

    The peak is 0 where it cannot be read, outside Linux.
    """
    command = [sys.executable, ROOT / "segment.py", photo, "--output", output, "--overwrite"]
    command += arguments
    start_s, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with suppress(FileNotFoundError, KeyError):  # it has just ended, or this is not Linux
                peak = max(peak, memory_mb("VmHWM", process.pid))
            time.sleep(0.01)
    if process.returncode:
        raise RuntimeError(f"segment.py ended with status {process.returncode} on {photo}.")
    command_s = time.perf_counter() - start_s
    [line] = (output / "report.jsonl").read_text().splitlines()
    return dict(command_s=command_s, photo_s=json.loads(line)["seconds"], peak_mb=peak)


def segment_large(repeats: int) -> dict[str, float]:
    """Medians of `run_segment` on a JPEG of LARGE_PX; a first call converts the network."""
    with tempfile.TemporaryDirectory() as folder:
        photo, output = Path(folder) / "photo.jpg", Path(folder) / "masks"
        cv2.imwrite(str(photo), cv2.cvtColor(large_photo(), cv2.COLOR_RGB2BGR))
        run_segment(photo, output)
        runs = [run_segment(photo, output) for _ in range(repeats)]
    return {name: round(float(np.median([run[name] for run in runs])), 2) for name in runs[0]}


# --- What was weighed --------------------------------------------------------------------------


def lever_tasks(images: int) -> dict[str, Rate]:
    """Row to rate for one image of SIZE_PX on all cores of the CPU, one change after the other."""
    network = load_network(SHIPPED_WEIGHTS).to(memory_format=torch.contiguous_format)
    folded = copy.deepcopy(network).to(memory_format=torch.channels_last)
    networks = {f"{BASELINE}, fp32": None, "ours, contiguous weights": network}
    networks["channels_last"] = copy.deepcopy(folded)
    fold_batch_norm(folded)
    networks["and batch norm folded"] = folded
    networks["and upsampling merged"] = fast_copy(network)
    networks["and compiled"] = torch.compile(fast_copy(network))
    tasks = {}
    for name, one in networks.items():
        ours = one is not None
        segmenter = TorchSegmenter(one, "cpu") if ours else baseline_segmenter("cpu")
        segmenter.dtype = torch.float32
        tasks[name] = view_rate(segmenter.predicting, 1, images if ours else 1)
    half = TorchSegmenter(fast_copy(network, torch.bfloat16), "cpu")
    half.dtype = torch.bfloat16
    tasks["merged, bf16"] = view_rate(half.predicting, 1, images)
    for name, segmenter in segmenters("cpu").items():
        if name != "torch":
            tasks[name] = view_rate(segmenter.predicting, 1, images)
    return {**tasks, **onnx_task(images)}


def onnx_task(images: int) -> dict[str, Rate]:
    """The exported file, if ONNX Runtime is installed."""
    if not find_spec("onnxruntime"):
        return {}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = core_count()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        WatermarkSegmenter.load().export_onnx(path)
        session = onnxruntime.InferenceSession(path, options)
    image = np.zeros((1, 3, SIZE_PX, SIZE_PX), np.uint8)

    def rate(_) -> float:
        return rate_per_s(lambda one: session.run(None, {"image": one}), [image] * images)

    return {"ONNX Runtime": rate}


def compare_levers(images: int, repeats: int) -> dict:
    """One change after the other at SIZE_PX, one image on all cores of the CPU."""
    return measure(f"{SIZE_PX} px, batch 1, cpu", lever_tasks(images), repeats)


def compare(images: int, repeats: int, large_repeats: int) -> dict:
    """Ours and the baseline on each device, at SIZE_PX and at LARGE_PX."""
    found = {}
    for device in sorted({"cpu", best_device().type}):
        small, large = small_tasks(device, images), large_tasks(device)
        found[device] = {
            "512": measure(f"{SIZE_PX} px, {device}", small, repeats),
            "large": measure(f"{LARGE_NAME}, {device}", large, large_repeats),
        }
    return dict(ratio_512=max(one["512"]["ratio"] for one in found.values()), devices=found)


def benchmark_inference(options) -> dict:
    """Images/s of the shipped weights and of the original's network, on each device."""
    if options.levers:
        return compare_levers(options.count, options.repeats)
    result = compare(options.count, options.repeats, options.large_repeats)
    large = segment_large(options.large_repeats)
    print(
        f"\nsegment.py on a JPEG of {LARGE_NAME}: {large['command_s']} s, of which the photo "
        f"{large['photo_s']} s; peak {large['peak_mb']:.0f} MB"
    )
    return {**result, "segment_large": large}
