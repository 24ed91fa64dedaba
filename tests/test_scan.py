"""Scans that go on, are refused or killed: nothing is lost, nothing done twice."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import paint_photo
from PIL import Image
from pyarrow import fs, parquet
from shards import go, three, write_tar

import scan as command
from batch import scan as pipeline
from batch.files import UsageError
from batch.look import open_image
from batch.scan import Pool, ScanOptions, Summary, done_before, plan_pool
from batch.scanner import Report, rows_name, scan_shard
from batch.shards import list_shards
from batch.stores import Store
from inference.runtime import load_segmenter

ROOT = Path(__file__).parents[1]
NEEDS_RAY = pytest.mark.skipif(
    not find_spec("ray"), reason="Ray is not installed: pip install -r requirements-scale.txt"
)


def test_what_is_done_is_known_by_whole_files_of_the_same_run(tmp_path):
    source, output = three(tmp_path), Store(str(tmp_path / "out"))
    shards = list_shards(Store(str(source)))
    manifest = ScanOptions().manifest("in", "weights A")
    assert done_before(output, shards, manifest) == {}
    [report] = go(source, tmp_path / "out")
    (tmp_path / "out/scan.json").write_text(json.dumps(manifest))
    assert done_before(output, shards, manifest) == {"00": report}
    other = ScanOptions(threshold=0.7).manifest("in", "weights B")
    with pytest.raises(UsageError, match=r"weights weights A there, weights B now.*threshold 0.5"):
        done_before(output, shards, other)
    path = tmp_path / "out" / rows_name("00")
    path.write_bytes(path.read_bytes()[:-9])
    assert done_before(output, shards, manifest) == {}
    go(source, tmp_path / "out")
    os.utime(source / "00.tar", (1, 1))
    changed, advice = "00.parquet, whose shard has changed since. ", "Delete that file, or give"
    with pytest.raises(UsageError, match=changed + advice):
        done_before(output, list_shards(Store(str(source))), manifest)
    manifest = ScanOptions(keep_below=0.5).manifest("in", "weights A")
    (tmp_path / "out/scan.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="Delete that file and what kept/ has of it, or give"):
        done_before(output, list_shards(Store(str(source))), manifest)
    (tmp_path / "out" / "scan.json").unlink()
    with pytest.raises(UsageError, match=r"but no scan\.json"):
        done_before(output, shards, manifest)


def test_an_output_that_may_not_be_listed_is_refused(tmp_path, monkeypatch):
    source, files = three(tmp_path), Store.files

    def allowed(store, name=""):
        if store.path != source.as_posix():
            raise PermissionError(13, "AccessDenied")
        return files(store, name)

    monkeypatch.setattr(pipeline, "check_ray", lambda _: None)
    monkeypatch.setattr(Store, "files", allowed)
    with pytest.raises(UsageError, match=r"out cannot be read: .*AccessDenied.*another output"):
        pipeline.scan(str(source), str(tmp_path / "out"))


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs scan.py on what is below a new current folder; the sentence with status 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "find_ray", lambda: True)

    def call(*arguments, output="out"):
        assert command.main([*map(str, arguments), "--output", str(output)]) == 2
        [line] = capsys.readouterr().err.splitlines()
        return line.removeprefix("scan.py: ")

    return call


def test_sources_without_photos_are_refused(tmp_path, refused):
    assert refused("nowhere").startswith("nowhere does not exist. Give a .tar or")
    (tmp_path / "in").mkdir()
    assert refused("in").startswith("No shard in in: looked for .tar and .parquet files, and for")
    (tmp_path / "notes.txt").write_text("x")
    assert refused("notes.txt").startswith("notes.txt is no shard.")


def test_urls_that_no_package_opens_are_refused(refused):
    assert refused("nonsense://x").startswith("No installed package opens nonsense://x: ")
    assert "dropbox" in refused("dropbox://x")  # fsspec knows it, its package is not there


def test_urls_may_hold_any_letter(tmp_path):
    folder = tmp_path / "my photös, 50 %"
    with Store(f"file://{tmp_path}/my photös, 50 %25").writing("a b.txt") as stream:
        stream.write(b"x")
    assert (folder / "a b.txt").read_bytes() == b"x"
    store = Store(f"file://{folder}".replace(" %", " %25"))
    assert store.path == folder.as_posix() and [*store.files()] == ["a b.txt"]
    assert isinstance(store.filesystem, fs.LocalFileSystem)


def test_a_store_has_an_address_for_processes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("rows").below("kept").address == (tmp_path / "rows/kept").as_posix()
    assert Store(tmp_path.as_uri()).address == tmp_path.as_posix()


def test_stores_of_two_schemes_are_two_folders():
    buckets = [Store(url).address for url in ("s3://b/x?region=r", "gs://anonymous@b/x")]
    assert len(set(buckets)) == 2


def test_outputs_of_other_runs_are_refused(tmp_path, refused):
    source = three(tmp_path)
    assert "is both source and output" in refused(source, output=source)
    assert refused(source, "--weights", tmp_path).startswith(f"No config.json in {tmp_path}")
    go(source, "out")
    assert "but no scan.json that says which run wrote it" in refused(source)
    Path("out/scan.json").write_text("{}")
    assert "out holds the rows of another run: source None there" in refused(source)
    Path("out/scan.json").write_text("[]")
    assert "out has a damaged scan.json" in refused(source)
    assert refused("out", output="new").startswith("out is the output of a scan")


def test_clusters_that_are_not_there_are_refused(tmp_path, refused):
    with socket.socket() as taken:  # a port where nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for given in (address, f"ray://{address}"):
            message = refused(three(tmp_path), "--address", given)
            assert message.startswith(f"No Ray cluster at {given}: ")
    assert refused("in", "--address", "head").startswith("No Ray cluster at head: ")


def test_without_ray_it_says_how_to_get_it(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(pipeline, "find_ray", lambda: False)
    assert "pip install -r requirements-scale.txt" in refused(three(tmp_path))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(threshold=2), "threshold 2"), (dict(keep_below=1.5), "keep_below is 1.5"),
        (dict(actors=0), "actors is 0"), (dict(gpus_per_actor=0), "gpus_per_actor is 0"),
        (dict(backend="x"), "backend is 'x'"), (dict(dollars_per_hour=-1), "per_hour is -1"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ScanOptions(**options)


def machines(*resources) -> list[dict]:
    return [{"Resources": {"CPU": cpu, "GPU": gpu}} for cpu, gpu in resources]


def test_a_photo_above_pillows_limit_says_what_opens_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = io.BytesIO()
    Image.new("RGB", (20, 20)).save(data, "png")
    with pytest.raises(ValueError, match=r"\(400 pixels\) .* segment.py --allow-huge opens it"):
        open_image(data.getvalue())


@pytest.mark.parametrize(
    "nodes, shards, options, expected",
    [
        ([(4, 0)], 99, {}, (4, 1, 0, "cpu")), ([(4, 0)], 2, {}, (2, 2, 0, "cpu")),
        ([(4, 0)], 99, dict(actors=1), (1, 4, 0, "cpu")),
        ([(4, 0)], 99, dict(actors=1, cpus_per_actor=1), (1, 1, 0, "cpu")),
        ([(16, 2)], 99, {}, (2, 8, 1, "cuda")), ([(16, 1), (8, 0)], 99, {}, (1, 16, 1, "cuda")),
        ([(16, 2)] * 3, 99, dict(gpus_per_actor=0.25), (24, 2, 0.25, "cuda")),
        ([(16, 2)], 99, dict(device="cpu"), (16, 1, 0, "cpu")),
        ([(16, 2)], 99, dict(backend="openvino-int8"), (16, 1, 0, "cpu")),
    ],
)  # fmt: skip
def test_actors_take_equal_shares(nodes, shards, options, expected):
    pool = plan_pool(machines(*nodes), shards, ScanOptions(**options))
    assert (pool.actors, pool.cpus, pool.gpus, pool.device) == expected


@pytest.mark.parametrize("options", [dict(actors=5), dict(device="cuda"), dict(cpus_per_actor=5)])
def test_actors_without_room_are_refused(options):
    with pytest.raises(UsageError, match="do not fit: Ray counts 4 cores and 0 GPUs on 1 machines"):
        plan_pool(machines((4, 0)), 99, ScanOptions(**options))


def test_the_summary_counts_names_and_prices():
    before = Report("0", "", images=5000, marked=7, begin_s=1, end_s=2)
    now = Report("1", "", 1000, 3, 2, ["1.tar: k: bad"], begin_s=100, end_s=110)
    gone = Report("2", "", failed=1, problem="is no Parquet file")
    pool = Pool(4, 2, 0, "cpu", machines=2)
    summary = Summary([before, now, gone], 1, pool, 30, "out/rows", dollars_per_hour=0.9)
    first, second, *failures = str(summary).splitlines()
    assert first.startswith("6000 images in 3 shards, 10 marked, 3 failed; 1 shards were done")
    assert second.startswith("100.00 images/s (actors: 4, cores each: 2, machines: 2), 30 s")
    assert second.endswith("5.56 machine-hours per million images, 5.00 dollars at 0.9 an hour")
    assert failures == [
        "failed: 2: is no Parquet file", "failed: 1.tar: k: bad", 
        "and 1 more: see the column error of the rows",
    ]  # fmt: skip


# --- With Ray ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Address of a Ray that all tests of this file share."""
    import ray

    pipeline.start_ray(None, num_cpus=3, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("weights")
    tiny_model.save(folder)
    return str(folder)


SHARDS, PHOTOS = 12, 16
BACKEND = "openvino" if find_spec("openvino") else "torch"  # which takes longer to import


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Shards with photos of two sizes, and in the fourth one a broken photo."""
    folder = tmp_path_factory.mktemp("many")
    for shard in range(SHARDS):
        files = {}
        for number in range(PHOTOS):
            file = io.BytesIO()
            photo = paint_photo(shard * PHOTOS + number, 300 + 20 * (number % 2), 400)
            Image.fromarray(photo).save(file, "JPEG")
            files[f"{number:03}.jpg"] = file.getvalue()
        if shard == 3:
            files["003.jpg"] = files["003.jpg"][:500]
        write_tar(folder / f"{shard:02}.tar", files)
    return folder


@pytest.fixture(scope="module")
def undisturbed(many, weights, tmp_path_factory) -> dict[str, list[dict]]:
    """Name to rows, made in this process."""
    output = Store(str(tmp_path_factory.mktemp("undisturbed")))
    segmenter = load_segmenter(weights, "cpu", BACKEND)
    options = ScanOptions(min_score=0, keep_below=0.9)
    for shard in list_shards(Store(str(many))):
        scan_shard(shard, Store(str(many)), output, segmenter, 1, options)
    return all_rows(output.path)


def all_rows(output) -> dict[str, list[dict]]:
    paths = sorted(Path(output, "rows").glob("*.parquet"))
    return {path.stem: parquet.read_table(path).to_pylist() for path in paths}


def arguments(many, output, weights, *more) -> list[str]:
    given = [many, "--output", output, "--weights", weights, "--min-score", 0, *more]
    given += ["--keep-below", 0.9, "--device", "cpu", "--backend", BACKEND, "--cpus-per-actor", 1]
    return [*map(str, given), "--actors", "2"]


def wait_for_rows(output, count: int) -> None:
    end_s = time.monotonic() + 120
    while len(list(Path(output, "rows").glob("*.parquet"))) < count:
        assert time.monotonic() < end_s, "no rows within two minutes"
        time.sleep(0.005)


def kill_one_actor(output, killed: list) -> None:
    wait_for_rows(output, 2)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if b"ShardScanner" in path.read_bytes() and b"ray::" in path.read_bytes():
            os.kill(int(path.parent.name), signal.SIGKILL)
            killed.append(len(list(Path(output, "rows").glob("*.parquet"))))
            return


@NEEDS_RAY
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="actors are found there")
def test_a_killed_worker_costs_nothing(many, weights, undisturbed, cluster, tmp_path, capsys):
    killed = []
    killer = threading.Thread(target=kill_one_actor, args=(tmp_path, killed))
    killer.start()
    assert command.main(arguments(many, tmp_path, weights)) == 1  # one photo is broken
    killer.join()
    assert killed and killed[0] < SHARDS, "it ended before a worker could be killed"
    assert all_rows(tmp_path) == undisturbed
    assert Counter(len(found) for found in undisturbed.values()) == {PHOTOS: SHARDS}
    printed = capsys.readouterr().out
    assert f"{SHARDS * PHOTOS} images in {SHARDS} shards" in printed
    assert "failed: 03.tar: 003: " in printed and "machine-hours per million" in printed
    assert not [*tmp_path.rglob(".partial/*")]


@NEEDS_RAY
def test_a_killed_scan_goes_on(many, weights, undisturbed, cluster, tmp_path, capsys):
    given = arguments(many, tmp_path, weights)
    seen_from_there = arguments(os.path.relpath(many, tmp_path), ".", weights)
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "scan.py"), *seen_from_there, "--address", cluster],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    wait_for_rows(tmp_path, 2)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").glob("*.parquet")}
    assert len(left) < SHARDS
    assert command.main(given) == 1
    assert all_rows(tmp_path) == undisturbed
    assert all(path.stat().st_mtime_ns == changed for path, changed in left.items())
    capsys.readouterr()
    assert command.main(given) == 1  # all is done; the broken photo is still told
    printed = capsys.readouterr().out
    assert f"{SHARDS} shards were done before" in printed and "failed: 03.tar: 003: " in printed
