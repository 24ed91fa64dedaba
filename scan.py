"""Rows about millions of images: `python scan.py SOURCE --output DIR-or-URL`.

SOURCE: WebDataset .tar shards or Parquet files with a column of image bytes, as local path or URL
(s3://, gs://, what fsspec opens). Each shard gets a Parquet file of rows: key, source, width,
height, score, coverage, boxes, error, and the columns it had. Stopped at any moment, the same
command goes on. From Python: `batch.scan.scan`.

Exit status: 0 all went well; 1 some images failed (the column error says why), or the disk is full;
2 wrong usage; 130 interrupted.
"""

import sys

from batch.command import parse, run_command
from batch.scan import ScanOptions, scan

SOURCE = dict(metavar="SOURCE", help=".tar, .parquet, or a folder of such")


def main(arguments=None) -> int:
    source, output, options = parse(__doc__, ScanOptions, SOURCE, arguments)
    return run_command("scan.py", lambda: scan(source, output, options))


if __name__ == "__main__":
    sys.exit(main())
