"""Accuracy of a weights folder, on a frozen synthetic test set or on real pairs.

    python evaluate.py --photos PHOTOS --logos LOGOS --fonts FONTS --manifest held_out.json
    python evaluate.py --photos PHOTOS --logos LOGOS
    python evaluate.py --images IMAGES --masks MASKS
    python evaluate.py --photos PHOTOS --logos LOGOS --together 3 10 30 --slices faint
    python evaluate.py --average RUN/weights START --weights DIR
    python evaluate.py --photos PHOTOS --logos LOGOS --fit-score 0.05 --count 4000 --weights DIR
    python evaluate.py --photos PHOTOS --logos LOGOS --calibrate 0.05 --count 20 --weights DIR
    python evaluate.py --photos PHOTOS --logos LOGOS --quantize --weights DIR

Writes results.json, results.md (the table it prints), reliability.png and a gallery of the best,
median and worst images of each slice into --output. What the slices are, evaluation/testset.py
says; what the numbers mean, evaluation/metrics.py. With --together: what images that share a mark
gain from each other, in together.json and together.md. With --card: also the header and the table
of a model card. With --average: writes the mean of trained networks. With --fit-score: fits the
score on whole photos of a training, and writes it into the weights. With --calibrate: makes it a
probability, on the validation files. With --quantize: writes the network in 8-bit integers beside
them, for the backend openvino-int8.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from evaluation.averaging import average
from evaluation.calibration import calibrate
from evaluation.card import read_card, write_card
from evaluation.quantization import quantize
from evaluation.run import evaluate_slices, write_results
from evaluation.score import fit_score
from evaluation.test_files import find_test_files, real_pairs, synthetic_slices
from evaluation.testset import MARKED, SLICES
from evaluation.together import compare_together, write_together
from inference.folder import SHIPPED_WEIGHTS, check_writable
from inference.runtime import BACKENDS, load_segmenter
from inference.segmenter import THRESHOLD

FILES = {"photos", "logos", "fonts", "count", "seed", "weights"}
MEASURING = {"weights", "threshold", "output", "backend"}
READS = {  # option that says what is done, to those that it reads
    "average": {"weights"},
    "images": MEASURING | {"masks", "save_images"},
    "fit_score": FILES,
    "calibrate": FILES,
    "quantize": FILES,
    "together": FILES | MEASURING | {"manifest", "slices"},
}


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, default=SHIPPED_WEIGHTS, help="folder that train.py wrote")
    add("--photos", nargs="+", help="folders of photos without marks, to draw marks on")
    add("--logos", help="folder of logos with transparency")
    add("--fonts", help="folder of fonts for text marks, instead of matplotlib's")
    add(
        "--manifest",
        help="use the photos, logos and, of --fonts, the fonts that this lists, no other",
    )
    add("--images", help="folder of real images, instead of --photos")
    add("--masks", help="folder of their masks, of the same names: white = mark")
    add("--slices", nargs="+", default=list(SLICES), choices=SLICES, metavar="SLICE")
    add("--count", type=int, default=100, help="images, or groups, of each slice")
    add("--seed", type=int, default=0)
    add("--threshold", type=float, default=THRESHOLD,
        help="probability from which a pixel is marked")  # fmt: skip
    add("--output", type=Path, default=Path("results"), help="folder to write to")
    add("--card", type=Path, metavar="FILE", help="model card to write header and table into")
    add("--together", nargs="+", type=int, metavar="N", help="groups of N photos with one mark")
    add("--average", nargs="+", metavar="FOLDER",
        help="write the mean of these weights; a folder given twice weighs twice")  # fmt: skip
    add("--fit-score", type=float, metavar="VAL_FRACTION",
        help="fit the score on --count photos; this share of the files, that of the training, "
        "stays unseen")  # fmt: skip
    add("--calibrate", type=float, metavar="VAL_FRACTION",
        help="scale the score by this share of the files, that of the training")  # fmt: skip
    add("--quantize", action="store_true",
        help="make the network of openvino-int8, from --count training samples")  # fmt: skip
    add("--backend", choices=BACKENDS, default="auto", help="what computes")
    add("--save-images", action="store_true", help="write the test images and masks, too")
    options = parser.parse_args(arguments)
    given = {name for name, value in vars(options).items() if value != parser.get_default(name)}
    if options.average:
        if len(options.average) < 2 or options.weights == SHIPPED_WEIGHTS:
            parser.error("--average takes two folders or more, and --weights for their mean")
        if given != {"average", *READS["average"]}:
            parser.error("--average goes with --weights, and with nothing else")
        return options
    synthetic, real = (options.photos, options.logos), (options.images, options.masks)
    if not (all(synthetic) or all(real)) or (any(synthetic) and any(real)):
        parser.error("give either --photos and --logos, or --images and --masks")
    if options.count < 1:
        parser.error(f"--count is {options.count}; give 1 or more")
    if options.together and (min(options.together) < 1 or options.images):
        parser.error("--together takes numbers of photos from 1, and needs --photos and --logos")
    if options.together and not set(options.slices) & set(MARKED):
        parser.error(f"--together needs slices with marks: {', '.join(MARKED)}")
    changes = [name for name, value in (
        ("--fit-score", options.fit_score is not None),
        ("--calibrate", options.calibrate is not None),
        ("--quantize", options.quantize),
    ) if value]  # fmt: skip
    if len(changes) > 1:
        parser.error(f"{changes[0]} changes the weights that {changes[1]} takes: first the one")
    if changes and options.images:
        parser.error(f"{changes[0]} needs --photos and --logos")
    if changes and (options.together or options.manifest):
        parser.error(f"{changes[0]} must go without --together and --manifest")
    if options.images and options.manifest:
        parser.error("--manifest lists photos, logos and fonts: --images and --masks go without it")
    partial = set(options.slices) != set(SLICES)
    if options.card and (options.images or options.together or changes or partial):
        parser.error("--card needs the whole table of --photos and --logos, and nothing beside it")
    if options.card and "threshold" in given:
        parser.error("--card says what the default threshold gives: leave out --threshold")
    if changes and options.weights == SHIPPED_WEIGHTS:  # an absolute path: the default
        parser.error(f"{changes[0]} writes into the weights: name them by --weights")
    for what in READS.keys() & given:
        if unread := given - {what} - READS[what]:
            flags = [f"--{name}".replace("_", "-") for name in (what, *sorted(unread))]
            parser.error(f"{flags[0]} does not read {', '.join(flags[1:])}: leave that out")
    return options


def run(options) -> None:
    folders = options.photos, options.logos, options.fonts
    if options.average:
        print(average(options.average, options.weights))
        return
    numbers = options.count, options.seed
    if options.quantize or (options.fit_score, options.calibrate) != (None, None):
        check_writable(options.weights)  # before the work whose result it gets
    if options.fit_score is not None:
        print(fit_score(options.weights, folders, options.fit_score, *numbers))
        return
    if options.calibrate is not None:
        print(calibrate(options.weights, folders, options.calibrate, *numbers))
        return
    if options.quantize:
        print(quantize(options.weights, folders, *numbers))
        return
    if options.card:
        read_card(options.card)  # what is wrong with it shows before the evaluation
    segmenter = load_segmenter(options.weights, backend=options.backend)
    if options.images:
        slices = real_pairs(options.images, options.masks, options.weights)
    else:
        files = find_test_files(*folders, options.manifest, options.weights)
        if options.together:
            marked = [name for name in options.slices if name in MARKED]
            how = *numbers, options.threshold, options.together
            options.output.mkdir(parents=True, exist_ok=True)
            found = compare_together(segmenter, files, marked, *how)
            write_together(found, options.output)
            return
        slices = synthetic_slices(options.slices, *numbers, files)
    how = options.threshold, options.output, options.save_images
    results = evaluate_slices(slices, segmenter, *how)
    results = write_results(results, options.weights, vars(options), options.output)
    if options.card:
        write_card(results, options.card)


def main(arguments=None) -> None:
    options = parse(arguments)
    try:
        run(options)
    except (OSError, ValueError) as error:
        sys.exit(f"evaluate.py: {error}")


if __name__ == "__main__":
    main()
