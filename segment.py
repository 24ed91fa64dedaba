"""Finds watermarks in images and clips: `python segment.py photo.jpg folder/ --output masks`.

For each input the command writes an 8-bit mask (0 or 255) of the same size and a line of the
report. If it was stopped, the same command continues. From Python: `batch.segment_files`.

Exit status: 0 success; 1 an input failed (the summary names it) or the disk is full; 2 wrong usage;
130 interrupted.
"""

import logging
import sys
import warnings
from functools import partial

from batch import Options, segment_files
from batch.command import parse, run_command

SOURCE = dict(nargs="+", metavar="INPUT", help="image, clip, folder, or .txt of paths")


def main(arguments=None) -> int:
    warnings.filterwarnings("ignore", module="PIL")  # the report names damaged files
    logging.basicConfig(format="%(message)s")
    logging.getLogger("inference").setLevel(logging.INFO)
    sources, output, options = parse(__doc__, Options, SOURCE, arguments)
    work = partial(segment_files, sources, output, options, progress=True)
    return run_command("segment.py", work, except_for=" without --overwrite")


if __name__ == "__main__":
    sys.exit(main())
