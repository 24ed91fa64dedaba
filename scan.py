"""Finds watermarks in shards of millions of images: `python scan.py SOURCE --output DIR-or-URL`.

SOURCE has WebDataset .tar files or Parquet files with a column of image bytes. It is a local path
or a URL that fsspec supports (s3://, gs://). For each shard the command writes a Parquet file with
key, source, width, height, score, coverage, boxes, error and the columns of the shard. If the
command was stopped, the same command continues. From Python: `batch.scan.scan`.

Exit status: 0 success; 1 an image failed (the column error says why) or the disk is full; 2 wrong
usage; 130 interrupted.
"""

import sys

from batch.command import parse, run_command
from batch.scan import ScanOptions, scan

SOURCE = dict(metavar="SOURCE", help=".tar or .parquet file, or a folder of them")


def main(arguments=None) -> int:
    source, output, options = parse(__doc__, ScanOptions, SOURCE, arguments)
    return run_command("scan.py", lambda: scan(source, output, options))


if __name__ == "__main__":
    sys.exit(main())
