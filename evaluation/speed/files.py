"""Images a second of `segment_files`, against a plain loop over `segment`."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from batch import segment_files
from evaluation.speed.photos import photo_folder
from evaluation.speed.timing import alternate, rate_per_s, report
from inference.runtime import load_segmenter
from samples.files import find_images


def segment_in_a_loop(segmenter, paths, output: Path) -> None:
    """What one would write without `batch`: a mask for each image, one after the other."""
    output.mkdir()
    for path in paths:
        mask = segmenter.segment(path).mask
        Image.fromarray(mask.view(np.uint8) * 255).save(output / f"{path.stem}.png")


def benchmark_files(options) -> dict:
    """Images/s of `segment_files` with default settings, against `segment_in_a_loop`."""
    segmenter = load_segmenter()
    with (
        photo_folder(options.photos, options.count) as photos,
        tempfile.TemporaryDirectory() as output,
    ):
        paths = [file.path for file in find_images(photos)][: options.count]
        segmenter.segment(paths[0])  # what only the first call costs

        def loop(folder):
            segment_in_a_loop(segmenter, paths, folder)

        def batch(folder):
            segment_files(paths, folder, segmenter=segmenter)

        tasks = {
            "loop": lambda n: len(paths) * rate_per_s(loop, [Path(output, f"loop{n}")]),
            "segment_files": lambda n: len(paths) * rate_per_s(batch, [Path(output, f"batch{n}")]),
        }
        rates = alternate(tasks, options.repeats)
    rows, program = report(rates, "loop", "images/s"), type(segmenter).__name__
    rate, ratio = rows["segment_files"]
    return dict(batch_per_s=rate, loop_per_s=rows["loop"][0], ratio=ratio, program=program)
