"""Masks for images and clips: `python segment.py photo.jpg clip.mp4 folder/ --output masks`.

For every input an 8-bit mask (0 or 255) of exactly its size, and a line in the report. Stopped at
any moment, the same command goes on. From Python: `batch.segment_files`.

Exit status: 0 all went well; 1 some inputs failed, each named, or the disk is full; 2 wrong usage;
130 interrupted.
"""

import logging
import sys
import warnings

from batch import Options, segment_files
from batch.command import parse, run_command

SOURCE = dict(nargs="+", metavar="INPUT", help="image, clip, folder, or .txt of paths")


def main(arguments=None) -> int:
    warnings.filterwarnings("ignore", module="PIL")  # of damaged files: the report names them
    logging.basicConfig(format="%(message)s")
    logging.getLogger("inference").setLevel(logging.INFO)
    sources, output, options = parse(__doc__, Options, SOURCE, arguments)
    return run_command("segment.py", lambda: segment_files(sources, output, options, progress=True))


if __name__ == "__main__":
    sys.exit(main())
