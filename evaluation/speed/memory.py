"""Peaks of memory: a training, its data worker, segment.py; and whether the worker grows."""

import multiprocessing
import statistics
from itertools import islice
from pathlib import Path

import cv2
import torch

from evaluation.speed.data import LOADER_BATCH, training_samples
from evaluation.speed.network import segment_large
from evaluation.speed.photos import photo_folder
from evaluation.speed.timing import in_fresh_process, memory_mb
from evaluation.speed.training import training_batches, training_rate
from model import WatermarkSegmenter
from samples.loading import make_loader

# The allocator and the cache of fonts make a worker's memory rise and fall by some 4 MB. Over the
# default soak this is 0.6 KB a sample.
MAX_GROWTH_MB = 8.0


def training_peak(folder: Path, options) -> dict[str, float]:
    """Peak of a training process; its workers are processes of their own."""
    training_rate(WatermarkSegmenter(), training_batches(folder, options), 0)
    peaks = {"training_mb": memory_mb("VmHWM")}
    if torch.cuda.is_available():
        peaks["training_cuda_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peaks


def soak(dataset, count: int) -> tuple[list[float], float]:
    """One data worker makes `count` samples: its memory after each batch, and its peak; MB."""
    others = set(multiprocessing.active_children())
    batches = iter(make_loader(dataset, LOADER_BATCH, workers=1, train=True))
    [worker] = set(multiprocessing.active_children()) - others
    steps = islice(batches, -(-count // LOADER_BATCH))
    return [memory_mb("VmRSS", worker.pid) for _ in steps], memory_mb("VmHWM", worker.pid)


def soak_of_training(folder: Path, options) -> tuple[list[float], float]:
    cv2.setNumThreads(1)
    return soak(training_samples(folder, options.size), options.soak)


def growth_mb(readings: list[float]) -> float:
    """From the tenth after the first quarter, in which caches fill, to the last one; of medians."""
    warm, tenth = len(readings) // 4, -(-len(readings) // 10)
    before, after = readings[warm : warm + tenth], readings[-tenth:]
    return round(statistics.median(after) - statistics.median(before), 1)


def benchmark_memory(options) -> dict:
    """Peaks, each in a process of its own, and how much a data worker grows."""
    with photo_folder(options.photos) as folder:
        peaks = in_fresh_process(training_peak, folder, options)
        readings, peaks["worker_mb"] = in_fresh_process(soak_of_training, folder, options)
    peaks["inference_mb"] = segment_large(1)["peak_mb"]
    for name, peak in peaks.items():
        print(f"peak, {name.removesuffix('_mb'):20} {peak:9.1f} MB")
    growth, curve = growth_mb(readings), readings[:: -(-len(readings) // 10)] + readings[-1:]
    print(f"worker over {options.soak} samples:", *(f"{mb:.0f}" for mb in curve), "MB")
    verdict = f"no growth: at most {MAX_GROWTH_MB}" if growth <= MAX_GROWTH_MB else "it grows"
    print(f"worker, end - warm         {growth:9.1f} MB ({verdict})")
    return {**peaks, "growth_mb": growth, "grows": growth > MAX_GROWTH_MB, "curve_mb": curve}
