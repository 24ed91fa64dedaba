"""Shards to rows, without Ray: every format, and what is broken."""

import io
import os
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from shards import Colourful, go, png, rows, three, write_tar

from batch.files import OutputError
from batch.formats import SourceError, split_key
from batch.inputs import UsageError
from batch.scanner import predict_by_size, report_in, rows_name, within_pixels
from batch.shards import FOLDER_IMAGES, list_shards
from batch.stores import Store
from inference.segmenter import NATIVE_PX, predict_any_size


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
        found = predict_by_size(predict, photos)
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


def test_large_photos_of_a_window_are_decoded_a_few_at_a_time():
    bad, half, huge = ValueError("damaged"), *(Image.new("1", (n, 1000)) for n in (32_000, 65_000))
    one = Image.new("1", (1, 1))
    runs = [*within_pixels([bad, half, half, one, huge, bad, one])]
    assert [images for images, _ in runs] == [[bad, half, half], [one], [huge], [bad, one]]
    assert [pixels for _, pixels in runs] == [64_000_000, 1, 65_000_000, 1]
    assert [*within_pixels([bad])] == [([bad], 0)]


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
