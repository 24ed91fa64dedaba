"""Accuracy of a weights folder, and what makes trained weights ready to publish.

python evaluate.py field --clean DIR --marked DIR           your own photos, without any mask
python evaluate.py measure --photos DIR --logos DIR         the synthetic test set
python evaluate.py measure --images DIR --masks DIR         photos whose masks you painted
python evaluate.py together --photos DIR --logos DIR        groups of photos that share a mark
python evaluate.py average A B --output DIR                 the mean of trained networks
python evaluate.py fit-score ... --weights DIR              the score, fitted on whole photos
python evaluate.py calibrate ... --weights DIR              the score, made a probability
python evaluate.py quantize ... --weights DIR               the network in 8-bit integers

`python evaluate.py measure --help` lists the options of a command. What the slices of the test set
are, evaluation/testset.py says; what the numbers mean, docs/accuracy.md.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from evaluation.averaging import average
from evaluation.calibration import calibrate
from evaluation.card import read_card, write_card
from evaluation.field import look_at, write_field
from evaluation.quantization import quantize
from evaluation.run import evaluate_slices, write_results
from evaluation.score import fit_score
from evaluation.test_files import (
    find_test_files,
    real_pairs,
    slices_at_hand,
    synthetic_slices,
)
from evaluation.testset import MARKED, SLICES
from evaluation.together import compare_together, write_together
from inference.folder import SHIPPED_WEIGHTS, check_writable
from inference.runtime import BACKENDS, load_segmenter
from inference.segmenter import THRESHOLD
from samples.files import find_photos
from samples.splits import TEST_PHOTOS

COUNT = 100  # images of each slice
TEST_SET = (*TEST_PHOTOS, "logos", "fonts", "manifest", "slices", "count", "card")


# --- The commands ------------------------------------------------------------------------------


def run_field(options) -> None:
    clean, marked = (find_photos(folders) if folders else []
                     for folders in (options.clean, options.marked))  # fmt: skip
    segmenter = load_segmenter(options.weights, backend=options.backend)
    settings = dict(threshold=options.threshold, fast=options.fast)
    photos = look_at(segmenter, clean, marked, settings)
    write_field(segmenter, photos, settings, options.output)


def run_measure(options) -> None:
    if options.card:
        if options.slices or options.fast or options.threshold != THRESHOLD:
            raise ValueError("--card describes all slices at the default settings: leave out "
                             "--slices, --threshold and --fast.")  # fmt: skip
        read_card(options.card)  # what is wrong with it shows before the evaluation
    slices = slices_to_measure(options)
    segmenter = load_segmenter(options.weights, backend=options.backend)
    settings = dict(threshold=options.threshold, fast=options.fast)
    results = evaluate_slices(slices, segmenter, settings, options.output, options.save_images)
    results = write_results(results, options.weights, vars(options), options.output)
    if options.card:
        write_card(results, options.card)


def slices_to_measure(options) -> dict:
    if options.images and options.masks:
        if given := [name for name in TEST_SET if getattr(options, name) is not None]:
            raise ValueError(f"--images and --masks are evaluated as they are: no --{given[0]}.")
        return real_pairs(options.images, options.masks, options.weights)
    photos = any(getattr(options, kind) for kind in TEST_PHOTOS)
    if options.images or options.masks or not (options.logos and photos):
        raise ValueError("Give --photos and --logos, or --images and --masks.")
    names, count = options.slices or SLICES, options.count or COUNT
    return synthetic_slices(names, count, options.seed, test_files(options))


def test_files(options) -> dict[str, list]:
    named = {kind: getattr(options, kind) for kind in (*TEST_PHOTOS, "logos", "fonts", "manifest")}
    return find_test_files(**named, weights=options.weights)


def run_together(options) -> None:
    files = test_files(options)
    names = slices_at_hand(options.slices, files)
    segmenter = load_segmenter(options.weights, backend=options.backend)
    options.output.mkdir(parents=True, exist_ok=True)
    how = options.count, options.seed, options.threshold, options.group_sizes
    write_together(compare_together(segmenter, files, names, *how), options.output)


def change_weights(change, options, *numbers) -> None:
    """Calls a function that writes into the weights, and prints what it says."""
    check_writable(options.weights)  # before the work whose result it gets
    folders = options.photos, options.logos, options.fonts
    print(change(options.weights, folders, *numbers, options.count, options.seed))


# --- The command line --------------------------------------------------------------------------


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


def add_test_set(add, names, default=None) -> None:
    add("--large", nargs="+", help="folders of large photos, for the slices large-*")
    add("--print", nargs="+", help="folders of documents and print, for the slices print-*")
    listed = "use the photos, logos and, of --fonts, the fonts that this file lists, no other"
    add("--manifest", help=listed)
    help_text = ", ".join(names)
    add("--slices", nargs="+", choices=names, default=default, metavar="SLICE", help=help_text)


def add_measuring(add, output: str, fast: bool = True) -> None:
    add("--weights", type=Path, default=SHIPPED_WEIGHTS, help="folder that train.py wrote")
    limit = f"probability from which a pixel is marked (default: {THRESHOLD})"
    add("--threshold", type=float, default=THRESHOLD, help=limit)
    if fast:
        add("--fast", action="store_true", help="look at each image once: faster, less accurate")
    add("--backend", choices=BACKENDS, default="auto", help="what computes")
    add("--output", type=Path, default=Path(output), help=f"folder to write to ({output})")


def add_field(add) -> None:
    add("--clean", nargs="+", required=True, help="folders of your photos without marks")
    add("--marked", nargs="+", help="folders of your photos with marks")
    add_measuring(add, "field")


def add_measure(add) -> None:
    add_measuring(add, "results")
    add_files(add, None, "images of each slice, each of another photo if there are so many", False)
    add_test_set(add, list(SLICES))
    add("--images", help="folder of real images, instead of --photos")
    add("--masks", help="folder of their masks, of the same names: white = mark")
    add("--save-images", action="store_true", help="write the test images and masks, too")
    add("--card", type=Path, metavar="FILE", help="model card to write header and tables into")


def add_together(add) -> None:
    add_measuring(add, "results", fast=False)
    add_files(add, 20, "groups of each slice")
    add_test_set(add, MARKED, MARKED)
    sizes = "photos with one mark in a group (default: 3 10 30)"
    add("--group-sizes", nargs="+", type=at_least_1, default=[3, 10, 30], metavar="N", help=sizes)


def add_average(add) -> None:
    twice = "weights; a folder that is given twice weighs twice"
    add("folders", nargs="+", metavar="FOLDER", help=twice)
    add("--output", type=Path, required=True, help="folder for the mean")


def add_change(add, count: int, what: str) -> None:
    add("--weights", type=Path, required=True, help="folder that train.py wrote; it is changed")
    add_files(add, count, what)


def add_fit(add, count: int, what: str) -> None:
    add_change(add, count, what)
    share = "share of the files that the training kept for validation"
    add("--val-fraction", type=float, required=True, help=share)


COMMANDS = {  # name to what it does, its options, and the function that does it
    "field": ("how to set min_score for your own photos, without masks", add_field, run_field),
    "measure": ("accuracy on the test set or on real pairs", add_measure, run_measure),
    "together": ("what images gain that share a mark", add_together, run_together),
    "average": ("write the mean of trained networks", add_average,
                lambda o: print(average(o.folders, o.output))),
    "fit-score": ("fit the score on whole training photos",
                  lambda add: add_fit(add, 4000, "photos"),
                  lambda o: change_weights(fit_score, o, o.val_fraction)),
    "calibrate": ("make the score a probability, on validation photos",
                  lambda add: add_fit(add, 20, "marked photos of each slice"),
                  lambda o: change_weights(calibrate, o, o.val_fraction)),
    "quantize": ("write the network in 8-bit integers, for the backend openvino-int8",
                 lambda add: add_change(add, 100, "training samples"),
                 lambda o: change_weights(quantize, o)),
}  # fmt: skip


def main(arguments=None) -> None:
    style = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    parser = argparse.ArgumentParser(description=__doc__, **style)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (what, add_options, _) in COMMANDS.items():
        add_options(commands.add_parser(name, help=what, description=what).add_argument)
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command][2](options)
    except (OSError, ValueError) as error:
        sys.exit(f"evaluate.py: {error}")


if __name__ == "__main__":
    main()
