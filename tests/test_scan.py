"""Shards to rows: all formats, damaged shards, and scans that continue, fail or are killed."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
from conftest import paint_photo
from PIL import Image
from pyarrow import parquet

import scan as command
from batch import scan as pipeline
from batch import segment_files, shards
from batch.files import OutputError, UsageError
from batch.predict import BYTES_AT_ONCE
from batch.scan import ScanOptions, ShardScanner, rows_name, scan_shard
from batch.shards import SourceError, find_shards, open_folder
from inference.runtime import load_segmenter
from inference.segmenter import NATIVE_PX, Segmenter

ROOT = Path(__file__).parents[1]
SHARD = {"shard": "00.tar", "stamp": "as it is"}


class Colourful(Segmenter):
    """A network whose probability is the range of a pixel's channels; the score is its mean.

    A negative has the same range, so all views agree.
    """

    def __init__(self):
        self.calls = []

    def fingerprint(self):
        return "colourful"

    @contextmanager
    def predicting(self, threads=None):
        def predict(views):
            self.calls.append(len(views))
            ranges = [(view.max(2) - view.min(2)) / np.float32(255) for view in views]
            return [(found, float(found.mean())) for found in ranges]

        yield predict


def png(level: int, width=4, height=2) -> bytes:
    """A red photo whose score is level / 255."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (level, 0, 0)).save(file, "PNG")
    return file.getvalue()


def add(archive, name, data=b"", **more):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in more.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


