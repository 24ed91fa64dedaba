"""Speed and memory; each rate beside a baseline timed in the same run, by turns.

python benchmark.py data       training samples: stages, workers, against bare decoding
python benchmark.py inference  the shipped weights against the network of the original
python benchmark.py training   training on real data against steps on one cached batch
python benchmark.py memory     peaks of a training and of a data worker, and whether that one grows
python benchmark.py files      `segment_files` against a plain loop over `segment`

A printed row: name, median rate, and the median over the repeats of its ratio to the baseline.
"""

import argparse
import json
import logging
import multiprocessing
import pkgutil
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from PIL import Image

from dataset import WatermarkSettings, make_datasets, make_loader
from images import find_images, sample_photos
from parallel import core_count
from timing import alternate, in_fresh_process, machine, memory_mb, rate_per_s, report

PHOTO_SIDE_PX = 500  # long side of Flickr8k's photos
LOADER_BATCH = 16
ENDLESS = 10**6  # samples of an epoch that no run comes to the end of
WARM_UP_STEPS = 2  # of a training: they allocate memory and choose kernels
# The allocator and the cache of fonts make a worker's memory rise and fall by some 4 MB. Over the
# default soak this is 0.6 KB a sample.
MAX_GROWTH_MB = 8.0
STAGES = {  # of a sample, to the functions that do it; all else is "rest"
    "decode": ["images.ImageFile.read"],
    "crop": ["dataset.crop_photo"],
    "marks": ["dataset.make_layer"],
    "blend": ["dataset.composite", "dataset.honest_mask"],
    "recompress": ["dataset.degrade"],
}

# --- Photos ------------------------------------------------------------------------------------


def write_photos(folder: Path, count: int) -> list[Path]:
    """JPEGs of 500 px and quality 90: crops of scikit-image's colour photographs."""
    photos = [file.read() for file in sample_photos()]
    large = [photo for photo in photos if min(photo.shape[:2]) >= 375 and photo.std() > 30]
    paths = []
    for index in range(count):
        photo = large[index % len(large)]
        height, width = photo.shape[:2]
        x, y = (index * 37) % max(1, width - PHOTO_SIDE_PX), (index * 23) % max(1, height - 375)
        crop = photo[y : y + 375, x : x + PHOTO_SIDE_PX]
        zoom = PHOTO_SIDE_PX / max(crop.shape)
        crop = cv2.resize(crop, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        paths.append(folder / f"{index:03}.jpg")
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
        cv2.imwrite(str(paths[-1]), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), quality)
    return paths


@contextmanager
def photo_folder(photos: str | None, count: int = 64) -> Iterator[Path]:
    """The given folder, or one with `count` files of `write_photos`, gone after the block."""
    with tempfile.TemporaryDirectory() as folder:
        if photos is None:
            write_photos(Path(folder), count)
        yield Path(photos or folder)


# --- Data --------------------------------------------------------------------------------------


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


# --- Training ----------------------------------------------------------------------------------


def training_data(folder: Path, options):
    """The datamodule of train.py."""
    from train import WatermarkData

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")  # advises more workers
    settings = WatermarkSettings(image_size=options.size)
    sizes = dict(batch_size=options.batch_size, workers=options.workers)
    data = WatermarkData(str(folder), settings=settings, train_length=ENDLESS, **sizes)
    data.setup("fit")
    return data


def training_rate(model, loader, seconds: float) -> float:
    """Images/s of a Trainer, set up as train.py does, over `seconds` after WARM_UP_STEPS."""
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import LambdaCallback

    from model import best_precision

    start_s, passed_s, images = 0.0, 0.0, 0

    def count(trainer, model, outputs, batch, number):
        nonlocal start_s, passed_s, images
        images += len(batch["image"]) if number >= WARM_UP_STEPS else 0
        trainer.should_stop = images > 0 and time.perf_counter() - start_s >= seconds
        if torch.accelerator.is_available() and (trainer.should_stop or not images):
            torch.accelerator.synchronize()  # only at both ends: a training does not wait either
        start_s = start_s if images else time.perf_counter()
        passed_s = time.perf_counter() - start_s

    trainer = Trainer(
        devices=1, precision=best_precision(), use_distributed_sampler=False, max_epochs=1,
        min_epochs=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[LambdaCallback(on_train_batch_end=count)],
    )  # fmt: skip
    trainer.fit(model, loader)
    return images / passed_s


def benchmark_training(options) -> dict:
    """Images/s on real data, against the same steps on one batch that lies on the device."""
    from model import WatermarkSegmenter, best_precision
    from network import best_device

    with photo_folder(options.photos) as folder:
        data, model = training_data(folder, options), WatermarkSegmenter()
        batch = next(iter(make_loader(data.train_data, options.batch_size)))
        batch = {name: value.to(best_device()) for name, value in batch.items()}
        cached = torch.utils.data.DataLoader([batch] * ENDLESS, batch_size=None)
        tasks = {
            "cached batch": lambda _: training_rate(model, cached, options.seconds),
            "real data": lambda _: training_rate(model, data.train_dataloader(), options.seconds),
        }
        rates = alternate(tasks, options.repeats)
    setup = {name: getattr(options, name) for name in TRAINING}
    setup |= {"device": str(best_device()), "precision": best_precision()}
    print(", ".join(f"{name} {value}" for name, value in setup.items()))
    rows = report(rates, "cached batch", "images/s")
    rate, ratio = rows["real data"]
    return dict(images_per_s=rate, cached_per_s=rows["cached batch"][0], ratio=ratio, **setup)


