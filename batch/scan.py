"""Shards of photos to files of rows on a cluster: `scan`, which `scan.py` calls.

Ray Data hands the shards out to a pool of actors (scanner.py), a few ahead to each, and gives what
a lost process had in hand to another one. A shard is read, decoded, segmented and written by one
actor: no pixel leaves its process, its file of rows is renamed into place once, and what a file of
rows says of itself is all that a later run needs to know.
"""

import json
import os
import pickle
import socket
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from pyarrow import fs

from batch.command import LookOptions, checked
from batch.files import UsageError, locked
from batch.scanner import KEPT, ROWS, Report, ShardScanner, Weights, report_in, rows_name
from batch.shards import MANIFEST, Shard, list_shards
from batch.stores import Store
from inference.runtime import INT8_BACKEND, OPENVINO
from inference.segmenter import METHOD

TRIES = 4  # of a shard whose process dies, until it is given up
AT_ONCE = 32  # small files of an output that are read together
NAMED = 1000  # failures in the summary
CONNECT_S = 10  # to wait for the head of a cluster
ADVICE = "Give another output folder."
HOW_TO_GET_RAY = (
    "scan.py needs Ray, which is not installed: pip install -r requirements-scale.txt. For a "
    "folder of images on one machine segment.py does without."
)
# What of this repository other machines do not need.
NOT_SENT = (".git", ".venv", "docs", "tests", "logos", "*.ipynb", "weights/openvino-*")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class ScanOptions(LookOptions):
    """How to scan, what to write and where to compute."""

    keep_below: float | None = None  # shards again, of the photos with a lower score, 0..1
    address: str | None = None  # of a Ray cluster; None: this machine
    actors: int | None = None  # processes; None: as many as there is room for
    cpus_per_actor: int | None = None  # cores for each; None: an equal share
    gpus_per_actor: float = 1.0  # share of a GPU for each, where GPUs compute
    dollars_per_hour: float | None = None  # price of one machine

    def __post_init__(self):
        super().__post_init__()
        if self.keep_below is not None and not 0 <= self.keep_below <= 1:
            raise ValueError(f"keep_below is {self.keep_below}; a score lies in 0..1.")
        for name in ("actors", "cpus_per_actor"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
        for name in ("gpus_per_actor", "dollars_per_hour"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0.")

    def manifest(self, source: str, fingerprint: str) -> dict:
        """Everything that rows depend on, apart from their shard."""
        names = ("threshold", "min_score", "fast", "rle", "keep_below", "device", "backend")
        chosen = {name: getattr(self, name) for name in names}
        return {"source": source, "weights": fingerprint, **chosen, "method": METHOD}


@dataclass(frozen=True)
class Pool:
    """The processes of a scan."""

    actors: int
    cpus: int  # cores for each
    gpus: float  # GPUs for each
    device: str
    machines: int

    def __str__(self) -> str:
        what = f"cores each: {self.cpus}" + (f", GPUs each: {self.gpus:g}" if self.gpus else "")
        return f"actors: {self.actors}, {what}, machines: {self.machines}"


@dataclass(frozen=True)
class Summary:
    """What a scan did; printed at its end."""

    reports: list[Report] = field(repr=False)  # of all shards
    done_before: int  # shards that an earlier run had done
    pool: Pool | None  # None: nothing was left to do
    seconds: float  # with the start of Ray
    rows: str  # where they are
    dollars_per_hour: float | None = None

    def _sum(self, name: str) -> int:
        return sum(getattr(report, name) for report in self.reports)

    @property
    def failed(self) -> int:
        return self._sum("failed")

    @property
    def images_per_s(self) -> float:
        """Of this run, from the begin of the first shard to the end of the last one."""
        now = [r for r in self.reports[self.done_before :] if not r.problem]
        if not now:
            return 0.0
        passed_s = max(r.end_s for r in now) - min(r.begin_s for r in now)
        return sum(r.images for r in now) / max(passed_s, 1e-9)

    @property
    def machine_hours_per_million(self) -> float:
        return self.pool.machines * 1e6 / self.images_per_s / 3600

    @property
    def failures(self) -> list[str]:
        named = [f"{r.name}: {r.problem}" for r in self.reports if r.problem]
        return named + [failure for report in self.reports for failure in report.failures]

    def __str__(self) -> str:
        lines = [
            f"{self._sum('images')} images in {len(self.reports)} shards, {self._sum('marked')} "
            f"marked, {self.failed} failed; {self.done_before} shards were done before. "
            f"Rows: {self.rows}"
        ]
        if self.images_per_s:
            line = f"{self.images_per_s:.2f} images/s ({self.pool}), {self.seconds:.0f} s with the "
            line += f"start; {self.machine_hours_per_million:.2f} machine-hours per million images"
            if self.dollars_per_hour:
                cost = self.machine_hours_per_million * self.dollars_per_hour
                line += f", {cost:.2f} dollars at {self.dollars_per_hour:g} an hour"
            lines.append(line)
        lines += [f"failed: {failure}" for failure in self.failures[:NAMED]]
        named = min(NAMED, len(self.failures))
        if self.failed > named:
            lines.append(f"and {self.failed - named} more: see the column error of the rows")
        return "\n".join(lines)


def scan(source: str, output: str, options: ScanOptions | None = None) -> Summary:
    """Writes a file of rows for each shard of the source that has none yet.

    Args:
        source: a .tar or .parquet file, or a folder of such or of images: local path or URL.
        output: folder for `rows/NAME.parquet` and, with `keep_below`, `kept/`: local path or URL.
            On several machines all of them must see it and the source by this name.

    Raises:
        UsageError: nothing to scan, no weights, the output holds other rows, no such cluster, no
            Ray.
        ValueError: device or backend cannot be used there.
        OutputError: the output takes no more files; what is done stays.
    """
    options, start_s = options or ScanOptions(), time.monotonic()
    check_ray(options.address)
    weights = checked(Weights.read, options.weights, options.backend == INT8_BACKEND)
    origin, target = Store(source), Store(output)
    if origin.address == target.address:
        raise UsageError(
            f"{output} is both source and output. Give the rows a folder of their own."
        )
    shards = list_shards(origin)
    manifest = options.manifest(origin.address, weights.fingerprint)
    local = isinstance(target.filesystem, fs.LocalFileSystem)
    with locked(Path(target.path)) if local else nullcontext():
        try:
            done = done_before(target, shards, manifest)
        except OSError as error:
            raise UsageError(f"{output} cannot be read: {error}. {ADVICE}") from error
        todo = [shard for shard in shards if shard.name not in done]
        with target.writing(MANIFEST) as stream:
            stream.write(json.dumps(manifest, indent=2).encode() + b"\n")
        reports, pool = [*done.values()], None
        if todo:
            with session(options.address) as nodes:
                pool = plan_pool(nodes, len(todo), options)
                reports += run_there(todo, origin.address, target.address, options, weights, pool)
    rows = target.below(ROWS).url
    seconds = time.monotonic() - start_s
    return Summary(reports, len(done), pool, seconds, rows, options.dollars_per_hour)


# --- What is there already ---------------------------------------------------------------------


def done_before(output: Store, shards: list[Shard], manifest: dict) -> dict[str, Report]:
    """Shard name to report of what is done; UsageError if rows of another run are there."""
    there = [name for folder in (ROWS, KEPT) for name in output.whole_files(folder)]
    if output.info(MANIFEST).type == fs.FileType.NotFound:
        if there:
            raise UsageError(
                f"{output.url} has a {there[0]}, but no {MANIFEST} that says which run wrote it. "
                + ADVICE
            )
        return {}
    try:
        with output.stream(MANIFEST) as stream:
            found = json.loads(stream.read())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{output.url} has a damaged {MANIFEST}. {ADVICE}")
    if found != manifest:
        differ = [name for name in manifest if found.get(name) != manifest[name]]
        told = ", ".join(f"{name} {found.get(name)} there, {manifest[name]} now" for name in differ)
        raise UsageError(f"{output.url} holds the rows of another run: {told}. {ADVICE}")
    names = [name for name in there if name.startswith(f"{ROWS}/")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reports = [report for report in pool.map(lambda n: report_in(output, n), names) if report]
    stamps = {shard.name: shard.stamp for shard in shards}
    for report in reports:
        if stamps.get(report.name) != report.stamp:
            how = "has changed since" if report.name in stamps else "is no longer in the source"
            kept = f" and what {KEPT}/ has of it" if manifest["keep_below"] is not None else ""
            raise UsageError(
                f"{output.url} has {rows_name(report.name)}, whose shard {how}. Delete that file"
                f"{kept}, or give another output folder."
            )
    return {report.name: report for report in reports}


# --- Ray ---------------------------------------------------------------------------------------


def find_ray() -> bool:
    """Whether Ray is installed."""
    return find_spec("ray") is not None


def check_ray(address: str | None) -> None:
    """Raises UsageError if Ray is not installed, or nothing listens at the address.

    Ray itself would try for minutes and then end the process.
    """
    if not find_ray():
        raise UsageError(HOW_TO_GET_RAY)
    if address in (None, "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"No Ray cluster at {address}: {error}. Give ray://HOST:10001, HOST:6379 on one of "
            "its machines, or auto; without --address Ray starts on this machine."
        ) from error


def start_ray(address: str | None, tries: int = 3, **more) -> None:
    """Starts Ray on this machine or joins a cluster; UsageError if there is none."""
    import ray  # optional and slow to import

    if address:
        more["runtime_env"] = {"working_dir": str(ROOT), "excludes": list(NOT_SENT)}
    else:
        more["include_dashboard"] = False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports its use to its makers
    try:
        ray.init(address or "local", **more)
    except ConnectionError as error:
        raise UsageError(
            f"No Ray cluster at {address}: {error}. If it asks for a token, which is Ray's "
            "default, set RAY_AUTH_MODE=token."
        ) from error
    except Exception as error:  # bare, of Ray: its processes take more than 30 s on a busy machine
        if "timed out during startup" not in str(error) or tries == 1:
            raise
        start_ray(address, tries - 1, **more)


@contextmanager
def session(address: str | None) -> Iterator[list[dict]]:
    """Ray, and its living machines: `ray.nodes`. A session that the caller has is used as it is."""
    import ray  # optional and slow to import

    began = not ray.is_initialized()
    if began:
        start_ray(address)
    try:
        yield [node for node in ray.nodes() if node["Alive"]]
    finally:
        if began:
            ray.shutdown()


def plan_pool(nodes: list[dict], shards: int, options: ScanOptions) -> Pool:
    """How many actors with how much; UsageError if there is no room for them.

    Args:
        nodes: with "Resources": {"CPU": cores, "GPU": GPUs}; a kind that is not there is left out.
    """
    cores = [node["Resources"].get("CPU", 0) for node in nodes]
    gpus = [node["Resources"].get("GPU", 0) for node in nodes]
    device = options.device
    if device == "auto":
        device = "cuda" if any(gpus) and options.backend not in OPENVINO else "cpu"
    share = options.gpus_per_actor if device.startswith("cuda") else 0
    room = [int(gpu / share) for gpu in gpus] if share else [int(core) for core in cores]
    wanted = options.actors or max(1, min(sum(room), shards))
    cpus = options.cpus_per_actor or equal_share(cores, room, wanted)
    room = sum(min(places, int(core / cpus)) for places, core in zip(room, cores))
    if wanted > room:
        each = f"{share:g} GPU and {cpus} cores" if share else f"{cpus} cores"
        raise UsageError(
            f"{wanted} actors on {device} with {each} each do not fit: Ray counts {sum(cores):g} "
            f"cores and {sum(gpus):g} GPUs on {len(nodes)} machines, room for {room}."
        )
    return Pool(wanted, cpus, share, device, len(nodes))


def equal_share(cores: list[float], room: list[int], actors: int) -> int:
    """Cores for each of so many actors, as the machine with the fewest for each place can give."""
    shares = [core / max(1, min(places, actors)) for core, places in zip(cores, room) if places]
    return max(1, int(min(shares, default=1)))


def run_there(*given) -> list[Report]:
    """`run`; on the cluster itself if we are its client (ray://), from where Ray Data cannot."""
    import ray  # optional and slow to import
    from ray.util.client import ray as client

    if not client.is_connected():
        return run(*given)
    try:
        return ray.get(ray.remote(num_cpus=0)(run).remote(*given))
    except ray.exceptions.RayTaskError as error:
        raise (error.cause or error) from None


def run(todo, source: str, output: str, options: ScanOptions, weights, pool: Pool) -> list[Report]:
    """The reports of the shards, as Ray Data gets them done."""
    import ray.data  # optional and slow to import

    ray.data.DataContext.get_current().max_errored_blocks = -1  # a lost shard costs only itself
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # see requirements-scale
    options = replace(options, device=pool.device)
    rows = [{"shard": pickle.dumps(shard)} for shard in todo]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        ShardScanner, fn_constructor_args=(source, output, options, weights, pool.cpus),
        compute=ray.data.ActorPoolStrategy(size=pool.actors), num_cpus=pool.cpus,
        num_gpus=pool.gpus or None, max_task_retries=TRIES - 1,
    )  # fmt: skip
    reports = {}
    for row in dataset.iter_rows():
        report = pickle.loads(row["report"])
        if isinstance(report, Exception):
            raise report
        reports[report.name] = report
    lost = f"its process died {TRIES} times or failed: see Ray's log"
    for shard in todo:
        reports.setdefault(shard.name, Report(shard.name, shard.stamp, failed=1, problem=lost))
    return [*reports.values()]
