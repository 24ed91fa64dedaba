"""Rows about millions of images: `python scan.py SOURCE --output DIR-or-URL`.

SOURCE: WebDataset .tar shards, Parquet files with a column of image bytes, or folders of images, as
local path or URL (s3://, gs://, what fsspec opens). Each shard gets a Parquet file of rows: key,
source, width, height, score, coverage, boxes, error, and the columns it had. Stopped at any moment,
the same command goes on. From Python: `batch.scan.scan`.

Exit status: 0 all went well; 1 some images failed (the column error says why), or the disk is full;
2 wrong usage; 130 interrupted.
"""

import argparse
import sys

from batch.command import escape_odd_names, run_command
from batch.scan import ScanOptions, scan
from inference.runtime import BACKENDS


def parse(arguments=None) -> tuple[str, str, ScanOptions]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    add, default = parser.add_argument, ScanOptions()
    add("source", metavar="SOURCE", help=".tar, .parquet, or a folder of such or of images")
    add("--output", required=True, metavar="DIR", help="folder or URL for rows/, kept/, scan.json")
    add("--weights", metavar="DIR", help="folder of a trained model (default: the shipped one)")
    marked = f"probability from which a pixel is marked, 0..1 (default: {default.threshold})"
    add("--threshold", type=float, metavar="T", help=marked)
    empty = f"a photo with a lower score has no marked pixel (default: {default.min_score})"
    add("--min-score", type=float, metavar="S", help=empty)
    add("--fast", action="store_true", help="look at each image once: less accurate")
    add("--rle", action="store_true", help="masks as COCO RLE in the rows")
    kept = "write the shards again, with only the photos whose score is below SCORE"
    add("--keep-below", type=float, metavar="SCORE", help=kept)
    add("--address", help="ray://HOST:10001, HOST:6379 or auto: a cluster (default: this machine)")
    add("--actors", type=int, metavar="N", help="processes (default: one per GPU, or per core)")
    add("--cpus-per-actor", type=int, metavar="N", help="cores for each (default: equal shares)")
    share = f"share of a GPU for each, such as 0.25 (default: {default.gpus_per_actor:g})"
    add("--gpus-per-actor", type=float, metavar="X", help=share)
    add("--device", help="cpu, cuda, mps (default: GPUs if Ray counts any)")
    add("--backend", choices=BACKENDS, help="what computes (default: the fastest)")
    add("--dollars-per-hour", type=float, metavar="D", help="of one machine: says what it costs")
    given = vars(parser.parse_args(arguments))
    source, output = given.pop("source"), given.pop("output")
    try:
        return source, output, ScanOptions(**given)
    except ValueError as error:
        parser.error(str(error))


def main(arguments=None) -> int:
    escape_odd_names()
    source, output, options = parse(arguments)
    return run_command(
        "scan.py", lambda: scan(source, output, options), "The same command goes on."
    )


if __name__ == "__main__":
    sys.exit(main())
