"""One shard after the other to files of rows: what each process of a scan does.

The file of rows appears last and whole, so that a shard either is done or is begun again; every
output depends on the shard and the options alone.
"""

import hashlib
import json
import os
import pickle
import time
import warnings
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from filelock import FileLock

from batch.files import OutputError, UsageError
from batch.formats import FORMATS, SourceError, TableWriter
from batch.look import Results, Sample, look_at_all
from batch.rows import FOUND, arrow_table, failure, measures, reason_of
from batch.shards import Shard
from batch.stores import Store
from inference.folder import INT8, check_folder
from inference.runtime import load_segmenter
from inference.segmenter import decide

ROWS, KEPT = "rows", "kept"  # folders in the output
NOTE = "scan"  # of a file of rows: the shard's `Report`
COLUMNS = ("key", "source", *FOUND)
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
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def scan_shard(
    shard: Shard, source: Store, output: Store, segmenter, threads: int, options
) -> Report:
    """Writes a shard's rows and, if asked for, the shard again with the photos to keep.

    Raises:
        OutputError: the output takes no files.
        SourceError: the shard cannot be read; nothing of it is written then.
    """
    label = shard.source or source.path.rpartition("/")[2]
    report = Report(shard.name, shard.stamp, begin_s=time.time())
    columns = (*COLUMNS, "rle") if options.rle else COLUMNS
    origin = FORMATS[shard.kind](source, shard)
    schema = with_own(arrow_table([], columns), origin.schema.empty_table()).schema

    def finish(sample: Sample, results: Results):
        rows = [row_of(found, options) for found in results]
        for row, key in zip(rows, sample.origin.keys):
            row |= {"key": key, "source": label, "error": row["error"] or sample.origin.odd}
        told = sample.origin.told
        if isinstance(told, dict):
            told = pa.Table.from_pylist([told] * len(rows), origin.schema)
        return sample, rows, with_own(arrow_table(rows, columns), told)

    def samples():
        try:
            yield from origin.samples()
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"cannot be read: {error}") from error

    with ExitStack() as stack:  # which is left from below: the rows are there last
        stream = stack.enter_context(output.writing(rows_name(shard.name)))
        writer = stack.enter_context(TableWriter(stream, schema))
        keep = None
        if options.keep_below is not None:
            keep = stack.enter_context(origin.keeping(output.below(KEPT)))
        for sample, rows, table in look_at_all(samples(), segmenter, threads, finish, options.fast):
            for row in rows:
                report.add(row)
            writer.add(table)
            if keep:
                keep(sample, [is_kept(row, options.keep_below) for row in rows])
        report.end_s = time.time()
        writer.note(NOTE, json.dumps(asdict(report)))
    return report


def row_of(found, options) -> dict:
    """FOUND of a `Found` or of why there is none."""
    if isinstance(found, Exception):
        return failure(found)
    decided = decide(found.probability, found.score, options.threshold, 0, options.min_score)
    return measures(decided, options.rle)


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
        """A folder with these files on this machine: the same one, or one in the user's cache."""
        if self._are_in(Path(self.folder)):
            return self.folder
        import pooch  # slow to import

        copy = Path(pooch.os_cache("watermark-segmentation"), f"scan-{self.fingerprint}")
        copy.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(copy / ".lock"):
            if not self._are_in(copy):
                for name, data in self.files.items():
                    (copy / name).write_bytes(data)
        return str(copy)

    def _are_in(self, folder: Path) -> bool:
        paths = [folder / name for name in self.files]
        if not all(map(Path.is_file, paths)):
            return False
        return _hash({path.name: path.read_bytes() for path in paths}) == self.fingerprint


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
            self.segmenter = load_segmenter(weights.unpacked(), options.device, options.backend)
        except (OSError, ValueError) as error:
            self.error = str(error)

    def __call__(self, row: dict) -> dict:
        """Returns {"report": pickled `Report`, UsageError or OutputError}."""
        shard = pickle.loads(row["shard"])
        return {"report": pickle.dumps(self._scan(shard))}

    def _scan(self, shard: Shard) -> Report | Exception:
        if self.error:
            return UsageError(self.error)
        try:
            return scan_shard(
                shard, self.source, self.output, self.segmenter, self.threads, self.options
            )
        except OutputError as error:
            return OutputError(str(error))
        except Exception as error:  # whatever is in a shard costs that shard, and is named
            return Report(shard.name, shard.stamp, failed=1, problem=reason_of(error))
