"""Shards to rows, without Ray: every format, and what is broken."""

import io
import os
import pickle
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from shards import Colourful, go, png, rows, three, write_tar

from batch import formats, segment_files
from batch.files import OutputError, UsageError
from batch.formats import SourceError, split_key
from batch.look import BYTES_AT_ONCE, predict_by_size, within_pixels
from batch.scan import ScanOptions
from batch.scanner import ShardScanner, Weights, _hash, report_in, rows_name
from batch.shards import FOLDER_IMAGES, list_shards
from batch.stores import Store
from inference.segmenter import NATIVE_PX, predict_any_size

pytestmark = pytest.mark.usefixtures("score_of_the_head")


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


def test_a_photo_that_is_a_link_costs_its_own_row(tmp_path):
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/00.tar", "w") as archive:
        for name, kind in (("a", None), ("b", tarfile.LNKTYPE), ("c", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(f"{name}.png")
            if kind:
                info.type, info.linkname = kind, "a.png"
            else:
                info.size = len(png(51))
            archive.addfile(info, io.BytesIO(png(51)))
    [report] = go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    assert (report.images, report.failed) == (3, 2)
    a, *links = rows(tmp_path / "out")
    assert (a["key"], a["score"], a["error"]) == ("a", 0.2, None)
    for row, key in zip(links, "bc", strict=True):
        assert row["key"] == key and row["error"].startswith("is a link inside the archive: pack")
    with tarfile.open(tmp_path / "out/kept/00.tar") as archive:
        assert archive.getnames() == ["a.png"]


def add(archive, name, data=b"", **more):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in more.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


def members(path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


def test_an_odd_second_file_of_a_sample_costs_its_own_row(tmp_path):
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/00.tar", "w") as archive:
        add(archive, "a.png", png(51))
        add(archive, "a.jpg", type=tarfile.LNKTYPE, linkname="a.png")
        add(archive, "b.png", png(51))
        add(archive, "b.txt", type=tarfile.SYMTYPE, linkname="a.txt")
        add(archive, "c.png", png(51))
    go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    found = {row["key"]: row for row in rows(tmp_path / "out")}
    assert [*found] == ["a.png", "a.jpg", "b", "c"]
    assert found["a.png"]["score"] == 0.2 and found["a.png"]["error"] is None
    assert found["a.jpg"]["error"].startswith("is a link inside the archive: pack the file")
    assert found["b"]["score"] == 0.2 and found["b"]["error"].startswith(".txt is a link inside")
    assert members(tmp_path / "out/kept/00.tar") == {"c.png": png(51)}


def test_every_image_that_is_kept_was_looked_at(tmp_path):
    files = {"c.jpg": png(51), "c.png": png(204), "d.seg.png": png(51), "d.png": png(51)}
    write_tar(tmp_path / "in/00.tar", files)
    go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    scores = {row["key"]: row["score"] for row in rows(tmp_path / "out")}
    assert scores == {"c.jpg": 0.2, "c.png": 0.8, "d.seg.png": 0.2, "d.png": 0.2}
    assert set(members(tmp_path / "out/kept/00.tar")) == {"d.seg.png", "d.png"}


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "SAMPLE_BYTES", 1000)
    large = png(51) + bytes(1000)
    write_tar(tmp_path / "in/00.tar", {"a.png": large, "b.png": png(51)})
    (tmp_path / "in/sub").mkdir()
    (tmp_path / "in/sub/c.png").write_bytes(large)
    go(tmp_path / "in", tmp_path / "out")
    a, b = rows(tmp_path / "out")
    [c] = rows(tmp_path / "out", "sub-00000")
    assert a["error"].startswith("is beyond the ") and c["error"] == a["error"]
    assert b["score"] == 0.2 and 2 * BYTES_AT_ONCE < 300_000_000


@pytest.mark.skipif(not shutil.which("tar"), reason="which writes sparse files")
@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_kept_archives_read_back(tmp_path, kind):
    (tmp_path / "in").mkdir()
    data = png(51) + bytes(300_000)  # whose end is a hole
    with open(tmp_path / "a.png", "wb") as file:
        file.write(png(51))
        file.truncate(len(data))
    (tmp_path / "b.png").write_bytes(png(51))
    pack = ["tar", "--sparse", f"--format={kind}", "-cf", "in/00.tar", "a.png", "b.png"]
    subprocess.run(pack, cwd=tmp_path, check=True)
    go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    assert members(tmp_path / "out/kept/00.tar") == {"a.png": data, "b.png": png(51)}


def test_names_that_begin_with_underscores_have_rows(tmp_path):
    write_tar(tmp_path / "in/00.tar", {"__a.png": png(51), "__b__/c.png": png(51), "._d.png": b""})
    go(tmp_path / "in", tmp_path / "out")
    assert [row["key"] for row in rows(tmp_path / "out")] == ["__a", "__b__/c"]


@pytest.mark.parametrize(
    "error, said",
    [
        (pa.ArrowNotImplementedError("nested columns"), "cannot be read: nested columns"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_whatever_is_wrong_with_a_shard_costs_that_shard(tmp_path, monkeypatch, error, said):
    source, output = three(tmp_path), tmp_path / "out"
    monkeypatch.setattr("batch.scanner.load_segmenter", lambda *_: Colourful())
    monkeypatch.setattr(Weights, "unpacked", lambda self: "")
    scanner = ShardScanner(str(source), str(output), ScanOptions(), Weights("", {}, ""), 1)

    def refuse(*_, **__):
        raise error

    [shard] = list_shards(Store(str(source)))
    monkeypatch.setattr("batch.formats.TarShard.samples", refuse)
    report = pickle.loads(scanner({"shard": pickle.dumps(shard)})["report"])
    assert report.problem == said and report.failed == 1
    assert not [path for path in output.rglob("*") if path.is_file()]


def test_weights_of_another_machine_go_where_nobody_else_may_write(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = Weights("/nowhere", {"config.json": b"{}"}, _hash({"config.json": b"{}"}))
    folder = Path(weights.unpacked())
    assert folder.is_relative_to(tmp_path / "cache") and folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "config.json").read_bytes() == b"{}"


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_no_utf8_is_told(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
        file.write(png(51))
    with pytest.raises(UsageError, match=r"is no UTF-8: .*caf\\xe9.*Rename that file, or give"):
        list_shards(Store(str(tmp_path)))


def test_shards_of_one_name_are_told_apart(tmp_path):
    for folder in ("photos", "photos/photos"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(png(51))
    with pytest.raises(UsageError, match=r"/photos and photos would both .* Rename one of photos"):
        list_shards(Store(str(tmp_path / "photos")))


def test_a_broken_parquet_file_leaves_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "00.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(SourceError, match="is no Parquet file"):
        go(tmp_path / "in", tmp_path / "out")
    table = pa.table({"image": [os.urandom(5000) for _ in range(99)]})
    parquet.write_table(table, tmp_path / "in" / "00.parquet", compression="gzip")
    whole = (tmp_path / "in" / "00.parquet").read_bytes()
    (tmp_path / "in" / "00.parquet").write_bytes(whole[:9000] + bytes(99999) + whole[108999:])
    with pytest.raises(SourceError, match="cannot be read"):
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
    shapes = [(2, 4), (3, 3), (2, 4), (1, NATIVE_PX + 100), (3, 3), (1, 1200)]
    photos = [np.zeros((*shape, 3), np.uint8) for shape in shapes]
    for i, photo in enumerate(photos):
        photo[..., 0] = 40 * i
        photo[:, 0, 0] += 4  # left is not right
    segmenter = Colourful()
    with segmenter.predicting() as predict:
        found = predict_by_size(predict, False, photos)
    small, enlarged = [(2, 4)] * 2 + [(3, 3)] * 2, [(4, 8)] * 6 + [(6, 6)] * 6
    reduced = [(1, 600), (1, 720)]
    assert segmenter.seen[:20] == reduced + [(1, 1200)] * 2 + small + enlarged
    for i in range(6):  # as each of them alone
        alone, score = predict_any_size(predict, photos[i])
        assert np.array_equal(found[i][0], alone) and found[i][1] == score
    assert [probability.shape for probability, _ in found] == shapes
    assert [score for _, score in found] == pytest.approx(
        [40 * i / 255 for i in range(6)], abs=0.01
    )


def test_a_gpu_sees_several_photos_of_a_folder_at_once(tmp_path):
    calls = []

    class Gpu(Colourful):
        def fingerprint(self):
            return "gpu"

        @contextmanager
        def predicting(self, threads=None):
            with super().predicting() as predict:
                yield lambda views: calls.append(len(views)) or predict(views)

    (tmp_path / "in").mkdir()
    for number in range(8):
        (tmp_path / "in" / f"{number}.png").write_bytes(png(51))
    segment_files([tmp_path / "in"], tmp_path / "out", segmenter=Gpu())
    assert calls == [8 * 4]  # a small photo has four views


def test_large_photos_of_a_window_are_decoded_a_few_at_a_time():
    bad, half, huge = ValueError("damaged"), *(Image.new("1", (n, 1000)) for n in (8_000, 17_000))
    one = Image.new("1", (1, 1))
    runs = [*within_pixels([bad, half, half, one, huge, bad, one])]
    assert [images for images, _ in runs] == [[bad, half, half], [one], [huge], [bad, one]]
    assert [pixels for _, pixels in runs] == [16_000_000, 1, 17_000_000, 1]
    assert [*within_pixels([bad])] == [([bad], 0)]


def test_urls_of_fsspec_are_read_and_written(tmp_path):
    memory = Store("memory://bucket/in")
    with memory.writing("00.tar") as stream:
        stream.write((three(tmp_path) / "00.tar").read_bytes())
    go("memory://bucket/in", "memory://bucket/out", keep_below=0.5)
    go(tmp_path / "in", tmp_path / "out", keep_below=0.5)
    output = Store("memory://bucket/out")
    with output.file("rows/00.parquet") as file:
        assert parquet.read_table(file).to_pylist() == rows(tmp_path / "out")
    with output.stream("kept/00.tar") as stream:
        assert stream.read() == (tmp_path / "out/kept/00.tar").read_bytes()
    assert sorted(output.files()) == ["kept/00.tar", "rows/00.parquet"]  # nothing temporary
    go(f"file://{tmp_path}/in", f"local://{tmp_path}/local")
    assert rows(tmp_path / "local") == rows(tmp_path / "out")
