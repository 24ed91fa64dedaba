"""Masks for images and clips: `python segment.py photo.jpg clip.mp4 folder/ --output masks`.

For every input an 8-bit mask (0 or 255) of exactly its size, and a line in the report. Stopped at
any moment, the same command goes on. From Python: `batch.segment_files`.

Exit status: 0 all went well; 1 some inputs failed, each named, or the disk is full; 2 wrong usage;
130 interrupted.
"""

import argparse
import logging
import sys
import warnings

from batch import Options, segment_files
from batch.command import escape_odd_names, run_command
from batch.rows import WRITERS
from inference.runtime import BACKENDS
from inference.video import MAX_FRAMES


def parse(arguments=None) -> tuple[list[str], str, Options]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    add, default = parser.add_argument, Options()
    add("inputs", nargs="+", metavar="INPUT", help="image, clip, folder, or .txt of paths")
    add("--output", required=True, metavar="DIR", help="folder for masks and report")
    add("--weights", metavar="DIR", help="folder of a trained model (default: the shipped one)")
    marked = f"probability from which a pixel is marked, 0..1 (default: {default.threshold})"
    add("--threshold", type=float, metavar="T", help=marked)
    empty = f"an image with a lower score gets an empty mask (default: {default.min_score})"
    add("--min-score", type=float, metavar="S", help=empty)
    add("--dilate", type=int, metavar="PX", help="widen masks by PX")
    pooled = "images of equal size may carry one mark at the same place: decide together"
    add("--together", action="store_true", help=pooled)
    sampled = f"frames of a clip that decide together, 1..{MAX_FRAMES} (default: {default.frames})"
    add("--frames", type=int, metavar="N", help=sampled)
    each = "also a mask for the frame of every S seconds of a clip: NAME.frames/NUMBER.png"
    add("--every", type=float, metavar="S", help=each)
    add("--soft", action="store_true", help="masks with a feathered edge")
    add("--overlay", action="store_true", help="also NAME.overlay.jpg: the mask in red")
    add("--probability", action="store_true", help="also NAME.probability.png: 16 bit")
    add("--fast", action="store_true", help="look at each image once: less accurate")
    add("--rle", action="store_true", help="masks as COCO RLE in the report")
    add("--report", choices=WRITERS, help=f"format of the report (default: {default.report})")
    add("--workers", type=int, metavar="N", help="images in work at once (default: one per core)")
    add("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    add("--backend", choices=BACKENDS, help="what computes (default: the fastest)")
    add("--overwrite", action="store_true", help="start afresh, deleting an earlier run's files")
    add("--allow-huge", action="store_true", help="images above Pillow's limit, 179 megapixels")
    given = vars(parser.parse_intermixed_args(arguments))
    inputs, output = given.pop("inputs"), given.pop("output")
    try:
        return inputs, output, Options(**given)
    except ValueError as error:
        parser.error(str(error))


def main(arguments=None) -> int:
    warnings.filterwarnings("ignore", module="PIL")  # of damaged files: the report names them
    escape_odd_names()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("inference").setLevel(logging.INFO)
    inputs, output, options = parse(arguments)
    go_on = "What is done stays: " + (
        "the same command without --overwrite goes on." if options.overwrite
        else "the same command goes on."
    )  # fmt: skip
    return run_command(
        "segment.py", lambda: segment_files(inputs, output, options, progress=True), go_on
    )


if __name__ == "__main__":
    sys.exit(main())
