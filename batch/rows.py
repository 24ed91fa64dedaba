"""What is told of an image: its line of a report, its row of a table."""

import json

from inference.pictures import boxes_of, coco_rle
from inference.segmenter import Segmentation

FOUND = ("width", "height", "score", "coverage", "boxes", "error")  # columns of every image


def measures(found: Segmentation, rle: bool) -> dict:
    """FOUND of an image in which a mask was sought, and "rle" if it is asked for."""
    height, width = found.mask.shape
    record = {
        "width": width, "height": height, "score": round(found.score, 6),
        "coverage": round(found.coverage, 8), "boxes": boxes_of(found.mask), "error": None,
    }  # fmt: skip
    return {**record, "rle": coco_rle(found.mask)} if rle else record


def failure(error: Exception) -> dict:
    """FOUND of an image that failed."""
    return {**dict.fromkeys(FOUND), "boxes": [], "error": reason_of(error)}


def reason_of(error: Exception) -> str:
    """Why something failed, in words."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    if not reason or not isinstance(error, (OSError, ValueError)):
        reason = f"{type(error).__name__}: {reason}"
    return reason.removeprefix("The PIL image ")  # of `read_image`


def to_json(value) -> bytes:
    """One line of UTF-8. Bytes of a file name that are no UTF-8 become JSON's \\udc80 to \\udcff,
    from which `os.fsencode` makes the name again."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def to_jsonl(rows: list[dict], columns) -> bytes:
    return b"".join(to_json({name: row.get(name) for name in columns}) + b"\n" for row in rows)


def to_parquet(rows: list[dict], columns) -> bytes:
    import pyarrow as pa  # optional and slow to import
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(arrow_table(rows, columns), sink)
    return sink.getvalue().to_pybytes()


WRITERS = {"jsonl": to_jsonl, "parquet": to_parquet}  # of reports


def arrow_table(rows: list[dict], columns):
    """Rows as a PyArrow table with some of the columns that are known here."""
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
    """Text with what is no Unicode escaped, which Parquet refuses; other values as they are."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
