"""One shard after the other to files of rows: what each process of a scan does.

Threads decode windows of photos while the network looks at another one. The file of rows appears
last and whole, so that a shard either is done or is begun again; every output depends on the
shard and the options alone.
"""

import hashlib
import io
import json
import os
import pickle
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from filelock import FileLock
from PIL import Image, UnidentifiedImageError

from batch.files import OutputError
from batch.formats import FORMATS, SourceError, TableWriter, Window
from batch.inputs import UsageError
from batch.rows import arrow_table, measures, reason_of
from batch.shards import Shard
from batch.stores import Store
from inference.folder import INT8, check_folder
from inference.parallel import PIXELS_AT_ONCE, Budget, cancelling_pool, in_order, shared_network
from inference.reading import open_photo, read_image
from inference.runtime import load_segmenter
from inference.segmenter import (
    Predict,
    Segmentation,
    decide,
    judge_views,
    native_views,
    predict_any_size,
)

ROWS, KEPT = "rows", "kept"  # folders in the output
NOTE = "scan"  # of a file of rows: the shard's `Report`
COLUMNS = ("key", "source", "width", "height", "score", "coverage", "boxes", "error")
FAILURES_NAMED = 100  # of one shard, in its report


@dataclass
class Report:
    """What became of one shard."""

    name: str
    stamp: str  # `Shard.stamp`
    images: int = 0
    marked: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)  # "source: key: reason", FAILURES_NAMED
    problem: str | None = None  # why there is no file of rows
    begin_s: float = 0.0  # since 1970
    end_s: float = 0.0

    def add(self, row: dict) -> None:
        self.images += row["key"] is not None
        self.marked += bool(row["coverage"])
        self.failed += row["error"] is not None
        if row["error"] is not None and len(self.failures) < FAILURES_NAMED:
            self.failures.append(": ".join(filter(None, (row["source"], row["key"], row["error"]))))


def rows_name(shard_name: str) -> str:
    """Of a shard's file of rows in the output."""
    return f"{ROWS}/{shard_name}.parquet"


def report_in(output: Store, name: str) -> Report | None:
    """What a finished file of rows says of its shard; None if it is no such file."""
    try:
        with output.file(name) as file:
            notes = pyarrow.parquet.read_metadata(file).metadata or {}
        return Report(**json.loads(notes[NOTE.encode()]))
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


# --- Some photos -------------------------------------------------------------------------------


def scan_window(window: Window, predict: Predict, budget: Budget, options) -> list[dict]:
    """A row for each photo, with "key", what `measures` says, and in "error" why it failed."""
    opened = [_tried(open_image, image) for image in window.images]
    rows = []
    for images, pixels in within_pixels(opened):
        with budget.hold(pixels):
            photos = [_tried(decode, image) for image in images]
            sound = [photo for photo in photos if not isinstance(photo, Exception)]
            found = iter(predict_by_size(predict, sound))
            rows += [
                failed(photo) if isinstance(photo, Exception) else row_of(next(found), options)
                for photo in photos
            ]
    return [{**row, "key": key} for row, key in zip(rows, window.keys)]


def within_pixels(opened: list) -> Iterator[tuple[list, int]]:
    """The opened images or exceptions in runs of at most `PIXELS_AT_ONCE`, with their pixels.

    An image that is larger is a run by itself.
    """
    run, pixels = [], 0
    for image in opened:
        more = 0 if isinstance(image, Exception) else image.width * image.height
        if run and pixels + more > PIXELS_AT_ONCE:
            yield run, pixels
            run, pixels = [], 0
        run.append(image)
        pixels += more
    yield run, pixels


def _tried(function, value):
    """What the function returns or raises; an exception as value is passed on."""
    try:
        return value if isinstance(value, Exception) else function(value)
    except Exception as error:  # damaged files make Pillow's plugins raise anything
        return error


def open_image(data: bytes | str) -> Image.Image:
    """An image whose header is read; ValueError with the reason that came in its place."""
    if isinstance(data, str):
        raise ValueError(data)
    if not data:
        raise ValueError("is empty")
    try:
        return open_photo(io.BytesIO(data))
    except UnidentifiedImageError:  # names an address in memory
        raise ValueError("is not an image that Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error} segment.py --allow-huge opens it all the same.") from error


def decode(image: Image.Image) -> np.ndarray:
    """See `reading.read_image`."""
    with image:
        return read_image(image)


