"""What a batch writes: pictures and report, each file whole or not at all."""

import csv
import errno
import io
import json
import os
import secrets
from pathlib import Path

from inference.pictures import boxes_of, coco_rle
from inference.segmenter import Segmentation

COLUMNS = ("path", "mask", "width", "height", "score", "coverage", "boxes", "error", "seconds")
EXTRA_COLUMNS = ("shared", "rle")  # only where they were asked for
PARTIAL = ".progress.partial"  # folder of files that are being written
FATAL = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)  # no further file will fare better


class OutputError(OSError):
    """The output folder no longer takes files; what is done so far stays."""


def write_whole(data: bytes, name: str, output: Path, needed: bool = False) -> None:
    """Writes a file below the output folder: under a temporary name, then renamed.

    Args:
        needed: the file is one of the whole run, which is worth nothing without it.

    Raises:
        OutputError: the disk is full or read-only, or a file that is needed cannot be written.
        OSError: this file cannot be written.
    """
    temporary = output / PARTIAL / secrets.token_hex(8)
    try:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, output / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kind = OutputError if needed or error.errno in FATAL else OSError
        raise kind(f"{output / name} cannot be written: {error.strerror}") from error


def report_name(kind: str) -> str:
    """Of the report in the output folder; kinds are the names in WRITERS."""
    return f"report.{kind}"


def measures(found: Segmentation, rle: bool) -> dict:
    """What a report says about an image in which a mask was sought."""
    height, width = found.mask.shape
    record = {
        "width": width, "height": height, "score": round(found.score, 6),
        "coverage": round(found.coverage, 8), "boxes": boxes_of(found.mask), "error": None,
    }  # fmt: skip
    return {**record, "rle": coco_rle(found.mask)} if rle else record


def reason_of(error: Exception) -> str:
    """Why an image failed, in words."""
    reason = str(error)
    if not reason or not isinstance(error, (OSError, ValueError)):
        reason = f"{type(error).__name__}: {reason}"
    return reason


def write_report(records: list[dict], output: Path, kind: str) -> Path:
    """Writes the report; of each record, with COLUMNS and maybe EXTRA_COLUMNS, a line."""
    extra = (name for name in EXTRA_COLUMNS if any(name in record for record in records))
    columns = [*COLUMNS, *extra]
    rows = [{name: record.get(name) for name in columns} for record in records]
    write_whole(WRITERS[kind](rows, columns), report_name(kind), output, needed=True)
    return output / report_name(kind)


def _jsonl(rows, columns) -> bytes:
    return b"".join(to_json(row) + b"\n" for row in rows)


def to_json(value) -> bytes:
    """One line of UTF-8. Bytes of a file name that are no UTF-8 become JSON's \\udc80 to \\udcff,
    from which `os.fsencode` makes the name again."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _csv(rows, columns) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value):
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _parquet(rows, columns) -> bytes:
    import pyarrow as pa  # optional and slow to import
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(arrow_table(rows, columns), sink)
    return sink.getvalue().to_pybytes()


def arrow_table(rows: list[dict], columns):
    """Rows of a report as a PyArrow table with some of the columns that are known here."""
    import pyarrow as pa  # optional and slow to import

    types = {
        "path": pa.string(), "key": pa.string(), "source": pa.string(), "mask": pa.string(),
        "width": pa.int64(), "height": pa.int64(), "score": pa.float64(),
        "coverage": pa.float64(), "boxes": pa.list_(pa.list_(pa.int64())),
        "error": pa.string(), "seconds": pa.float64(), "shared": pa.float64(),
        "rle": pa.struct([("size", pa.list_(pa.int64())), ("counts", pa.string())]),
    }  # fmt: skip
    schema = pa.schema([(name, types[name]) for name in columns])
    valid = [{name: valid_text(row.get(name)) for name in columns} for row in rows]
    return pa.Table.from_pylist(valid, schema)


def valid_text(value):
    """Text with what is no Unicode escaped, which Parquet refuses; other values as they are."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


WRITERS = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
