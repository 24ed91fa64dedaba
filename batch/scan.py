"""Writes a file of rows for each shard of photos, on a cluster: `scan`, which `scan.py` calls.

Ray Data distributes the shards to a pool of actors. If a process is lost, another one gets its
shard. An actor reads, decodes, segments and writes a shard, so no pixel leaves its process. The
file of rows appears last and is complete. A shard that has one is done.
"""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from pyarrow import dataset, parquet

from batch.command import CommonOptions, Summary, checked, option
from batch.files import OutputError, UsageError, locked
from batch.predict import Prediction, Results, Sample, chunks, predict_samples
from batch.rows import RESULT_COLUMNS, arrow_table, error_columns, reason_of, result_columns
from batch.shards import FORMATS, MANIFEST, SourceError, find_shards, open_folder, writing
from inference.folder import INT8, check_folder
from inference.runtime import OPENVINO, load_segmenter
from inference.segmenter import METHOD, decide

ROWS, KEPT = "rows", "kept"  # folders in the output
STAMP = "shard"  # key in the metadata of a file of rows
COLUMNS = ("key", "source", *RESULT_COLUMNS)
TRIES = 4  # how often a shard is tried if its process dies
WRITTEN_TOGETHER = 512  # samples whose rows are one row group of the file
READERS = 16  # threads that read the stamps of finished shards
SHOWN = 1000  # failed images that the summary names


