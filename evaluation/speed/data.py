"""Training samples a second: stages, workers, against bare decoding of the same files."""

import pkgutil
import time
from collections import Counter
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import cv2

from dataset import WatermarkSettings, make_datasets
from evaluation.speed.photos import photo_folder
from evaluation.speed.timing import alternate, rate_per_s, report
from inference.parallel import core_count
from samples.loading import make_loader

LOADER_BATCH = 16
ENDLESS = 10**6  # samples of an epoch that no run comes to the end of
STAGES = {  # of a sample, to the functions that do it; all else is "rest"
    "decode": ["samples.files.ImageFile.read"],
    "crop": ["samples.photos.crop_photo"],
    "marks": ["dataset.make_layer"],
    "blend": ["dataset.composite", "dataset.honest_mask"],
    "recompress": ["dataset.degrade", "samples.loading.recompressed"],
}


def training_samples(folder: Path, size: int):
    settings = WatermarkSettings(image_size=size)
    return make_datasets(folder, settings=settings, train_length=ENDLESS)[0]


def stage_shares(dataset, indices) -> dict[str, float]:
    """Share of each stage, and of "rest", in the time of the samples; they add up to 1."""
    seconds = Counter()

    def timed(stage, function):
        def call(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            seconds[stage] += time.perf_counter() - start
            return result

        return call

    with ExitStack() as stack:
        for stage, names in STAGES.items():
            for name in names:
                stack.enter_context(patch(name, timed(stage, pkgutil.resolve_name(name))))
        total = len(indices) / rate_per_s(dataset.__getitem__, indices)
    shares = {stage: round(seconds[stage] / total, 4) for stage in STAGES}
    return {**shares, "rest": round(1 - sum(shares.values()), 4)}


def worker_rates(dataset, repeats: int, count: int) -> dict[str, list[float]]:
    """Samples/s with 1, 2, 4 ... workers, `count` samples for each worker."""

    def measure(workers, batches) -> float:
        for _ in islice(batches, 3 * workers):  # more than was prepared while others had their turn
            pass
        steps = range(-(-workers * count // LOADER_BATCH))
        return LOADER_BATCH * rate_per_s(lambda _: next(batches), steps)

    tasks = {}
    for workers in [1, 2] + [2**k for k in range(2, 8) if 2**k <= core_count()]:
        batches = iter(make_loader(dataset, LOADER_BATCH, workers, train=True))
        tasks[str(workers)] = lambda _, w=workers, b=batches: measure(w, b)
    return alternate(tasks, repeats)


def one_core_rates(dataset, repeats: int, count: int) -> dict[str, list[float]]:
    """Samples/s, and images/s of OpenCV that decodes the files of the same samples."""
    files = [str(dataset.photos[dataset.params(i).photo].path) for i in range(count)]
    rate_per_s(dataset.__getitem__, range(min(200, count)))  # fills the caches of logos and fonts
    tasks = {
        "bare decoding": lambda repeat: rate_per_s(cv2.imread, files),
        "samples": lambda repeat: rate_per_s(lambda i: dataset[repeat, i], range(count)),
    }
    return alternate(tasks, repeats)


def benchmark_data(options) -> dict:
    """Samples/s with default settings on one core, and what more workers bring."""
    cv2.setNumThreads(1)
    rows, stages = {}, {}
    with photo_folder(options.photos) as folder:
        for size in (512, 256):  # one after the other: they would empty each other's font cache
            dataset = training_samples(folder, size)
            rates = one_core_rates(dataset, options.repeats, options.count)
            print(f"{size} px, one core:")
            rows[size] = report(rates, "bare decoding", "images/s")
            stages[size] = stage_shares(dataset, range(options.count))
            print(", ".join(f"{stage} {share:.1%}" for stage, share in stages[size].items()))
        workers = worker_rates(dataset, options.repeats, options.count)
    print("256 px, by workers:")
    scaling = report(workers, "1", "images/s")
    return {
        "samples_per_s": rows[256]["samples"][0],
        "decode_per_s": rows[256]["bare decoding"][0],
        "ratio": rows[256]["samples"][1],
        "samples_512_per_s": rows[512]["samples"][0],
        "ratio_512": rows[512]["samples"][1],
        "stages": stages,
        "workers_per_s": {number: rate for number, (rate, _) in scaling.items()},
        "workers_ratio": {number: ratio for number, (_, ratio) in scaling.items()},
    }
