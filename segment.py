"""Masks for any number of images: `python segment.py photo.jpg folder/ list.txt --output masks`.

For every input an 8-bit mask (0 or 255) of exactly its size, and a line in the report. Started
again with the same arguments, it goes on where it was stopped. From Python: `batch.segment_files`.
"""

import argparse
import os
import sys
import warnings

from batch import Options, segment_files
from inputs import UsageError
from report import WRITERS


def parse(arguments=None) -> tuple[list[str], str, Options]:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add, default = parser.add_argument, Options()
    add("inputs", nargs="+", metavar="INPUT", help="image, folder (recursive), or .txt of paths")
    add("--output", required=True, metavar="DIR", help="folder for masks and report")
    add("--weights", default=default.weights, metavar="DIR", help="folder of a trained model")
    add("--threshold", type=float, default=default.threshold, metavar="T",
        help="probability from which a pixel is marked, 0..1")  # fmt: skip
    add("--min-score", type=float, default=default.min_score, metavar="S",
        help="an image with a lower score gets an empty mask, 0..1")  # fmt: skip
    add("--dilate", type=int, default=default.dilate, metavar="PX", help="widen masks by PX")
    add("--soft", action="store_true", help="masks with a feathered edge")
    add("--overlay", action="store_true", help="also NAME.overlay.jpg: the mask in red")
    add("--probability", action="store_true", help="also NAME.probability.png: 16 bit")
    add("--rle", action="store_true", help="masks as COCO RLE in the report")
    add("--report", choices=WRITERS, default=default.report, help="format of the report")
    add("--workers", type=int, default=argparse.SUPPRESS, metavar="N",
        help="images in work at once (default: one per core)")  # fmt: skip
    add("--device", default=default.device, help="cpu, cuda, cuda:1, mps, or auto: the best")
    add("--overwrite", action="store_true", help="start afresh instead of going on")
    add("--allow-huge", action="store_true", help="images above Pillow's limit, 179 megapixels")
    given = vars(parser.parse_args(arguments))
    inputs, output = given.pop("inputs"), given.pop("output")
    try:
        return inputs, output, Options(**given)
    except ValueError as error:
        parser.error(str(error))


def main(arguments=None) -> int:
    warnings.filterwarnings("ignore", module="PIL")  # of damaged files: the report names them
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files that are no UTF-8
    sys.stderr.reconfigure(errors="backslashreplace")
    inputs, output, options = parse(arguments)
    try:
        summary = segment_files(inputs, output, options, progress=True)
    except (UsageError, FileNotFoundError, ValueError) as error:
        print(f"segment.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"segment.py: stopped: {error}. What is done stays; the same command goes on.",
              file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:
        print("segment.py: interrupted. The same command goes on.", file=sys.stderr)
        return 130
    if int(os.environ.get("RANK", 0)):
        return 0  # under torchrun the first process speaks for all
    print(summary)
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())