@dataclass(frozen=True)
class ScanOptions(CommonOptions):
    """How to scan, what to write and where to compute."""

    keep_below: float | None = option(None, "also write shards of photos below this score", float)
    address: str | None = option(None, "Ray cluster: auto, HOST:6379 (default: this machine)", str)
    actors: int | None = option(None, "number of processes (default: as many as fit)", int)
    cpus_per_actor: int = option(1, "cores of each process", int)
    gpus_per_actor: float | None = option(None, "GPUs of each process (1 if Ray has any)", float)

    def __post_init__(self):
        super().__post_init__()
        if self.keep_below is not None and not 0 <= self.keep_below <= 1:
            raise ValueError(f"keep_below is {self.keep_below}; give a number from 0 to 1.")
        for name in ("actors", "cpus_per_actor", "gpus_per_actor"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0.")

    def manifest(self, source: str) -> dict:
        """Everything that rows depend on besides their shard."""
        names = ("threshold", "min_score", "fast", "rle", "keep_below", "device", "backend")
        chosen = {name: getattr(self, name) for name in names}
        weights = weights_digest(self.weights)
        return {"source": source, "weights": weights, **chosen, "method": METHOD}


def weights_digest(folder: str) -> str:
    """Hash of the files of a trained network; FileNotFoundError if one is missing."""
    quantized = filter(Path.is_file, (Path(folder, name) for name in INT8))
    data = b"".join(path.read_bytes() for path in (*check_folder(folder), *quantized))
    return hashlib.sha256(data).hexdigest()[:16]


def scan(source: str, output: str, options: ScanOptions | None = None) -> Summary:
    """Writes a file of rows for each shard of the source that has none yet.

    Args:
        source: a .tar or .parquet file, or a folder of such files; a local path or URL.
        output: folder for `rows/NAME.parquet` and, with `keep_below`, `kept/`; a local path or URL.
            All machines of a cluster must see source, output and weights under the same names.

    Raises:
        UsageError: there is no shard, the weights or Ray are missing, or the output has rows of
            other options.
        OutputError: the output cannot be written, Ray does not start, or an actor cannot use the
            device or backend. Finished shards stay.
    """
    options, start_s = options or ScanOptions(), time.monotonic()
    if not find_spec("ray"):
        raise UsageError(
            "scan.py needs Ray, which is not installed: pip install -r requirements-scale.txt. "
            "segment.py does not need it, for a folder of images on one machine."
        )
    origin, shards = find_shards(source)
    target = open_folder(output)
    if address_of(origin) == address_of(target):
        raise UsageError(f"{output} is both source and output. Give another folder for the rows.")
    manifest = checked(options.manifest, address_of(origin))
    with locked(Path(target.path)) if isinstance(target.fs, LocalFileSystem) else nullcontext():
        begin(target, manifest)
        with ThreadPoolExecutor(READERS) as pool:  # each stamp is a request to the store
            before = dict(zip(shards, pool.map(partial(stamp_before, target), shards)))
        todo = {name: stamp for name, stamp in shards.items() if stamp != before[name]}
        changed = [name for name in todo if before[name] is not None]
        for path in [p for name in changed for p in (rows_name(name), f"{KEPT}/{name}")]:
            if target.exists(path):  # it describes the shard as it was before
                target.rm(path)
        scanned = run(todo, origin, target, options) if todo else []
    problems = {one["shard"]: one["problem"] for one in scanned if one["problem"]}
    counts, messages = count_rows(target, [name for name in shards if name not in problems])
    messages += [f"failed: {name}: {problem}" for name, problem in problems.items()]
    if len(todo) < len(shards):
        messages.insert(0, f"{len(shards) - len(todo)} of {len(shards)} shards were done before")
    if changed:
        messages.insert(0, f"{len(changed)} shards changed since their last scan: scanned again")
    counts["failed"] += len(problems)
    now = sum(one["images"] for one in scanned)
    return Summary(
        **counts, done_before=counts["images"] - now, seconds=time.monotonic() - start_s,
        output=f"Rows: {output}/{ROWS}", messages=messages,
    )  # fmt: skip


def address_of(folder: DirFileSystem) -> str:
    """The URL of a folder, with its scheme: the same path may exist in several stores."""
    return folder.fs.unstrip_protocol(folder.path)


def rows_name(shard: str) -> str:
    """The name of a shard's file of rows in the output."""
    return f"{ROWS}/{os.path.splitext(shard)[0]}.parquet"


def stamp_before(output: DirFileSystem, shard: str) -> str | None:
    """The stamp that a shard had when its rows were written; None if it has no rows."""
    try:
        metadata = parquet.read_metadata(rows_name(shard), filesystem=output).metadata
    except FileNotFoundError:
        return None
    return metadata.get(STAMP.encode(), b"").decode()


def begin(output: DirFileSystem, manifest: dict) -> None:
    """Writes the manifest to the output; UsageError if the output has rows of another manifest."""
    text = json.dumps(manifest, indent=2).encode() + b"\n"
    present = output.cat_file(MANIFEST) if output.exists(MANIFEST) else None
    if present != text and (output.exists(ROWS) or output.exists(KEPT)):
        raise UsageError(
            f"{output.path} has the rows of another run, with other photos, weights or options: "
            f"see its {MANIFEST}. Give another output folder."
        )
    with writing(output, MANIFEST) as stream:
        stream.write(text)


def count_rows(output: DirFileSystem, shards: list[str]) -> tuple[dict[str, int], list[str]]:
    """The number of images, marked and failed images in these shards, and a line per failure."""
    if not shards:
        return dict(images=0, marked=0, failed=0), []
    rows = dataset.dataset([*map(rows_name, shards)], filesystem=output)
    filters = {
        "images": dataset.field("key").is_valid(), "marked": dataset.field("coverage") > 0,
        "failed": dataset.field("error").is_valid(),
    }  # fmt: skip
    counts = {name: rows.count_rows(filter=rule) for name, rule in filters.items()}
    failed = rows.head(SHOWN, columns=["source", "key", "error"], filter=filters["failed"])
    messages = ["failed: " + ": ".join(filter(None, row.values())) for row in failed.to_pylist()]
    if counts["failed"] > SHOWN:
        messages.append(f"and {counts['failed'] - SHOWN} more: see the column error of the rows")
    return counts, messages


# --- One shard ---------------------------------------------------------------------------------


def scan_shard(
    name: str, stamp: str, source: DirFileSystem, output: DirFileSystem, segmenter, threads: int,
    options,
) -> int:  # fmt: skip
    """Writes the rows of a shard and, with `keep_below`, the shard with the photos to keep.

    Args:
        stamp: of the shard before it was read; stored in the file of rows.

    Returns:
        The number of images in the shard.

    Raises:
        OSError: the output cannot be written.
        SourceError: the shard cannot be read. Nothing is written then.
    """
    columns, images = (*COLUMNS, "rle") if options.rle else COLUMNS, 0
    with ExitStack() as stack:  # closes in reverse order, so the rows appear last
        with source_errors():
            shard = FORMATS[os.path.splitext(name)[1]](source, name)
        sink = stack.enter_context(writing(output, rows_name(name)))
        keep = None
        if options.keep_below is not None:
            kept = stack.enter_context(writing(output, f"{KEPT}/{name}"))
            keep = stack.enter_context(shard.keeping(kept))
        schema = append_columns(arrow_table([], columns), shard.schema.empty_table()).schema
        writer = stack.enter_context(parquet.ParquetWriter(sink, schema))
        writer.add_key_value_metadata({STAMP: stamp})

        def finish(sample: Sample, results: Results) -> tuple[Sample, list[dict], pa.Table]:
            rows, origin = [row_of(result, options) for result in results], sample.origin
            for row, key in zip(rows, origin.keys):
                row |= {"key": key, "source": name, "error": row["error"] or origin.problem}
            return sample, rows, append_columns(arrow_table(rows, columns), origin.columns)

        def tables() -> Iterator[pa.Table]:
            how = segmenter, threads, finish, options.fast
            for sample, rows, table in predict_samples(samples_of(shard), *how):
                if keep:
                    below = options.keep_below
                    keep(sample, [r["error"] is None and r["score"] < below for r in rows])
                yield table

        for together in chunks(tables(), lambda table: 1, WRITTEN_TOGETHER):
            table = pa.concat_tables(together)
            images += len(table) - table["key"].null_count
            writer.write_table(table)
    return images


@contextmanager
def source_errors() -> Iterator[None]:
    """Turns errors from reading a shard into SourceError; an OSError would mean the output."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot be read: {error}") from error


def samples_of(shard) -> Iterator[Sample]:
    with source_errors():
        yield from shard.samples()


def row_of(result: Prediction | Exception, options: ScanOptions) -> dict:
    """The RESULT_COLUMNS of one image."""
    if isinstance(result, Exception):
        return error_columns(result)
    decided = decide(result.probability, result.score, options.threshold, 0, options.min_score)
    return result_columns(decided, options.rle)


def append_columns(rows: pa.Table, own: pa.Table) -> pa.Table:
    """The rows with the source's own columns. If a name is taken, it gets the prefix input_."""
    for name, column in zip(own.column_names, own.columns):
        while name in rows.column_names:
            name = f"input_{name}"
        rows = rows.append_column(name, column)
    return rows


# --- Ray ---------------------------------------------------------------------------------------


class ShardScanner:
    """An actor of Ray Data. It scans a shard and returns the result as a row."""

    def __init__(self, source: DirFileSystem, output: DirFileSystem, options: ScanOptions):
        self.source, self.output, self.options = source, output, options
        warnings.filterwarnings("ignore", module="PIL")  # damaged files have an error in their row

    @cached_property
    def segmenter(self):
        options = self.options
        return checked(load_segmenter, options.weights, options.device, options.backend)

    def __call__(self, row: dict) -> dict:
        """Adds the number of "images", the "problem" of the shard, and what "stops" the whole scan.

        Errors are returned, not raised, because Ray would wrap them in exceptions of its own.
        """
        images, problem, stops = 0, "", ""
        try:
            how = self.segmenter, self.options.cpus_per_actor, self.options
            images = scan_shard(row["shard"], row["stamp"], self.source, self.output, *how)
        except UsageError as error:  # from the weights or the device
            stops = str(error)
        except OSError as error:  # from the output
            stops = f"the output cannot be written: {error}"
        except Exception as error:  # from the shard, which may contain anything
            problem = reason_of(error)
        return {**row, "images": images, "problem": problem, "stops": stops}


def run(todo: dict[str, str], source, output, options: ScanOptions) -> list[dict]:
    """The result of each shard of `todo` (name to stamp); see `ShardScanner`."""
    import ray.data  # optional and slow to import

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray sends usage statistics
    address = options.address or os.environ.get("RAY_ADDRESS", "local")
    try:
        ray.init(address, ignore_reinit_error=True)
    except Exception as error:  # Ray raises the bare class if a node starts too slowly
        raise OutputError(f"Ray does not start: {error}") from error
    ray.data.DataContext.get_current().max_errored_blocks = -1  # go on if a shard is lost
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # see requirements-scale
    gpus = options.gpus_per_actor
    if gpus is None and options.device != "cpu" and options.backend not in OPENVINO:
        gpus = min(1, ray.cluster_resources().get("GPU", 0))
    rows = ray.data.from_items(
        [{"shard": name, "stamp": stamp} for name, stamp in todo.items()],
        override_num_blocks=len(todo),
    )
    options = replace(options, weights=os.path.abspath(options.weights))
    pool = ray.data.ActorPoolStrategy(
        min_size=options.actors or 1, max_size=options.actors or len(todo)
    )
    rows = rows.map(
        ShardScanner, fn_constructor_args=(source, output, options), compute=pool,
        num_cpus=options.cpus_per_actor, num_gpus=gpus or None, max_task_retries=TRIES - 1,
    )  # fmt: skip
    results = {}
    for row in rows.iter_rows():
        if row["stops"]:
            raise OutputError(row["stops"])
        results[row["shard"]] = row
    lost = f"its process died {TRIES} times or failed: see Ray's log"
    return [results.get(name, {"shard": name, "images": 0, "problem": lost}) for name in todo]
