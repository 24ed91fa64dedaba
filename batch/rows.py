"""The record of one image, as a line of the report or a row of a table."""

import json

from inference.pictures import boxes_of, coco_rle
from inference.segmenter import Segmentation

RESULT_COLUMNS = ("width", "height", "score", "coverage", "boxes", "error")  # of every image


def result_columns(result: Segmentation, rle: bool) -> dict:
    """The RESULT_COLUMNS of a segmented image, and with `rle` its mask as COCO RLE."""
    height, width = result.mask.shape
    record = {
        "width": width, "height": height, "score": round(result.score, 6),
        "coverage": round(result.coverage, 8), "boxes": boxes_of(result.mask), "error": None,
    }  # fmt: skip
    return {**record, "rle": coco_rle(result.mask)} if rle else record


def error_columns(error: Exception) -> dict:
    """The RESULT_COLUMNS of an image that failed."""
    return {**dict.fromkeys(RESULT_COLUMNS), "boxes": [], "error": reason_of(error)}


def reason_of(error: Exception) -> str:
    """The text of an exception, with its type if the text alone would not explain it."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    if not reason or not isinstance(error, (OSError, ValueError)):
        reason = f"{type(error).__name__}: {reason}"
    return reason.removeprefix("The PIL image ")  # written by `read_image`


def to_json(value) -> bytes:
    """One line of JSON. Escapes bytes of file names that are not UTF-8; `os.fsencode` undoes it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def to_jsonl(rows: list[dict], columns) -> bytes:
    return b"".join(to_json({name: row.get(name) for name in columns}) + b"\n" for row in rows)


def to_parquet(rows: list[dict], columns) -> bytes:
    import pyarrow as pa  # optional and slow to import
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(arrow_table(rows, columns), sink)
    return sink.getvalue().to_pybytes()


WRITERS = {"jsonl": to_jsonl, "parquet": to_parquet}  # format of a report to its function


def arrow_table(rows: list[dict], columns):
    """Rows as a PyArrow table. Each of the columns must have a type in this function."""
    import pyarrow as pa  # optional and slow to import

    types = {
        "path": pa.string(), "key": pa.string(), "source": pa.string(), "mask": pa.string(),
        "width": pa.int64(), "height": pa.int64(), "score": pa.float64(),
        "coverage": pa.float64(), "boxes": pa.list_(pa.list_(pa.int64())),
        "error": pa.string(), "seconds": pa.float64(), "shared": pa.float64(),
        "frames": pa.int64(), "seen": pa.list_(pa.float64()), "masks": pa.string(),
        "damage": pa.string(),
        "rle": pa.struct([("size", pa.list_(pa.int64())), ("counts", pa.string())]),
    }  # fmt: skip
    schema = pa.schema([(name, types[name]) for name in columns])
    valid = [{name: valid_text(row.get(name)) for name in columns} for row in rows]
    return pa.Table.from_pylist(valid, schema)


def valid_text(value):
    """Text with invalid Unicode escaped, because Parquet refuses it; other values unchanged."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
