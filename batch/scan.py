"""Shards of photos to files of rows on a cluster: `scan`, which `scan.py` calls.

Ray Data hands the shards out to a pool of actors and gives what a lost process had in hand to
another one. An actor reads, decodes, segments and writes a shard: no pixel leaves its process. The
file of rows appears last and whole; a shard that has one is done.
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
from itertools import islice
from pathlib import Path

import pyarrow as pa
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from pyarrow import dataset, parquet

from batch.command import LookOptions, Summary, checked, option
from batch.files import OutputError, UsageError, locked
from batch.look import Results, Sample, look_at_all
from batch.rows import FOUND, arrow_table, failure, measures, reason_of
from batch.shards import FORMATS, MANIFEST, SourceError, find_shards, open_folder, writing
from inference.folder import INT8, check_folder
from inference.runtime import OPENVINO, load_segmenter
from inference.segmenter import METHOD, decide

ROWS, KEPT = "rows", "kept"  # folders in the output
STAMP = "shard"  # name in the metadata of a file of rows
COLUMNS = ("key", "source", *FOUND)
TRIES = 4  # of a shard whose process dies, until it is given up
WRITTEN_TOGETHER = 512  # samples whose rows are one group of the file
READERS = 16  # threads that look at what is there
NAMED = 1000  # failures in the summary


@dataclass(frozen=True)
class ScanOptions(LookOptions):
    """How to scan, what to write and where to compute."""

    keep_below: float | None = option(None, "shards again, of the photos with a lower score", float)
    address: str | None = option(None, "Ray cluster: auto, HOST:6379 (default: this machine)", str)
    actors: int | None = option(None, "processes (default: as many as Ray finds room for)", int)
    cpus_per_actor: int = option(1, "cores for each", int)
    gpus_per_actor: float | None = option(None, "share of a GPU for each (1 if Ray has any)", float)

    def __post_init__(self):
        super().__post_init__()
        if self.keep_below is not None and not 0 <= self.keep_below <= 1:
            raise ValueError(f"keep_below is {self.keep_below}; give a number from 0 to 1.")
        for name in ("actors", "cpus_per_actor", "gpus_per_actor"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0.")

    def manifest(self, source: str) -> dict:
        """Everything that rows depend on, apart from their shard."""
        names = ("threshold", "min_score", "fast", "rle", "keep_below", "device", "backend")
        chosen = {name: getattr(self, name) for name in names}
        weights = weights_digest(self.weights)
        return {"source": source, "weights": weights, **chosen, "method": METHOD}


def weights_digest(folder: str) -> str:
    """Changes with the files of a trained network; FileNotFoundError if one is missing."""
    quantized = filter(Path.is_file, (Path(folder, name) for name in INT8))
    data = b"".join(path.read_bytes() for path in (*check_folder(folder), *quantized))
    return hashlib.sha256(data).hexdigest()[:16]


def scan(source: str, output: str, options: ScanOptions | None = None) -> Summary:
    """Writes a file of rows for each shard of the source that has none yet.

    Args:
        source: a .tar or .parquet file, or a folder of such: local path or URL.
        output: folder for `rows/NAME.parquet` and, with `keep_below`, `kept/`: local path or URL.
            On several machines all of them must see source, output and weights by this name.

    Raises:
        UsageError: nothing to scan, no weights, the output holds other rows, no Ray.
        OutputError: the output takes no more files, or device or backend cannot be used by an
            actor; what is done stays.
    """
    options, start_s = options or ScanOptions(), time.monotonic()
    if not find_spec("ray"):
        raise UsageError(
            "scan.py needs Ray, which is not installed: pip install -r requirements-scale.txt. "
            "For a folder of images on one machine segment.py does without."
        )
    origin, shards = find_shards(source)
    target = open_folder(output)
    if address_of(origin) == address_of(target):
        raise UsageError(f"{output} is both source and output. Give the rows their own folder.")
    manifest = checked(options.manifest, address_of(origin))
    with locked(Path(target.path)) if isinstance(target.fs, LocalFileSystem) else nullcontext():
        begin(target, manifest)
        with ThreadPoolExecutor(READERS) as pool:  # each is a request to a store
            before = dict(zip(shards, pool.map(partial(stamp_before, target), shards)))
        todo = {name: stamp for name, stamp in shards.items() if stamp != before[name]}
        changed = [name for name in todo if before[name] is not None]
        for path in [p for name in changed for p in (rows_name(name), f"{KEPT}/{name}")]:
            if target.exists(path):  # it tells of what was in the shard before
                target.rm(path)
        scanned = run(todo, origin, target, options) if todo else []
    problems = {one["shard"]: one["problem"] for one in scanned if one["problem"]}
    counts, told = count_rows(target, [name for name in shards if name not in problems])
    told += [f"failed: {name}: {problem}" for name, problem in problems.items()]
    if len(todo) < len(shards):
        told.insert(0, f"{len(shards) - len(todo)} of {len(shards)} shards were done before")
    if changed:
        told.insert(0, f"{len(changed)} shards changed since they were scanned: scanned again")
    counts["failed"] += len(problems)
    now = sum(one["images"] for one in scanned)
    return Summary(
        **counts, done_before=counts["images"] - now, seconds=time.monotonic() - start_s,
        output=f"Rows: {output}/{ROWS}", told=told,
    )  # fmt: skip


def address_of(folder: DirFileSystem) -> str:
    """With its scheme, which tells it from a folder of this name elsewhere."""
    return folder.fs.unstrip_protocol(folder.path)


def rows_name(shard: str) -> str:
    """Of a shard's file of rows in the output."""
    return f"{ROWS}/{os.path.splitext(shard)[0]}.parquet"


