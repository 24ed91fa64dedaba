"""Measures the accuracy of weights, and makes trained weights ready to publish.

python evaluate.py field --clean DIR --marked DIR           a min_score for your own photos
python evaluate.py measure --photos DIR --logos DIR         the synthetic test set
python evaluate.py measure --images DIR --masks DIR         photos whose masks you painted
python evaluate.py average A B --output DIR                 the mean of trained networks
python evaluate.py fit-score ... --weights DIR              fit the score on whole photos
python evaluate.py calibrate ... --weights DIR              turn the score into a probability
python evaluate.py quantize ... --weights DIR               write the network in 8-bit integers

`python evaluate.py measure --help` lists the options of this command. docs/accuracy.md explains the
slices of the test set and the numbers.
"""

import argparse
import hashlib
import sys
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from evaluation.accuracy import evaluate_slices, write_results
from evaluation.averaging import average
from evaluation.field import segment_photos, write_field
from evaluation.quantization import quantize
from evaluation.score import calibrate, fit_score
from evaluation.testset import SLICES, find_test_files, real_pairs, synthetic_slices
from inference.folder import SHIPPED_WEIGHTS, WEIGHTS, check_writable
from inference.runtime import BACKENDS, load_segmenter
from inference.segmenter import THRESHOLD
from samples.files import find_photos
from samples.splits import TEST_PHOTOS

COUNT = 100  # images of each slice
CHANGES = {  # commands that change the weights: (function, purpose, default count, its unit)
    "fit-score": (fit_score, "fit the score on whole training photos", 4000, "photos"),
    "calibrate": (calibrate, "make the score a probability, on validation photos", 20,
                  "marked photos of each slice"),
    "quantize": (quantize, "write the network in 8-bit integers, for the backend openvino-int8",
                 100, "training samples"),
}  # fmt: skip
FILES = (*TEST_PHOTOS, "logos", "fonts", "manifest")  # arguments of `find_test_files`


def run_field(options) -> None:
    clean = find_photos(options.clean)
    marked = find_photos(options.marked) if options.marked else []
    segmenter = load_segmenter(options.weights, backend=options.backend)
    settings = dict(threshold=options.threshold, fast=options.fast)
    options.output.mkdir(parents=True, exist_ok=True)  # before the long computation
    photos = segment_photos(segmenter, clean, marked, settings)
    write_field(segmenter, photos, settings, options.output)


def run_measure(options) -> None:
    slices = slices_to_measure(**vars(options))
    segmenter = load_segmenter(options.weights, backend=options.backend)
    model = hashlib.sha256((options.weights / WEIGHTS).read_bytes())  # the file may change later
    settings = dict(threshold=options.threshold, fast=options.fast)
    results = evaluate_slices(slices, segmenter, settings, options.output, options.save_images)
    results["model_sha256"] = model.hexdigest()
    write_results(results, vars(options), options.output)


def slices_to_measure(images, masks, weights, slices, count, seed, **options) -> dict:
    """Slices from the options of `measure`; ValueError if some are missing or exclude others."""
    files = {name: options[name] for name in FILES}
    if images and masks and not (any(files.values()) or slices or count):
        return real_pairs(images, masks, weights)
    if images or masks or not (files["logos"] and any(files[kind] for kind in TEST_PHOTOS)):
        raise ValueError(
            "Give --photos and --logos, or --images and --masks. With the latter, leave out "
            "--slices, --count and the options that name other files."
        )
    files = find_test_files(**files, weights=weights)
    return synthetic_slices(slices or SLICES, count or COUNT, seed, files)


def change_weights(change, options) -> None:
    """Calls a function that changes the weights, and prints its message."""
    check_writable(options.weights)  # before the long computation
    folders = options.photos, options.logos, options.fonts
    split = [options.val_fraction] if "val_fraction" in options else []
    print(change(options.weights, folders, *split, options.count, options.seed))


def at_least_1(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; give 1 or more")
    return value


def add_files(add, count: int | None, what: str, required: bool = True) -> None:
    add("--photos", nargs="+", required=required, help="folders of photos without marks")
    add("--logos", required=required, help="folder of logos with transparency")
    add("--fonts", help="folder of fonts for text marks (default: matplotlib's)")
    add("--count", type=at_least_1, default=count, help=f"{what} (default: {count or COUNT})")
    add("--seed", type=int, default=0)


def add_measuring(add, output: str) -> None:
    add("--weights", type=Path, default=SHIPPED_WEIGHTS, help="folder that train.py wrote")
    add("--threshold", type=float, default=THRESHOLD,
        help=f"lowest probability of a marked pixel (default: {THRESHOLD})")  # fmt: skip
    add("--fast", action="store_true", help="one view of each image: faster, less accurate")
    add("--backend", choices=BACKENDS, default="auto", help="program that runs the network")
    add("--output", type=Path, default=Path(output), help=f"folder to write to ({output})")


def main(arguments=None) -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, what: str):
        one = commands.add_parser(name, help=what, description=what)
        one.set_defaults(run=run)
        return one.add_argument

    add = command("field", run_field, "choose min_score for your own photos, without masks")
    add("--clean", nargs="+", required=True, help="folders of your photos without marks")
    add("--marked", nargs="+", help="folders of your photos with marks")
    add_measuring(add, "field")

    add = command("measure", run_measure, "accuracy on the test set or on real pairs")
    add_measuring(add, "results")
    add_files(add, None, "images of each slice, of different photos if there are enough", False)
    add("--large", nargs="+", help="folders of large photos, for the slices large-*")
    add("--print", nargs="+", help="folders of documents and print, for the slices print-*")
    add("--manifest", help="use only the photos, the logos and the fonts of --fonts in this list")
    add("--slices", nargs="+", choices=SLICES, metavar="SLICE", help=", ".join(SLICES))
    add("--images", help="folder of real images, instead of --photos")
    add("--masks", help="folder of their masks, with the same names: white = mark")
    add("--save-images", action="store_true", help="also write the test images and masks")

    add = command("average", lambda options: print(average(options.folders, options.output)),
                  "write the mean of trained networks")  # fmt: skip
    add("folders", nargs="+", metavar="FOLDER", help="weights; a folder given twice weighs twice")
    add("--output", type=Path, required=True, help="folder to write to")

    for name, (change, purpose, count, what) in CHANGES.items():
        add = command(name, partial(change_weights, change), purpose)
        add("--weights", type=Path, required=True, help="folder that train.py wrote; it is changed")
        add_files(add, count, what)
        if change is not quantize:
            add("--val-fraction", type=float, required=True,
                help="the training's val_fraction: share kept for validation")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError) as error:
        sys.exit(f"evaluate.py: {error}")


if __name__ == "__main__":
    main()
