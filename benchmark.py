"""Speed, each figure beside a baseline timed in the same run.

python benchmark.py data     training samples against bare decoding
python benchmark.py files    `segment_files` against a plain loop over `segment`
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from batch import segment_files
from dataset import make_datasets
from images import find_images, sample_photos
from model import WatermarkSegmenter, best_device

PHOTO_SIDE_PX = 500  # long side of Flickr8k's photos


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


def rate_per_s(function, items) -> float:
    start = time.perf_counter()
    for item in items:
        function(item)
    return len(items) / (time.perf_counter() - start)


def benchmark_data(photos: str | None, repeats: int, count: int) -> dict:
    """Samples/s on one core with default settings, against OpenCV decoding the same files."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if photos is None:
            write_photos(Path(folder), 64)
        dataset, _ = make_datasets(photos or folder, train_length=count, val_fraction=0.1)
        files = [str(dataset.photos[dataset.params(i).photo].path) for i in range(count)]
        rate_per_s(dataset.__getitem__, range(min(200, count)))  # fills the logo and font caches
        samples, decodes = [], []
        for epoch in range(repeats):
            decodes.append(rate_per_s(cv2.imread, files))
            samples.append(rate_per_s(dataset.__getitem__, [(epoch, i) for i in range(count)]))
    return {
        "samples_per_s": round(statistics.median(samples), 1),
        "decode_per_s": round(statistics.median(decodes), 1),
        "ratio": round(statistics.median(s / d for s, d in zip(samples, decodes)), 3),
    }


def segment_in_a_loop(segmenter, paths, output: Path) -> None:
    """What one would write without `batch.py`: a mask for each image, one after the other."""
    output.mkdir()
    for path in paths:
        mask = segmenter.segment(path).mask
        Image.fromarray(mask.view(np.uint8) * 255).save(output / f"{path.stem}.png")


def benchmark_files(photos: str | None, repeats: int, count: int) -> dict:
    """Images/s of `segment_files` with default settings, against `segment_in_a_loop`."""
    segmenter = WatermarkSegmenter.load().to(best_device())
    loops, batches = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if photos is None:
            (folder / "photos").mkdir()
            write_photos(folder / "photos", count)
        paths = [file.path for file in find_images(photos or folder / "photos")][:count]
        segmenter.segment(paths[0])  # what only the first call costs
        for repeat in range(repeats):
            start = time.perf_counter()
            segment_in_a_loop(segmenter, paths, folder / f"loop{repeat}")
            middle = time.perf_counter()
            segment_files(paths, folder / f"batch{repeat}", segmenter=segmenter)
            loops.append(len(paths) / (middle - start))
            batches.append(len(paths) / (time.perf_counter() - middle))
    return {
        "batch_per_s": round(statistics.median(batches), 2),
        "loop_per_s": round(statistics.median(loops), 2),
        "ratio": round(statistics.median(b / s for b, s in zip(batches, loops)), 3),
        "device": str(segmenter.device),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("data", help="training samples against bare decoding, one core")
    data.add_argument("--count", type=int, default=300, help="samples of each repeat")
    data.add_argument("--repeats", type=int, default=5)
    files = commands.add_parser("files", help="segment_files against a plain loop")
    files.add_argument("--count", type=int, default=40, help="photos of each repeat")
    files.add_argument("--repeats", type=int, default=3)
    for command in (data, files):
        command.add_argument("--photos", help="folder; default: 500 px JPEGs cut from skimage's")
        command.add_argument("--json", action="store_true", help="last line: one JSON object")
    options = parser.parse_args()
    machine = platform.processor() or platform.machine()
    if options.command == "data":
        result = benchmark_data(options.photos, options.repeats, options.count)
        print(f"{machine}, one core, OpenCV {cv2.__version__}")
        print(f"training samples, 256 px   {result['samples_per_s']:8.1f} /s")
        print(f"bare decoding, same files  {result['decode_per_s']:8.1f} /s")
    else:
        result = benchmark_files(options.photos, options.repeats, options.count)
        threads = f"{result['threads']} threads, {os.cpu_count()} cores"
        print(f"{machine}, {result['device']}, {threads}, torch {torch.__version__}")
        print(f"segment_files              {result['batch_per_s']:8.2f} images/s")
        print(f"loop over segment          {result['loop_per_s']:8.2f} images/s")
    print(f"ratio                      {result['ratio']:8.3f}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
