"""Measures how fast this machine is. Each command prints one or two tables.

python benchmark.py inference    `segment` on photos of 512 and 1,600 px, and the original network
python benchmark.py samples      training samples; for comparison, only decoding the same photos
python benchmark.py training     training steps on new samples; for comparison, on one cached batch
python benchmark.py scan         segment.py on a folder and scan.py on one archive of it

A row has a name, images per second, and the ratio to the first row of its table. The original
network, which this repository replaces, is smp's Unet with the encoder mit_b5 in fp32. It has
random weights here, because only its speed counts.
"""

import argparse
import itertools
import json
import logging
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from pytorch_lightning.callbacks import LambdaCallback
from torch.utils.benchmark import Timer

from dataset import WatermarkSettings, make_datasets
from inference.devices import best_device, best_precision
from inference.runtime import BACKENDS, load_segmenter
from model import WatermarkSegmenter
from samples.files import find_images, sample_photos
from samples.loading import make_loader

ROOT = Path(__file__).parent
SIZES_PX = ((512, 512), (1600, 1200))  # width and height of the photos to segment
PHOTO_PX = (500, 375)  # of the photos that this command writes if you give none
WARM_UP_STEPS = 3  # not timed: they allocate memory and choose kernels
ENDLESS = 10**6  # samples of an epoch, more than any run needs


# --- Measuring ---------------------------------------------------------------------------------


def images_per_s(function, images: int, seconds: float) -> float:
    """Images per second of a function that handles `images` of them in one call."""
    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    return images / timer.blocked_autorange(min_run_time=seconds).mean


def report(title: str, rates: dict[str, float]) -> dict[str, float]:
    """Prints and returns rates in images per second; prints their ratios to the first, too."""
    print(f"\n{title}")
    first = next(iter(rates.values()))
    for name, rate in rates.items():
        print(f"{name:36} {rate:9.{1 if rate >= 10 else 3}f} images/s {rate / first:8.2f}")
    return {name: round(rate, 4) for name, rate in rates.items()}


def machine() -> dict:
    """The hardware and software that the numbers depend on."""
    info = Path("/proc/cpuinfo")  # Linux: "name : value" in each line
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
    }


def write_photos(folder: Path, count: int) -> None:
    """JPEGs of PHOTO_PX: crops of scikit-image's photographs."""
    photos = [photo for photo in (file.read() for file in sample_photos()) if photo.std() > 30]
    width, height = PHOTO_PX
    for index in range(count):
        photo = photos[index % len(photos)]
        y, x = 23 * index % (photo.shape[0] // 2), 37 * index % (photo.shape[1] // 2)
        crop = cv2.resize(photo[y : y + height, x : x + width], PHOTO_PX)
        cv2.imwrite(str(folder / f"{index:04}.jpg"), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))


# --- The commands ------------------------------------------------------------------------------