def stamp_before(output: DirFileSystem, shard: str) -> str | None:
    """The stamp that a shard had when its rows were written; None if it has no rows."""
    try:
        metadata = parquet.read_metadata(rows_name(shard), filesystem=output).metadata
    except FileNotFoundError:
        return None
    return metadata.get(STAMP.encode(), b"").decode()


def begin(output: DirFileSystem, manifest: dict) -> None:
    """Writes what a run depends on to the output; UsageError if rows of another run are there."""
    told = json.dumps(manifest, indent=2).encode() + b"\n"
    found = output.cat_file(MANIFEST) if output.exists(MANIFEST) else None
    if found != told and (output.exists(ROWS) or output.exists(KEPT)):
        raise UsageError(
            f"{output.path} holds the rows of another run, of other photos, weights or options: "
            f"see its {MANIFEST}. Give another output folder."
        )
    with writing(output, MANIFEST) as stream:
        stream.write(told)


def count_rows(output: DirFileSystem, shards: list[str]) -> tuple[dict[str, int], list[str]]:
    """Images, marked and failed ones in the rows of these shards, and lines on failed ones."""
    if not shards:
        return dict(images=0, marked=0, failed=0), []
    rows = dataset.dataset([*map(rows_name, shards)], filesystem=output)
    chosen = {
        "images": dataset.field("key").is_valid(), "marked": dataset.field("coverage") > 0,
        "failed": dataset.field("error").is_valid(),
    }  # fmt: skip
    counts = {name: rows.count_rows(filter=rule) for name, rule in chosen.items()}
    failed = rows.head(NAMED, columns=["source", "key", "error"], filter=chosen["failed"])
    told = ["failed: " + ": ".join(filter(None, row.values())) for row in failed.to_pylist()]
    if counts["failed"] > NAMED:
        told.append(f"and {counts['failed'] - NAMED} more: see the column error of the rows")
    return counts, told


# --- One shard ---------------------------------------------------------------------------------


