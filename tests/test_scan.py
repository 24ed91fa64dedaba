"""Shards to rows: every format, what is broken or refused, and that no kill loses anything."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import paint_photo
from PIL import Image
from pyarrow import parquet

import scan as command
from batch import scan as pipeline
from batch.formats import split_key
from batch.inputs import UsageError
from batch.report import OutputError
from batch.scan import Pool, ScanOptions, Summary, done_before, plan_pool
from batch.scanner import Report, predict_by_size, report_in, rows_name, scan_shard
from batch.shards import FOLDER_IMAGES, list_shards
from batch.stores import Store
from inference.runtime import load_segmenter
from inference.segmenter import NATIVE_PX, Segmenter

ROOT = Path(__file__).parents[1]
NEEDS_RAY = pytest.mark.skipif(
    not find_spec("ray"), reason="Ray is not installed: pip install -r requirements-scale.txt"
)


class Bright(Segmenter):
    """Takes brightness for the probability of a mark, its mean for the score."""

    def __init__(self):
        self.seen = []

    @contextmanager
    def predicting(self, threads=None):
        def predict(views):
            self.seen += [view.shape[:2] for view in views]
            return [(v[..., 0] / np.float32(255), float(v.mean() / 255)) for v in views]

        yield predict


def png(level: int, width=4, height=2) -> bytes:
    """A grey photo whose score is level / 255."""
    file = io.BytesIO()
    Image.new("L", (width, height), level).save(file, "PNG")
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
        scan_shard(shard, source, output, Bright(), 1, options) for shard in list_shards(source)
    ]


def rows(output, name="00") -> list[dict]:
    return parquet.read_table(Path(output) / rows_name(name)).to_pylist()


# --- Formats -----------------------------------------------------------------------------------


def test_a_tar_becomes_a_row_for_each_sample(tmp_path):
    [report] = go(three(tmp_path), tmp_path / "out", rle=True)
    dark, bright, broken = rows(tmp_path / "out")
    assert [*bright] == [
        "key", "source", "width", "height", "score", "coverage", "boxes", "error", "rle", "json",
        "txt",
    ]  # fmt: skip
    told = {"source": "00.tar", "json": '{"n": 1}'}
    assert bright | told == bright and bright["key"] == bright["txt"] == "b"
    assert (bright["width"], bright["height"], bright["score"], bright["coverage"]) == (
        4,
        2,
        0.8,
        1,
    )
    assert bright["boxes"] == [[0, 0, 4, 2]] and bright["rle"]["size"] == [2, 4]
    assert (dark["score"], dark["coverage"], dark["boxes"], dark["error"]) == (0.2, 0, [], None)
    assert broken["error"] == "is not an image that Pillow can read" and broken["txt"] == "c"
    assert broken["score"] is None and broken["width"] is None
    assert (report.images, report.marked, report.failed) == (3, 1, 1)
    assert report.failures == ["00.tar: c: is not an image that Pillow can read"]
    assert report_in(Store(str(tmp_path / "out")), rows_name("00")) == report


def test_a_kept_tar_holds_whole_samples_with_a_low_score(tmp_path):
    go(three(tmp_path), tmp_path / "out", keep_below=0.5)
    with tarfile.open(tmp_path / "out/kept/00.tar") as archive:
        kept = {info.name: archive.extractfile(info).read() for info in archive}
    assert kept == {"a.png": png(51), "a.json": b'{"n": 1}', "a.txt": b"a"}
    go(tmp_path / "in", tmp_path / "none", keep_below=0.2)  # below, not at
    with tarfile.open(tmp_path / "none/kept/00.tar") as archive:
        assert archive.getnames() == []


@pytest.mark.parametrize("struct", [False, True])
def test_a_parquet_file_keeps_its_columns(tmp_path, struct):
    images = [png(51), None, png(204)]
    if struct:
        paths = ["x.png", "y.png", None]
        images = [{"bytes": data, "path": path} for data, path in zip(images, paths)]
    told = {"key": [7, 8, None], "width": [1, 2, 3], "tags": [["t"], [], None]}
    table = pa.table({**told, "image": images}).replace_schema_metadata({"huggingface": "{}"})
    parquet.write_table(table, tmp_path / "00.parquet")
    go(tmp_path / "00.parquet", tmp_path / "out", keep_below=0.5)
    found = rows(tmp_path / "out")
    assert [row["key"] for row in found] == ["7", "8", "000000002"]
    assert [row["score"] for row in found] == [0.2, None, 0.8]
    assert found[1]["error"] == ("no bytes, only the path y.png" if struct else "no bytes")
    assert [row["input_width"] for row in found] == [1, 2, 3] and found[0]["width"] == 4
    assert [row["tags"] for row in found] == [["t"], [], None] and "image" not in found[0]
    kept = parquet.read_table(tmp_path / "out/kept/00.parquet")
    assert kept.equals(table.slice(0, 1)) and kept.schema.metadata == table.schema.metadata


def test_a_folder_becomes_portions_and_keeps_what_lies_beside(tmp_path, monkeypatch):
    monkeypatch.setattr("batch.shards.FOLDER_IMAGES", 2)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for number, level in enumerate([51, 204, 0]):
        (tmp_path / "in" / "sub" / f"{number}.png").write_bytes(png(level))
    (tmp_path / "in/sub/0.txt").write_text("dark")
    (tmp_path / "in/other.txt").write_text("of nothing")
    reports = go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    assert [report.name for report in reports] == ["sub-00000", "sub-00001"]
    found = rows(tmp_path / "out", "sub-00000") + rows(tmp_path / "out", "sub-00001")
    assert [(row["source"], row["key"], row["score"], row["txt"]) for row in found] == [
        ("sub", "0.png", 0.2, "dark"), ("sub", "1.png", 0.8, None), ("sub", "2.png", 0, None),
    ]  # fmt: skip
    kept = tmp_path / "out" / "kept"
    assert {p.relative_to(kept).as_posix() for p in kept.rglob("*") if p.is_file()} == {
        "sub/0.png", "sub/0.txt", "sub/2.png",
    }  # fmt: skip


def test_keys_end_at_the_first_dot_of_the_name():
    assert split_key("a.b/c.seg.png") == ("a.b/c", "seg.png")
    assert split_key("c.jpg") == ("c", "jpg")


def test_shards_are_listed_once_and_metadata_beside_them_is_none(tmp_path):
    write_tar(tmp_path / "a" / "00.tar", {})
    parquet.write_table(pa.table({"url": ["x"]}), tmp_path / "a" / "00.parquet")  # img2dataset's
    parquet.write_table(pa.table({"image": [b""]}), tmp_path / "a" / "01.parquet")
    three(tmp_path / "a" / ".hidden")
    (tmp_path / "a" / "out").mkdir()
    (tmp_path / "a" / "out" / "scan.json").write_text("{}")
    three(tmp_path / "a" / "out")
    listed = list_shards(Store(str(tmp_path / "a")))
    assert [(shard.kind, shard.source) for shard in listed] == [
        ("tar", "00.tar"), ("parquet", "01.parquet"),
    ]  # fmt: skip
    assert FOLDER_IMAGES >= 100  # files of rows that are worth their place


# --- What is broken ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage, whole",
    [
        (lambda data: data[: 512 * 4 + 100], 2),  # in a header
        (lambda data: data[: 512 * 5 + 3], 2),  # in a photo
        (lambda data: data[: 512 * 4], 2),  # between two files: no end mark
        (lambda data: data[: 512 * 4] + b"\xff" * 512 + data[512 * 5 :], 2),
        (lambda data: b"", 0), (lambda data: b"no tar" * 500, 0),
    ],
)  # fmt: skip
def test_a_broken_tar_costs_its_rest(tmp_path, damage, whole):
    path = tmp_path / "in" / "00.tar"
    data = write_tar(path, {f"{key}.png": png(204) for key in "abcdef"})
    path.write_bytes(damage(data))
    [report] = go(tmp_path / "in", tmp_path / "out", keep_below=0.9)
    found = rows(tmp_path / "out")
    assert [row["key"] for row in found] == [*"abcdef"[:whole], None]
    assert report.failed == 1 and report.images == whole
    assert "00.tar: the rest cannot be read: " in report.failures[0]
    with tarfile.open(tmp_path / "out/kept/00.tar") as kept:
        assert len(kept.getnames()) == whole


def test_a_sample_without_a_photo_costs_its_own_row(tmp_path):
    write_tar(tmp_path / "in" / "00.tar", {"a.json": b"{}", "a.txt": b"\xff", "b.png": png(0)})
    go(tmp_path / "in", tmp_path / "out")
    first, second = rows(tmp_path / "out")
    assert first["error"] == "no image, only .json, .txt" and first["txt"] == "\\xff"
    assert second["error"] is None


def test_a_broken_parquet_file_leaves_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "00.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(pipeline.SourceError, match="is no Parquet file"):
        go(tmp_path / "in", tmp_path / "out")
    table = pa.table({"image": [os.urandom(5000) for _ in range(99)]})
    parquet.write_table(table, tmp_path / "in" / "00.parquet", compression="gzip")
    whole = (tmp_path / "in" / "00.parquet").read_bytes()
    (tmp_path / "in" / "00.parquet").write_bytes(whole[:9000] + bytes(99999) + whole[108999:])
    with pytest.raises(pipeline.SourceError, match="cannot be read"):
        go(tmp_path / "in", tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_an_output_that_takes_no_file_is_told_and_left_clean(tmp_path):
    resource = pytest.importorskip("resource")  # no file may grow above a limit: errno EFBIG
    source = three(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(OutputError, match=r"rows/00.parquet in .* cannot be written"):
            go(source, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_photos_of_equal_size_are_looked_at_together():
    shapes = [(2, 4), (3, 3), (2, 4), (1, NATIVE_PX + 100), (3, 3)]
    photos = [np.full((*shape, 3), 40 * i, np.uint8) for i, shape in enumerate(shapes)]
    segmenter = Bright()
    with segmenter.predicting() as predict:
        found = predict_by_size(predict, photos)
    assert segmenter.seen[:4] == [(2, 4), (2, 4), (3, 3), (3, 3)]
    assert [probability.shape for probability, _ in found] == shapes
    assert [score for _, score in found] == pytest.approx(
        [40 * i / 255 for i in range(5)], abs=0.01
    )


def test_urls_of_fsspec_are_read_and_written(tmp_path):
    memory = Store("memory://bucket/in")
    memory.write("00.tar", (three(tmp_path) / "00.tar").read_bytes())
    go("memory://bucket/in", "memory://bucket/out", keep_below=0.5)
    go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    output = Store("memory://bucket/out")
    with output.file("rows/00.parquet") as file:
        assert parquet.read_table(file).to_pylist() == rows(tmp_path / "out")
    assert output.read("kept/00.tar") == (tmp_path / "out/kept/00.tar").read_bytes()
    assert sorted(output.files()) == ["kept/00.tar", "rows/00.parquet"]  # nothing temporary
    go(f"file://{tmp_path}/in", f"local://{tmp_path}/local")
    assert rows(tmp_path / "local") == rows(tmp_path / "out")


# --- Going on, and what is refused -------------------------------------------------------------


def test_what_is_done_is_known_by_whole_files_of_the_same_run(tmp_path):
    source, output = three(tmp_path), Store(str(tmp_path / "out"))
    shards = list_shards(Store(str(source)))
    manifest = ScanOptions().manifest("in", "weights A")
    assert done_before(output, shards, manifest) == {}
    output.write("scan.json", json.dumps(manifest).encode())
    [report] = go(source, tmp_path / "out")
    assert done_before(output, shards, manifest) == {"00": report}
    other = ScanOptions(threshold=0.7).manifest("in", "weights B")
    with pytest.raises(UsageError, match=r"weights weights A there, weights B now.*threshold 0.5"):
        done_before(output, shards, other)
    path = tmp_path / "out" / rows_name("00")
    path.write_bytes(path.read_bytes()[:-9])
    assert done_before(output, shards, manifest) == {}
    go(source, tmp_path / "out")
    os.utime(source / "00.tar", (1, 1))
    with pytest.raises(UsageError, match=r"00\.parquet, whose shard has changed since"):
        done_before(output, list_shards(Store(str(source))), manifest)
    (tmp_path / "out" / "scan.json").unlink()
    with pytest.raises(UsageError, match=r"but no scan\.json"):
        done_before(output, shards, manifest)


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
    write_tar(tmp_path / "in" / "00.tar", {"a.txt": b"x"})
    assert "00.tar: no image, only .txt" in refused("in")
    assert not Path("out/scan.json").exists()
    write_tar(tmp_path / "in" / "00.tar", {})
    assert "00.tar: no image in it" in refused("in/00.tar")
    parquet.write_table(pa.table({"url": ["x"], "n": [1]}), tmp_path / "t.parquet")
    message = refused("t.parquet")
    assert "t has no column of images, only url (string), n (int64). Give one" in message
    parquet.write_table(pa.table({"x": [b""], "y": [b""]}), tmp_path / "t.parquet")
    assert "several columns of bytes: x, y. Call the one with the images image" in refused(
        "t.parquet"
    )


def test_urls_that_no_package_opens_are_refused(refused):
    assert refused("nonsense://x").startswith("No installed package opens nonsense:// URLs")
    assert "dropbox" in refused("dropbox://x")  # fsspec knows it, its package is not there


def test_outputs_of_other_runs_are_refused(tmp_path, refused):
    source = three(tmp_path)
    assert "is both source and output" in refused(source, output=source)
    assert "does not exist" not in refused(source, "--weights", tmp_path)
    go(source, "out")
    assert "but no scan.json that says which run wrote it" in refused(source)
    Path("out/scan.json").write_text("{}")
    assert "out holds the rows of another run: source None there" in refused(source)
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


@pytest.mark.parametrize(
    "nodes, shards, options, expected",
    [
        ([(4, 0)], 99, {}, (4, 1, 0, "cpu")), ([(4, 0)], 2, {}, (2, 2, 0, "cpu")),
        ([(4, 0)], 99, dict(actors=1), (1, 4, 0, "cpu")),
        ([(4, 0)], 99, dict(actors=1, cpus_per_actor=1), (1, 1, 0, "cpu")),
        ([(16, 2)], 99, {}, (2, 8, 1, "cuda")), ([(16, 1), (8, 0)], 99, {}, (1, 16, 1, "cuda")),
        ([(16, 2)] * 3, 99, dict(gpus_per_actor=0.25), (24, 2, 0.25, "cuda")),
        ([(16, 2)], 99, dict(device="cpu"), (16, 1, 0, "cpu")),
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

    context = ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield context.address_info["gcs_address"]
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
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "scan.py"), *given, "--address", cluster],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, 
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
