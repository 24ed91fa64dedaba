"""Measures how well the network finds your mark: `python visibility.py MARK --photos PHOTOS`.

MARK is a folder of logos, or of .txt files and their font (samples/own_mark.py). The command draws
the mark on photos at every opacity and size. It writes a table, a heat map and examples.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

from evaluation.visibility import (
    OPACITIES,
    PHOTOS_PER_CELL,
    SIZES,
    cell_table,
    examples,
    measure,
    write_cells,
)
from inference.folder import SHIPPED_WEIGHTS
from inference.runtime import load_segmenter
from samples.files import find_images, sample_photos
from samples.own_mark import find_mark


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("mark", metavar="MARK", help="folder of logos, or of .txt files and their font")
    add("--photos", help="folder of photos; the default is scikit-image's sample photos")
    add("--weights", default=SHIPPED_WEIGHTS, help="folder that train.py wrote")
    add("--opacities", nargs="+", type=float, default=OPACITIES, metavar="O")
    add("--sizes", nargs="+", type=float, default=SIZES, metavar="S",
        help="long side of the mark / short side of the photo")  # fmt: skip
    add("--count", type=int, default=PHOTOS_PER_CELL, help="photos for each opacity and size")
    add("--seed", type=int, default=0)
    add("--output", type=Path, default=Path("visibility"), help="folder to write to")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count is {options.count}; give 1 or more")
    matplotlib.use("Agg")
    try:
        segmenter, mark = load_segmenter(options.weights), find_mark(options.mark)
        print(f"The mark: {mark}")
        files = sample_photos() if options.photos is None else find_images(options.photos)
        photos = [file.read() for file in files[: options.count]]
        grid = (options.opacities, options.sizes)
        cells = measure(segmenter, mark, photos, *grid, options.count, options.seed)
        print(cell_table(cells))  # first, because writing the folder can fail
        largest = max(photos, key=lambda photo: min(photo.shape[:2]))  # a small text fits on it
        drawing = options.opacities, max(options.sizes), options.seed
        write_cells(cells, examples(segmenter, mark, largest, *drawing), options.output)
    except (OSError, ValueError) as error:
        sys.exit(f"visibility.py: {error}")
    print(f"Everything is in {options.output}/.")


if __name__ == "__main__":
    main()