def scan_shard(
    name: str, stamp: str, source: DirFileSystem, output: DirFileSystem, segmenter, threads: int,
    options,
) -> int:  # fmt: skip
    """Writes a shard's rows and, if asked for, the shard again with the photos to keep.

    Args:
        stamp: of the shard before it is read; the file of rows holds it.

    Returns:
        How many images the shard has.

    Raises:
        OSError: the output takes no files.
        SourceError: the shard cannot be read; nothing of it is written then.
    """
    columns, images = (*COLUMNS, "rle") if options.rle else COLUMNS, 0
    with ExitStack() as stack:  # which is left from below: the rows are there last
        with blaming_the_source():
            shard = FORMATS[os.path.splitext(name)[1]](source, name)
        sink = stack.enter_context(writing(output, rows_name(name)))
        keep = None
        if options.keep_below is not None:
            kept = stack.enter_context(writing(output, f"{KEPT}/{name}"))
            keep = stack.enter_context(shard.keeping(kept))
        schema = with_own(arrow_table([], columns), shard.schema.empty_table()).schema
        writer = stack.enter_context(parquet.ParquetWriter(sink, schema))
        writer.add_key_value_metadata({STAMP: stamp})

        def finish(sample: Sample, results: Results) -> tuple[Sample, list[dict], pa.Table]:
            rows = [row_of(found, options) for found in results]
            for row, key in zip(rows, sample.origin.keys):
                row |= {"key": key, "source": name, "error": row["error"] or sample.origin.odd}
            return sample, rows, with_own(arrow_table(rows, columns), sample.origin.told)

        def tables() -> Iterator[pa.Table]:
            how = segmenter, threads, finish, options.fast
            for sample, rows, table in look_at_all(samples_of(shard), *how):
                if keep:
                    below = options.keep_below
                    keep(sample, [r["error"] is None and r["score"] < below for r in rows])
                yield table

        waiting = tables()
        while together := [*islice(waiting, WRITTEN_TOGETHER)]:
            table = pa.concat_tables(together)
            images += len(table) - table["key"].null_count
            writer.write_table(table)
    return images


@contextmanager
def blaming_the_source() -> Iterator[None]:
    """What goes wrong with a file here is no fault of the output."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot be read: {error}") from error


def samples_of(shard) -> Iterator[Sample]:
    with blaming_the_source():
        yield from shard.samples()


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


# --- Ray ---------------------------------------------------------------------------------------


class ShardScanner:
    """An actor of Ray Data: a row with the name of a shard in, a row that says how it went out."""

    def __init__(self, source: DirFileSystem, output: DirFileSystem, options: ScanOptions):
        self.source, self.output, self.options = source, output, options
        warnings.filterwarnings("ignore", module="PIL")  # of damaged files: their rows say it

    @cached_property
    def segmenter(self):
        chosen = self.options
        return checked(load_segmenter, chosen.weights, chosen.device, chosen.backend)

    def __call__(self, row: dict) -> dict:
        """Adds "images", how many, "problem", why there are no rows, and "stops", what ends all.

        These are no exceptions, since Ray would wrap them in its own.
        """
        images, problem, stops = 0, "", ""
        try:
            how = self.segmenter, self.options.cpus_per_actor, self.options
            images = scan_shard(row["shard"], row["stamp"], self.source, self.output, *how)
        except UsageError as error:  # of the weights or the device
            stops = str(error)
        except OSError as error:  # of the output
            stops = f"the output cannot be written: {error}"
        except Exception as error:  # whatever is in a shard costs that shard, and is named
            problem = reason_of(error)
        return {**row, "images": images, "problem": problem, "stops": stops}


def run(todo: dict[str, str], source, output, options: ScanOptions) -> list[dict]:
    """What `ShardScanner` says of each shard (name to stamp), as Ray Data gets them done."""
    import ray.data  # optional and slow to import

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports its use to its makers
    address = options.address or os.environ.get("RAY_ADDRESS", "local")
    try:
        ray.init(address, ignore_reinit_error=True)
    except Exception as error:  # a bare one, such as of a node that starts too slowly
        raise OutputError(f"Ray does not start: {error}") from error
    ray.data.DataContext.get_current().max_errored_blocks = -1  # a lost shard costs only itself
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
    found = {}
    for row in rows.iter_rows():
        if row["stops"]:
            raise OutputError(row["stops"])
        found[row["shard"]] = row
    lost = f"its process died {TRIES} times or failed: see Ray's log"
    return [found.get(name, {"shard": name, "images": 0, "problem": lost}) for name in todo]
