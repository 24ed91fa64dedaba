"""What a batch writes: pictures and report, each file whole or not at all."""

import csv
import errno
import io
import json
import os
import secrets
from pathlib import Path

import cv2
import numpy as np

from inference import Segmentation, reduced

COLUMNS = ("path", "mask", "width", "height", "score", "coverage", "boxes", "error", "seconds")
EXTRA_COLUMNS = ("shared", "rle")  # only where they were asked for
PARTIAL = ".progress.partial"  # folder of files that are being written
FEATHER_PX = 2  # sigma of the soft edge
OVERLAY_PX = 2048  # longest side of an overlay
FATAL = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)  # no further file will fare better


class OutputError(OSError):
    """The output folder no longer takes files; what is done so far stays."""


def boxes_of(mask: np.ndarray) -> list[list[int]]:
    """[x, y, width, height] in px of each connected region of a bool mask, largest first."""
    stats = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)[2]
    regions = sorted(stats[1:].tolist(), key=lambda s: (-s[4], s[1], s[0]))
    return [region[:4] for region in regions]


def coco_rle(mask: np.ndarray) -> dict:
    """COCO's run-length encoding of a bool mask: {"size": [height, width], "counts": text}."""
    from pycocotools import mask as coco  # optional and slow to import

    rle = coco.encode(np.asfortranarray(mask.view(np.uint8)))
    return {"size": list(map(int, rle["size"])), "counts": rle["counts"].decode()}


def mask_bytes(mask: np.ndarray) -> np.ndarray:
    """A bool mask as uint8, H x W: 255 = mark, 0 = none."""
    return mask.view(np.uint8) * np.uint8(255)


def mask_picture(found: Segmentation, rgb: np.ndarray) -> np.ndarray:
    """See `mask_bytes`."""
    return mask_bytes(found.mask)


def soft_mask_picture(found: Segmentation, rgb: np.ndarray) -> np.ndarray:
    """The mask with an edge that falls from 255 to 0 over some FEATHER_PX pixels."""
    return cv2.GaussianBlur(mask_picture(found, rgb), (0, 0), FEATHER_PX)


def overlay_picture(found: Segmentation, rgb: np.ndarray) -> np.ndarray:
    """The image with the mask in red, at most OVERLAY_PX large."""
    from figures import overlay  # with matplotlib, slow to import

    zoom = min(1, OVERLAY_PX / max(rgb.shape[:2]))
    if zoom == 1:
        return overlay(rgb, found.mask)
    return overlay(reduced(rgb, zoom), reduced(mask_picture(found, rgb), zoom) >= 128)


def probability_picture(found: Segmentation, rgb: np.ndarray) -> np.ndarray:
    """uint16, H x W: the probability times 65,535."""
    return np.rint(found.probability * np.float32(65535)).astype(np.uint16)


def encode(picture: np.ndarray, ending: str) -> bytes:
    """The bytes of a grey or RGB picture in the format of a file name's ending."""
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    return cv2.imencode(os.path.splitext("x" + ending)[1], bgr)[1].tobytes()


def write_whole(data: bytes, name: str, output: Path) -> None:
    """Writes a file below the output folder: under a temporary name, then renamed.

    Raises:
        OutputError: the disk is full or read-only.
        OSError: this file cannot be written.
    """
    temporary = output / PARTIAL / secrets.token_hex(8)
    try:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, output / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kind = OutputError if error.errno in FATAL else OSError
        raise kind(f"{output / name} cannot be written: {error.strerror}") from error


def write_report(records: list[dict], output: Path, kind: str) -> Path:
    """report.jsonl, .csv or .parquet; a dictionary with COLUMNS, maybe EXTRA_COLUMNS, a line."""
    extra = (name for name in EXTRA_COLUMNS if any(name in record for record in records))
    columns = [*COLUMNS, *extra]
    rows = [{name: record.get(name) for name in columns} for record in records]
    name = f"report.{kind}"
    write_whole(WRITERS[kind](rows, columns), name, output)
    return output / name


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

    types = {
        "path": pa.string(), "mask": pa.string(), "width": pa.int64(), "height": pa.int64(),
        "score": pa.float64(), "coverage": pa.float64(), "boxes": pa.list_(pa.list_(pa.int64())),
        "error": pa.string(), "seconds": pa.float64(), "shared": pa.float64(),
        "rle": pa.struct([("size", pa.list_(pa.int64())), ("counts", pa.string())]),
    }  # fmt: skip
    schema = pa.schema([(name, types[name]) for name in columns])
    valid = [{name: _valid_text(value) for name, value in row.items()} for row in rows]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(valid, schema), sink)
    return sink.getvalue().to_pybytes()


def _valid_text(value):
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


WRITERS = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