def original_network(device, width: int, height: int):
    """A function that runs the original network once; sides are padded to multiples of 32."""
    network = smp.create_model("unet", "mit_b5", None, classes=1).eval().to(device)
    image = torch.zeros(1, 3, *(-(-side // 32) * 32 for side in (height, width)), device=device)

    @torch.inference_mode()
    def run():
        return network(image)

    return run


def segmenters() -> dict:
    """Name to segmenter, with the shipped weights, for each backend that this machine has."""
    names = BACKENDS[1:] if find_spec("openvino") else ["torch"]
    return {name: load_segmenter(backend=name) for name in names}


def benchmark_inference(options, folder: Path) -> dict:
    """Times `segment` with each backend, and one pass of the original network."""
    photo, device, programs = sample_photos()[0].read(), best_device(), segmenters()
    results = {}
    for width, height in SIZES_PX:
        rgb = cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC)
        run = original_network(device, width, height)
        rates = {f"original network, {device}": images_per_s(run, 1, options.seconds)}
        for (name, segmenter), fast in itertools.product(programs.items(), (False, True)):
            run = partial(segmenter.segment, rgb, fast=fast)
            rates[name + ", fast" * fast] = images_per_s(run, 1, options.seconds)
        results[f"{width}px"] = report(f"A photo of {width} x {height} px:", rates)
    return results


def training_samples(folder: Path, size: int):
    settings = WatermarkSettings(image_size=size)
    return make_datasets(folder, settings=settings, train_length=ENDLESS)[0]


def benchmark_samples(options, folder: Path) -> dict:
    """Times training samples with default settings, in one process and in a loader's workers."""
    samples = training_samples(folder, options.size)
    paths = itertools.cycle([str(file.path) for file in samples.photos])
    numbers = itertools.count()
    batches = iter(make_loader(samples, options.batch_size, options.workers, train=True))
    tasks = {
        "decoding the photos, 1 process": (lambda: cv2.imread(next(paths)), 1),
        "samples, 1 process": (lambda: samples[next(numbers)], 1),
        f"samples, {options.workers} workers": (lambda: next(batches), options.batch_size),
    }
    rates = {name: images_per_s(*task, options.seconds) for name, task in tasks.items()}
    return report(f"Samples of {options.size} px:", rates)


def training_rate(loader, seconds: float) -> float:
    """Images per second of Lightning's Trainer after WARM_UP_STEPS, with the setup of train.py."""
    times, images = [], 0

    def tick(trainer, model, outputs, batch, number):
        nonlocal images
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        times.append(time.perf_counter())
        images += len(batch["image"]) if number > WARM_UP_STEPS else 0
        trainer.should_stop = images > 0 and times[-1] - times[WARM_UP_STEPS] >= seconds

    trainer = pl.Trainer(
        devices=1, precision=best_precision(), max_epochs=1, min_epochs=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=[LambdaCallback(on_train_batch_end=tick)],
    )  # fmt: skip
    trainer.fit(WatermarkSegmenter(), loader)
    return images / (times[-1] - times[WARM_UP_STEPS])


def benchmark_training(options, folder: Path) -> dict:
    """Times training steps on new samples, and on one batch that stays on the device."""
    samples = training_samples(folder, options.size)
    batch = next(iter(make_loader(samples, options.batch_size)))
    batch = {name: value.to(best_device()) for name, value in batch.items()}
    loaders = {
        "cached batch": torch.utils.data.DataLoader([batch] * ENDLESS, batch_size=None),
        f"new samples, {options.workers} workers": make_loader(
            samples, options.batch_size, options.workers, train=True
        ),
    }
    rates = {name: training_rate(loader, options.seconds) for name, loader in loaders.items()}
    about = f"batches of {options.batch_size}, {best_device()}, {best_precision()}"
    return report(f"Training at {options.size} px, {about}:", rates)


def run_command(name: str, source: Path, output: Path) -> float:
    """Seconds of one call of a command."""
    start_s = time.perf_counter()
    call = [sys.executable, str(ROOT / name), str(source), "--output", str(output)]
    if (done := subprocess.run(call, capture_output=True, text=True)).returncode:
        raise ValueError(f"{name} ended with status {done.returncode}: {done.stderr[-500:]}")
    return time.perf_counter() - start_s


def benchmark_scan(options, folder: Path) -> dict:
    """Times the two commands on the same photos. A run on one photo gives the start-up time."""
    commands = ["segment.py", *(["scan.py"] if find_spec("ray") else [])]
    rates = {}
    with tempfile.TemporaryDirectory() as work:
        one = Path(work) / "one"
        one.mkdir()
        paths = [file.path for file in find_images(folder)]
        (one / paths[0].name).write_bytes(paths[0].read_bytes())
        for name in commands:
            first, every = one, folder
            if name == "scan.py":  # it reads archives; one archive uses one core
                first, every = (
                    shutil.make_archive(f"{work}/{f.name}", "tar", f) for f in (one, folder)
                )
            run_command(name, first, Path(work) / f"{name} first")  # converts the network, once
            start_s = run_command(name, first, Path(work) / f"{name} one")
            all_s = run_command(name, every, Path(work) / f"{name} all")
            rates[f"{name}, start {start_s:.1f} s"] = (len(paths) - 1) / (all_s - start_s)
    return report(f"{len(paths)} photos, without the start:", rates)


COMMANDS = {
    "inference": benchmark_inference,
    "samples": benchmark_samples,
    "training": benchmark_training,
    "scan": benchmark_scan,
}


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=COMMANDS)
    add("--photos", type=Path, help="folder (default: JPEGs of 500 px, cut from scikit-image's)")
    add("--count", type=int, default=200, help="photos to write if none are given (200)")
    add("--seconds", type=float, default=10.0, help="time for each row (10)")
    add("--size", type=int, default=256, help="side of the training samples, px (256)")
    add("--batch-size", type=int, default=16, help="samples in a training batch (16)")
    add("--workers", type=int, default=2, help="processes that make samples (2)")
    add("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(arguments)
    for name, value in vars(options).items():
        if type(value) in (int, float) and value <= 0:
            parser.error(f"--{name.replace('_', '-')} is {value}; give a number above 0.")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")  # it advises more workers
    try:
        with tempfile.TemporaryDirectory() as folder:
            if options.photos is None and options.command != "inference":
                write_photos(Path(folder), options.count)
            result = COMMANDS[options.command](options, options.photos or Path(folder))
    except (OSError, ValueError) as error:
        sys.exit(f"benchmark.py: {error}")
    about = machine()
    print("\n" + "; ".join(f"{name}: {value}" for name, value in about.items()))
    if options.json:
        print(json.dumps({"rates": result, "machine": about}))


if __name__ == "__main__":
    main()