# --- Memory ------------------------------------------------------------------------------------


def training_peak(folder: Path, options) -> dict[str, float]:
    """Peak of a training process; its workers are processes of their own."""
    from model import WatermarkSegmenter

    training_rate(WatermarkSegmenter(), training_data(folder, options).train_dataloader(), 0)
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
    from benchmark_inference import segment_large

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


# --- Inference -----------------------------------------------------------------------------------


def benchmark_inference(options) -> dict:
    """Images/s of the shipped weights and of the original's network, on each device."""
    from benchmark_inference import LARGE_NAME, compare, compare_levers, segment_large

    if options.levers:
        return compare_levers(options.count, options.repeats)
    result = compare(options.count, options.repeats, options.large_repeats)
    large = segment_large(options.large_repeats)
    print(
        f"\nsegment.py on a JPEG of {LARGE_NAME}: {large['command_s']} s, of which the photo "
        f"{large['photo_s']} s; peak {large['peak_mb']:.0f} MB"
    )
    return {**result, "segment_large": large}


# --- Files -------------------------------------------------------------------------------------


def segment_in_a_loop(segmenter, paths, output: Path) -> None:
    """What one would write without `batch.py`: a mask for each image, one after the other."""
    output.mkdir()
    for path in paths:
        mask = segmenter.segment(path).mask
        Image.fromarray(mask.view(np.uint8) * 255).save(output / f"{path.stem}.png")


def benchmark_files(options) -> dict:
    """Images/s of `segment_files` with default settings, against `segment_in_a_loop`."""
    from batch import segment_files
    from runtime import load_segmenter

    segmenter = load_segmenter()
    with photo_folder(options.photos, options.count) as photos, photo_folder(None, 0) as output:
        paths = [file.path for file in find_images(photos)][: options.count]
        segmenter.segment(paths[0])  # what only the first call costs

        def loop(folder):
            segment_in_a_loop(segmenter, paths, folder)

        def batch(folder):
            segment_files(paths, folder, segmenter=segmenter)

        tasks = {
            "loop": lambda n: len(paths) * rate_per_s(loop, [output / f"loop{n}"]),
            "segment_files": lambda n: len(paths) * rate_per_s(batch, [output / f"batch{n}"]),
        }
        rates = alternate(tasks, options.repeats)
    rows, program = report(rates, "loop", "images/s"), type(segmenter).__name__
    rate, ratio = rows["segment_files"]
    return dict(batch_per_s=rate, loop_per_s=rows["loop"][0], ratio=ratio, program=program)


# --- Command line ------------------------------------------------------------------------------

TRAINING = dict(size=256, batch_size=16, workers=2)
COMMANDS = {  # name to the function and its options with their defaults
    "data": (benchmark_data, dict(count=300, repeats=5)),
    "inference": (benchmark_inference, dict(count=8, repeats=3, large_repeats=3, levers=False)),
    "training": (benchmark_training, dict(**TRAINING, seconds=20.0, repeats=3)),
    "memory": (benchmark_memory, dict(**TRAINING, soak=20000)),
    "files": (benchmark_files, dict(count=40, repeats=3)),
}
HELP = {
    "count": "samples or photos of each run",
    "large_repeats": "the same for the large photo",
    "levers": "instead: one change of the network or its program after the other, at 512 px",
    "repeats": "runs of each, by turns",
    "seconds": "of each run, after its warm-up",
    "size": "of the samples, px",
    "soak": "samples that one worker makes; its caches fill during the first 5,000",
}


def parse() -> argparse.Namespace:
    style = dict(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser = argparse.ArgumentParser(**style)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, defaults) in COMMANDS.items():
        command = commands.add_parser(name, **style)
        for option, value in defaults.items():
            flag, text = "--" + option.replace("_", "-"), HELP.get(option, "")
            if value is False:
                command.add_argument(flag, action="store_true", help=text)
                continue
            command.add_argument(flag, type=type(value), default=value, help=f"{text} ({value})")
        command.add_argument("--photos", help="folder; default: 500 px JPEGs cut from skimage's")
        command.add_argument("--json", action="store_true", help="last line: one JSON object")
    options = parser.parse_args()
    for option, default in COMMANDS[options.command][1].items():
        if default is not False and getattr(options, option) <= 0:
            parser.error(f"{option} is {getattr(options, option)}; give a number above 0.")
    return options


def main() -> None:
    options = parse()
    try:
        result = COMMANDS[options.command][0](options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"benchmark.py: {error}")
    about = machine()
    print(*(f"{name}: {value}" for name, value in about.items()), sep="; ")
    if options.json:
        print(json.dumps({**result, "machine": about}))


if __name__ == "__main__":
    main()