def write_tar(path: Path, files: dict[str, bytes]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            add(archive, name, data)
    return path.read_bytes()


def members(path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


@pytest.fixture
def source(tmp_path) -> Path:
    """One shard as img2dataset writes it: a dark photo, a bright one, and no photo."""
    files = {}
    for key, image in {"a": png(51), "b": png(204), "c": b"no picture"}.items():
        files |= {f"{key}.png": image, f"{key}.json": b'{"n": 1}', f"{key}.txt": key.encode()}
    write_tar(tmp_path / "in" / "00.tar", files)
    return tmp_path / "in"


@pytest.fixture
def go(score_of_the_head):
    """Scans all shards of a source in this process, without Ray."""

    def call(source, output, **options) -> int:
        (folder, shards), target = find_shards(str(source)), open_folder(str(output))
        how = folder, target, Colourful(), 1, ScanOptions(**options)
        return sum(scan_shard(*shard, *how) for shard in shards.items())

    return call


def rows(output, name="00") -> list[dict]:
    return parquet.read_table(Path(output, rows_name(name))).to_pylist()


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_tar_becomes_a_row_for_each_sample(source, tmp_path, go):
    assert go(source, tmp_path / "out", rle=True, keep_below=0.5) == 3
    dark, bright, broken = rows(tmp_path / "out")
    assert [*bright] == [
        "key", "source", "width", "height", "score", "coverage", "boxes", "error", "rle", "json",
        "txt",
    ]  # fmt: skip
    wanted = dict(source="00.tar", json='{"n": 1}', key="b", txt="b", width=4, height=2, score=0.8)
    wanted |= dict(coverage=1, boxes=[[0, 0, 4, 2]], error=None)
    assert bright | wanted == bright and bright["rle"]["size"] == [2, 4]
    assert (dark["score"], dark["coverage"], dark["boxes"], dark["error"]) == (0.2, 0, [], None)
    assert broken["error"] == "is not an image that Pillow can read" and broken["txt"] == "c"
    assert broken["score"] is None and broken["width"] is None
    kept = {"a.png": png(51), "a.json": b'{"n": 1}', "a.txt": b"a"}
    assert members(tmp_path / "out/kept/00.tar") == kept
    go(source, tmp_path / "none", keep_below=0.2)  # below, not at
    assert members(tmp_path / "none/kept/00.tar") == {}


@pytest.mark.parametrize("struct", [False, True])
def test_a_parquet_file_keeps_its_columns(tmp_path, struct, go, monkeypatch):
    monkeypatch.setattr(shards, "FLUSH_BYTES", 1)  # kept rows are written after each sample
    images = [png(51), None, png(204)]
    if struct:
        paths = ["x.png", "y.png", None]
        images = [{"bytes": data, "path": path} for data, path in zip(images, paths)]
    columns = {"key": [7, 8, None], "width": [1, 2, 3], "tags": [["t"], [], None]}
    table = pa.table({**columns, "image": images}).replace_schema_metadata({"huggingface": "{}"})
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


def test_shards_are_listed_once_and_metadata_beside_them_is_none(source):
    shutil.copytree(source, source / ".hidden")
    for name, columns in {"00": {"url": ["x"]}, "sub/01": {"image": [b""]}}.items():
        (source / name).parent.mkdir(exist_ok=True)
        parquet.write_table(pa.table(columns), source / f"{name}.parquet")
    write_tar(source / "out/rows/a.tar", {})
    (source / "out/scan.json").write_text("{}")
    assert [*find_shards(str(source))[1]] == ["00.tar", "sub/01.parquet"]
    with pytest.raises(UsageError, match=r"no \.tar or \.parquet file to scan"):
        find_shards(str(source / "out"))


def test_urls_of_fsspec_are_read_and_written(source, tmp_path, go):
    memory = open_folder("memory://bucket")
    memory.makedirs("in")
    memory.pipe_file("in/00.tar", (source / "00.tar").read_bytes())
    go("memory://bucket/in", "memory://bucket/out", keep_below=0.5)
    go(f"file://{source}", tmp_path / "out", keep_below=0.5)
    found = parquet.read_table("out/rows/00.parquet", filesystem=memory)
    assert found.to_pylist() == rows(tmp_path / "out")
    assert memory.cat_file("out/kept/00.tar") == (tmp_path / "out/kept/00.tar").read_bytes()
    assert sorted(memory.find("out")) == ["out/kept/00.tar", "out/rows/00.parquet"]


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
def test_a_broken_tar_costs_its_rest(tmp_path, damage, whole, go):
    path = tmp_path / "in" / "00.tar"
    path.parent.mkdir()
    path.write_bytes(damage(write_tar(path, {f"{key}.png": png(204) for key in "abcdef"})))
    assert go(tmp_path / "in", tmp_path / "out", keep_below=0.9) == whole
    *found, last = rows(tmp_path / "out")
    assert [row["key"] for row in found] == [*"abcdef"[:whole]]
    assert last["key"] is None and last["error"].startswith("the rest cannot be read: ")
    assert len(members(tmp_path / "out/kept/00.tar")) == whole


def test_every_odd_member_of_a_tar_has_a_row(tmp_path, go, monkeypatch):
    monkeypatch.setattr(shards, "SAMPLE_BYTES", 1000)
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/00.tar", "w") as archive:
        add(archive, "a.png", png(51))
        add(archive, "a.jpg", type=tarfile.LNKTYPE, linkname="a.png")
        add(archive, "b.png", png(51))
        add(archive, "b.txt", type=tarfile.SYMTYPE, linkname="a.txt")
        add(archive, "c.json", b"{}")
        add(archive, "c.txt", b"\xff")
        add(archive, "__d.png", png(51))
        add(archive, "__e__/f.png", png(51))
        add(archive, "._g.png", b"")
        add(archive, "h.png", png(51) + bytes(1000))
    go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    found = {row["key"]: row for row in rows(tmp_path / "out")}
    assert [*found] == ["a.png", "a.jpg", "b", "c", "__d", "__e__/f", "h"]
    link = "is a link inside the archive: pack the file"
    assert found["a.png"]["score"] == 0.2 and found["a.png"]["error"] is None
    assert found["a.jpg"]["error"].startswith(link)
    assert found["b"]["score"] == 0.2 and found["b"]["error"].startswith(f".txt {link}")
    assert found["c"]["error"] == "no image, only .json, .txt" and found["c"]["txt"] == "\\xff"
    assert found["h"]["error"].startswith("exceeds the limit") and 2 * BYTES_AT_ONCE < 300_000_000
    assert members(tmp_path / "out/kept/00.tar") == {"__d.png": png(51), "__e__/f.png": png(51)}


def test_every_image_that_is_kept_was_segmented(tmp_path, go):
    files = {"c.jpg": png(51), "c.png": png(204), "d.seg.png": png(51), "d.png": png(51)}
    write_tar(tmp_path / "in/00.tar", files)
    go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    scores = {row["key"]: row["score"] for row in rows(tmp_path / "out")}
    assert scores == {"c.jpg": 0.2, "c.png": 0.8, "d.seg.png": 0.2, "d.png": 0.2}
    assert set(members(tmp_path / "out/kept/00.tar")) == {"d.seg.png", "d.png"}


@pytest.mark.skipif(not shutil.which("tar"), reason="needs tar: Python writes no sparse files")
@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_kept_archives_read_back(tmp_path, kind, go):
    (tmp_path / "in").mkdir()
    data = png(51) + bytes(300_000)  # the end is a hole
    with open(tmp_path / "a.png", "wb") as file:
        file.write(png(51))
        file.truncate(len(data))
    pack = ["tar", "--sparse", f"--format={kind}", "-cf", "in/00.tar", "a.png"]
    subprocess.run(pack, cwd=tmp_path, check=True)
    go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    assert members(tmp_path / "out/kept/00.tar") == {"a.png": data}


def test_a_broken_parquet_file_leaves_nothing(tmp_path, go):
    path = tmp_path / "in/00.parquet"
    path.parent.mkdir()
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(SourceError, match="cannot be read"):
        go(tmp_path / "in", tmp_path / "out")
    parquet.write_table(pa.table({"url": ["x"], "a": [b""], "b": [b""]}), path)
    with pytest.raises(SourceError, match="has 2 columns of bytes, among url"):
        go(tmp_path / "in", tmp_path / "out")
    table = pa.table({"image": [os.urandom(5000) for _ in range(99)]})
    parquet.write_table(table, path, compression="gzip")
    whole = path.read_bytes()
    path.write_bytes(whole[:9000] + bytes(99999) + whole[108999:])
    with pytest.raises(SourceError, match="cannot be read"):
        go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    assert not left_in(tmp_path / "out")


@pytest.fixture
def scanner(source, tmp_path, monkeypatch) -> ShardScanner:
    """An actor, without Ray."""
    monkeypatch.setattr(pipeline, "load_segmenter", lambda *_: Colourful())
    return ShardScanner(*map(open_folder, (str(source), str(tmp_path / "out"))), ScanOptions())


@pytest.mark.parametrize(
    "error, problem",
    [
        (pa.ArrowNotImplementedError("nested columns"), "cannot be read: nested columns"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_whatever_is_wrong_with_a_shard_costs_that_shard(
    scanner, tmp_path, monkeypatch, error, problem
):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("batch.shards.TarShard.samples", refuse)
    row = scanner(SHARD)
    assert row == {**SHARD, "images": 0, "problem": problem, "stops": ""}
    assert not left_in(tmp_path / "out")


def test_an_output_that_cannot_be_written_is_named_and_left_clean(scanner, tmp_path):
    resource = pytest.importorskip("resource")  # no file may grow above a limit: errno EFBIG
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        row = scanner(SHARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert row["stops"].startswith("the output cannot be written: ")
    assert not left_in(tmp_path / "out")


def test_a_gpu_sees_several_photos_at_once_and_answers_as_for_each_alone(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(8):
        width = NATIVE_PX + 100 if number == 7 else 4 + number % 2
        (tmp_path / "in" / f"{number}.png").write_bytes(png(30 * number, width))
    gpu = Colourful()
    found = segment_files([tmp_path / "in"], tmp_path / "out", segmenter=gpu).records
    assert gpu.calls[0] == 7 * 4  # a small photo has four views
    alone = [Colourful().segment(record["path"]).score for record in found]
    assert [record["score"] for record in found] == pytest.approx(alone, abs=1e-6)


# --- The command -------------------------------------------------------------------------------


def test_calls_that_cannot_work_are_refused(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def refused(*arguments, output="out"):
        assert command.main([*map(str, arguments), "--output", str(output)]) == 2
        return capsys.readouterr().err.removeprefix("scan.py: ")

    Path("empty").mkdir()
    Path("notes.txt").write_text("x")
    assert refused("nowhere").startswith("nowhere does not exist")
    for nothing in ("empty", "notes.txt"):
        assert refused(nothing).startswith(f"{nothing} has no .tar or .parquet file to scan")
    assert refused("nonsense://x").startswith("nonsense://x cannot be opened: ")
    assert refused(source, "--weights", "empty").startswith("No config.json in empty")
    assert "is both source and output" in refused(source, output=source)
    Path("begun").mkdir()
    Path("begun/scan.json").write_text("{}")  # left by a call that wrote no row
    monkeypatch.setattr(pipeline, "run", Mock(side_effect=OutputError("no Ray")))
    assert command.main([str(source), "--output", "begun"]) == 1
    assert "no Ray. Finished results are kept" in capsys.readouterr().err
    Path("out/rows").mkdir(parents=True)
    for written in ("[", "{}"):
        assert "out has the rows of another run" in refused(source)
        Path("out/scan.json").write_text(written)
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None)
    assert "pip install -r requirements-scale.txt" in refused(source)


@pytest.fixture
def handed_out(monkeypatch, score_of_the_head) -> list[list[str]]:
    """The names of the shards in each run. They are scanned in this process, without Ray."""
    calls = []

    def run(todo, *given):
        calls.append([*todo])
        rows = ({"shard": name, "stamp": stamp} for name, stamp in todo.items())
        return [*map(ShardScanner(*given), rows)]

    monkeypatch.setattr(pipeline, "load_segmenter", lambda *_: Colourful())
    monkeypatch.setattr(pipeline, "find_spec", lambda _: True)
    monkeypatch.setattr(pipeline, "run", run)
    return calls


def test_a_second_call_does_the_rest_and_reports_all(source, tmp_path, handed_out, capsys):
    (source / "bad.parquet").write_bytes(b"PAR1")
    given = [str(source), "--output", str(tmp_path / "out")]
    assert command.main(given) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("3 images, 1 marked, 2 failed; ")
    assert "failed: bad.parquet: cannot be read: " in printed
    write_tar(source / "01.tar", {"a.png": png(204)})
    assert command.main(given) == 1
    assert handed_out == [["00.tar", "bad.parquet"], ["01.tar", "bad.parquet"]]
    printed = capsys.readouterr().out
    assert printed.startswith("4 images (3 of them from earlier runs), 2 marked, 2 failed; ")
    assert "1 of 3 shards were done before" in printed
    assert "failed: 00.tar: c: is not an image that Pillow can read" in printed


def test_a_shard_that_changed_is_scanned_again(tmp_path, handed_out, capsys):
    for name in ("in/01", "in/02", "elsewhere"):
        write_tar(tmp_path / f"{name}.tar", {"a.png": png(51)})
    parquet.write_table(pa.table({"image": [png(51)]}), tmp_path / "in/03.parquet")
    (tmp_path / "in/00.tar").symlink_to("../elsewhere.tar")
    given = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--keep-below", "0.5"]
    assert command.main(given) == 0
    write_tar(tmp_path / "elsewhere.tar", {"a.png": png(102)})  # of the same size
    (tmp_path / "in/01.tar").write_bytes(b"")
    (tmp_path / "in/03.parquet").write_bytes(b"PAR1 no table")
    assert command.main(given) == 1
    assert handed_out[1] == ["00.tar", "01.tar", "03.parquet"]
    assert not [*tmp_path.glob("out/*/03*")]  # a shard that is now unreadable has no rows
    assert [row["score"] for row in rows(tmp_path / "out")] == [0.4]
    assert members(tmp_path / "out/kept/00.tar") == {"a.png": png(102)}
    assert "3 shards changed since their last scan: scanned again" in capsys.readouterr().out
    assert command.main(given) == 1 and handed_out[2:] == [["03.parquet"]]


def test_folders_of_two_schemes_are_two_folders(source, tmp_path):
    urls = f"memory://{source}", str(source)
    manifests = [ScanOptions().manifest(pipeline.address_of(open_folder(url))) for url in urls]
    output = open_folder(str(tmp_path / "out"))
    pipeline.begin(output, manifests[0])
    pipeline.begin(output, manifests[0])
    output.makedirs("rows")
    with pytest.raises(UsageError, match="with other photos, weights or options"):
        pipeline.begin(output, manifests[1])


# --- With Ray ----------------------------------------------------------------------------------

NEEDS_RAY = pytest.mark.skipif(
    not find_spec("ray"), reason="Ray is not installed: pip install -r requirements-scale.txt"
)
SHARDS, PHOTOS = 12, 16
BACKEND = "openvino" if find_spec("openvino") else "torch"  # which takes longer to import


@pytest.fixture(scope="module")
def cluster():
    """Address of a Ray that the tests share."""
    import ray

    for last in (False, False, True):  # it gives up after 30 s, too soon for a busy machine
        try:
            ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
            break
        except Exception:
            if last:
                raise
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


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
def undisturbed(many, tiny_weights, tmp_path_factory) -> dict[str, list[dict]]:
    """Name to rows, made in this process."""
    output = tmp_path_factory.mktemp("undisturbed")
    segmenter = load_segmenter(tiny_weights, "cpu", BACKEND)
    folder, shards = find_shards(str(many))
    options = ScanOptions(min_score=0, keep_below=0.9)
    for shard in shards.items():
        scan_shard(*shard, folder, open_folder(str(output)), segmenter, 1, options)
    return all_rows(output)


def all_rows(output) -> dict[str, list[dict]]:
    paths = sorted(Path(output, "rows").glob("*.parquet"))
    return {path.stem: parquet.read_table(path).to_pylist() for path in paths}


def arguments(many, output, tiny_weights) -> list[str]:
    given = [many, "--output", output, "--weights", tiny_weights, "--min-score", 0, "--actors", 2]
    given += ["--keep-below", 0.9, "--device", "cpu", "--backend", BACKEND]
    return [*map(str, given)]


def wait_for_rows(output, count: int) -> None:
    end_s = time.monotonic() + 600
    while len(list(Path(output, "rows").glob("*.parquet"))) < count:
        assert time.monotonic() < end_s, "no rows within ten minutes"
        time.sleep(0.005)


def kill_one_actor(output, killed: list) -> None:
    wait_for_rows(output, 2)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if b"ShardScanner" in path.read_bytes() and b"ray::" in path.read_bytes():
            os.kill(int(path.parent.name), signal.SIGKILL)
            killed.append(len(list(Path(output, "rows").glob("*.parquet"))))
            return


@NEEDS_RAY
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds actors in Linux's /proc")
def test_a_killed_worker_costs_nothing(many, tiny_weights, undisturbed, cluster, tmp_path, capsys):
    killed = []
    killer = threading.Thread(target=kill_one_actor, args=(tmp_path, killed))
    killer.start()
    assert command.main(arguments(many, tmp_path, tiny_weights)) == 1  # one photo is broken
    killer.join()
    assert killed and killed[0] < SHARDS, "it ended before a worker could be killed"
    assert all_rows(tmp_path) == undisturbed
    assert {len(found) for found in undisturbed.values()} == {PHOTOS}
    printed = capsys.readouterr().out
    assert f"{SHARDS * PHOTOS} images, " in printed and "failed: 03.tar: 003: " in printed
    assert not [*tmp_path.rglob("*.partial")]


@NEEDS_RAY
def test_a_killed_scan_goes_on(many, tiny_weights, undisturbed, cluster, tmp_path, capsys):
    given = [*arguments(many, ".", tiny_weights), "--address", cluster]
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "scan.py"), *given],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    wait_for_rows(tmp_path, 2)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").glob("*.parquet")}
    assert len(left) < SHARDS
    for _ in range(2):  # the second time all is done, but the broken photo is still named
        assert command.main(arguments(many, tmp_path, tiny_weights)) == 1
        assert all_rows(tmp_path) == undisturbed
        assert all(path.stat().st_mtime_ns == changed for path, changed in left.items())
        printed = capsys.readouterr().out
        assert "shards were done before" in printed and "failed: 03.tar: 003: " in printed
    assert f"{SHARDS} of {SHARDS} shards were done before" in printed
