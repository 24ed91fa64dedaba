"""Tiny shards, and a segmenter whose answers can be told from the pixels, for tests of a scan."""

import io
import tarfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from pyarrow import parquet

from batch.scan import ScanOptions
from batch.scanner import Report, rows_name, scan_shard
from batch.shards import list_shards
from batch.stores import Store
from inference.segmenter import Segmenter


class Colourful(Segmenter):
    """Takes the range of a pixel's channels for the probability of a mark, its mean for the score.

    A negative has the same range, so that all views agree.
    """

    def __init__(self):
        self.seen = []

    @contextmanager
    def predicting(self, threads=None):
        def predict(views):
            self.seen += [view.shape[:2] for view in views]
            ranges = [(view.max(2) - view.min(2)) / np.float32(255) for view in views]
            return [(found, float(found.mean())) for found in ranges]

        yield predict


def png(level: int, width=4, height=2) -> bytes:
    """A red photo whose score is level / 255."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (level, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def three(folder: Path) -> Path:
    """One shard as img2dataset writes it: a dark photo, a bright one, one that is none."""
    files = {}
    for key, image in {"a": png(51), "b": png(204), "c": b"no picture"}.items():
        files |= {f"{key}.png": image, f"{key}.json": b'{"n": 1}', f"{key}.txt": key.encode()}
    write_tar(folder / "in" / "00.tar", files)
    return folder / "in"


def go(source, output, **options) -> list[Report]:
    """Scans in this process, without Ray, what a scan would hand out."""
    source, output, options = Store(str(source)), Store(str(output)), ScanOptions(**options)
    return [
        scan_shard(shard, source, output, Colourful(), 1, options) for shard in list_shards(source)
    ]


def rows(output, name="00") -> list[dict]:
    return parquet.read_table(Path(output) / rows_name(name)).to_pylist()