def predict_by_size(predict: Predict, photos: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
    """`predict_any_size` of each photo; those that are seen whole together, equal sizes in a row.

    Args:
        photos: uint8, H x W x 3, RGB.
    """
    views = [(i, view) for i, photo in enumerate(photos) for view in native_views(photo)]
    order = sorted(range(len(views)), key=lambda number: views[number][1].shape)
    answers = predict([views[number][1] for number in order]) if views else []
    answers = dict(zip(order, answers))
    found = defaultdict(list)
    for number, (i, _) in enumerate(views):
        found[i].append(answers[number])
    return [
        judge_views(predict, photo, found[i]) if i in found else predict_any_size(predict, photo)
        for i, photo in enumerate(photos)
    ]


def row_of(found: tuple[np.ndarray, float], options) -> dict:
    segmentation: Segmentation = decide(*found, options.threshold, 0, options.min_score)
    return measures(segmentation, options.rle)


def failed(error: Exception) -> dict:
    return {**dict.fromkeys(COLUMNS), "boxes": [], "error": reason_of(error)}


# --- One shard ---------------------------------------------------------------------------------


def scan_shard(
    shard: Shard, source: Store, output: Store, segmenter, threads: int, options
) -> Report:
    """Writes a shard's rows and, if asked for, the shard again with the photos to keep.

    Raises:
        SourceError: the shard cannot be read; nothing of it is written then.
        OutputError: the output takes no files.
    """
    label = shard.source or source.path.rpartition("/")[2]
    report = Report(shard.name, shard.stamp, begin_s=time.time())
    columns = (*COLUMNS, "rle") if options.rle else COLUMNS
    try:
        origin = FORMATS[shard.kind](source, shard)
    except (OSError, UsageError) as error:
        raise SourceError(str(error)) from error
    schema = with_own(arrow_table([], columns), origin.schema.empty_table()).schema
    with ExitStack() as stack:  # which is left from below: the rows are there last
        stream = stack.enter_context(output.writing(rows_name(shard.name)))
        writer = stack.enter_context(TableWriter(stream, schema))
        keep = None
        if options.keep_below is not None:
            keep = stack.enter_context(origin.keeping(output.below(KEPT)))
        for window, rows in scan_windows(origin, segmenter, threads, options):
            for row in rows:
                row["source"] = label
                report.add(row)
            writer.add(with_own(arrow_table(rows, columns), window.told))
            if keep:
                keep(window, [is_kept(row, options.keep_below) for row in rows])
        report.end_s = time.time()
        writer.note(NOTE, json.dumps(asdict(report)))
    return report


def with_own(rows: pa.Table, told: pa.Table) -> pa.Table:
    """The rows, then the source's own columns; one with a name that is taken begins with input_."""
    for name, column in zip(told.column_names, told.columns):
        while name in rows.column_names:
            name = f"input_{name}"
        rows = rows.append_column(name, column)
    return rows


def is_kept(row: dict, keep_below: float) -> bool:
    """Whether a photo's score was found and is below the limit."""
    return row["error"] is None and row["score"] < keep_below


def scan_windows(origin, segmenter, threads: int, options) -> Iterator[tuple[Window, list[dict]]]:
    """Windows of a shard with their rows, in order; SourceError if the shard cannot be read."""
    budget = Budget(PIXELS_AT_ONCE)

    def one(window: Window):
        return window, scan_window(window, predict, budget, options)

    def windows():
        try:
            yield from origin.windows()
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"cannot be read: {error}") from error

    # One thread more than the network can serve: it decodes meanwhile.
    with cancelling_pool(threads + 1) as pool, shared_network(segmenter, threads) as predict:
        yield from in_order(pool, one, windows(), 2 * threads + 1)


# --- One process -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """A trained network that travels to other machines."""

    folder: str  # on the machine that the scan was started on
    files: dict[str, bytes] = field(repr=False)  # name to content
    fingerprint: str  # of the files

    @classmethod
    def read(cls, folder: str, int8: bool = False):
        """FileNotFoundError if one of the files is missing.

        Args:
            int8: also the quantized network, where there is one.
        """
        wanted = [Path(folder, name) for name in INT8] if int8 else []
        paths = [*check_folder(folder), *filter(Path.is_file, wanted)]
        files = {path.name: path.read_bytes() for path in paths}
        return cls(os.path.abspath(folder), files, _hash(files))

    def unpacked(self) -> str:
        """A folder with these files on this machine: the same one, or else a copy."""
        copy = _shared_path(self.fingerprint)
        with FileLock(_shared_path(f"{self.fingerprint}.lock")):
            for folder in (Path(self.folder), copy):  # which another actor may be reading
                if self._are_in(folder):
                    return str(folder)
            copy.mkdir(exist_ok=True)
            for name, data in self.files.items():
                (copy / name).write_bytes(data)
        return str(copy)

    def _are_in(self, folder: Path) -> bool:
        paths = [folder / name for name in self.files]
        if not all(map(Path.is_file, paths)):
            return False
        return _hash({path.name: path.read_bytes() for path in paths}) == self.fingerprint


def _shared_path(name: str) -> Path:
    """Of a temporary file that all actors of this user on this machine share."""
    user = os.getuid() if hasattr(os, "getuid") else ""  # Windows' folder is the user's own
    return Path(tempfile.gettempdir(), f"watermark-{user}-{name}")


def _hash(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(name.encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


class ShardScanner:
    """An actor of Ray Data: a row with a shard in, a row with its report out.

    What the user can put right is no exception, which Ray would wrap in its own, but a value.
    """

    def __init__(self, source: str, output: str, options, weights: Weights, threads: int):
        self.source, self.output = Store(source), Store(output)
        self.options, self.threads, self.error = options, threads, None
        warnings.filterwarnings("ignore", module="PIL")  # of damaged files: their rows say it
        try:
            folder = weights.unpacked()
            with self._first_alone(weights):
                self.segmenter = load_segmenter(folder, options.device, options.backend)
        except (OSError, ValueError) as error:
            self.error = str(error)

    def _first_alone(self, weights: Weights):
        """On a CPU the first may convert the network for all; the others wait for it."""
        if self.options.device != "cpu":
            return nullcontext()
        return FileLock(_shared_path(f"{weights.fingerprint}.load.lock"))

    def __call__(self, row: dict) -> dict:
        """Returns {"report": pickled `Report`, ValueError or OutputError}."""
        shard = pickle.loads(row["shard"])
        return {"report": pickle.dumps(self._scan(shard))}

    def _scan(self, shard: Shard) -> Report | Exception:
        if self.error:
            return ValueError(self.error)
        try:
            return scan_shard(
                shard, self.source, self.output, self.segmenter, self.threads, self.options
            )
        except SourceError as error:
            return Report(shard.name, shard.stamp, failed=1, problem=str(error))
        except OutputError as error:
            return OutputError(str(error))
