"""What a batch writes: pictures, boxes, run lengths, the report, and whole files only."""

import csv
import errno
import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from batch import report
from batch.report import OutputError, write_report, write_whole
from inference import pictures
from inference.pictures import boxes_of, coco_rle, encode
from inference.segmenter import Segmentation


@pytest.fixture
def output(tmp_path):
    (tmp_path / report.PARTIAL).mkdir()
    return tmp_path


def found(mask, probability=None):
    mask = np.asarray(mask, bool)
    probability = mask.astype(np.float32) if probability is None else probability
    return Segmentation(probability, mask, 0.5, float(mask.mean()))


def test_boxes_of_a_hand_made_mask():
    mask = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 0, 0]], bool)
    assert boxes_of(mask) == [[0, 0, 2, 3], [4, 1, 1, 1]]  # diagonal neighbours belong together
    assert boxes_of(np.zeros((3, 3), bool)) == []


def test_rle_is_cocos():
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(0).random((13, 7)) < 0.4
    rle = coco_rle(mask)
    assert rle["size"] == [13, 7] and isinstance(rle["counts"], str)
    assert np.array_equal(coco.decode(rle), mask)
    json.dumps(rle)


def test_pictures_of_one_result(output):
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:20] = True
    probability = np.full((20, 30), 0.25, np.float32)
    result, rgb = found(mask, probability), np.full((20, 30, 3), (30, 60, 90), np.uint8)
    assert np.array_equal(pictures.mask_picture(result, rgb), mask * np.uint8(255))
    soft = pictures.soft_mask_picture(result, rgb)
    assert soft[10, 15] > 240 and soft[10, 28] == 0 and 100 < soft[10, 10] < 160
    deep = pictures.probability_picture(result, rgb)
    assert deep.dtype == np.uint16 and np.all(deep == 16384)
    shown = pictures.overlay_picture(result, rgb)
    assert shown[0, 0].tolist() == [30, 60, 90] and shown[10, 15, 0] > 150


def test_overlays_of_large_images_are_reduced():
    rgb = np.zeros((50, 5000, 3), np.uint8)
    assert pictures.overlay_picture(found(np.ones((50, 5000))), rgb).shape == (20, 2048, 3)


def test_files_hold_what_was_drawn(output):
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    deep = np.array([[0, 65535, 300]], np.uint16)
    write_whole(encode(grey, ".png"), "a/b.png", output)
    write_whole(encode(deep, ".probability.png"), "c.png", output)
    assert np.array_equal(Image.open(output / "a/b.png"), grey)
    assert np.array_equal(cv2.imread(str(output / "c.png"), cv2.IMREAD_UNCHANGED), deep)
    red = np.full((16, 16, 3), (250, 0, 0), np.uint8)
    write_whole(encode(red, ".overlay.jpg"), "d.jpg", output)
    assert np.asarray(Image.open(output / "d.jpg"))[8, 8, 0] > 240


@pytest.mark.parametrize(
    "number, kind",
    [(errno.ENOSPC, OutputError), (errno.EACCES, PermissionError), (errno.EIO, OSError)],
)
def test_a_failed_write_leaves_nothing_behind(output, monkeypatch, number, kind):
    (output / "a.png").write_bytes(b"old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"a\.png cannot be written: ") as caught:
        write_whole(b"new", "a.png", output)
    assert isinstance(caught.value, OutputError) == (kind is OutputError)
    assert (output / "a.png").read_bytes() == b"old"
    assert not list((output / report.PARTIAL).iterdir())


def test_a_run_ends_where_its_report_cannot_be_written(output, monkeypatch):
    def fail(*_):
        raise PermissionError(errno.EACCES, "Permission denied")  # open in Excel

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match=r"report\.csv cannot be written: Permission denied"):
        write_report(RECORDS, output, "csv")


RECORDS = [
    dict(path="ä.jpg", mask="ä.png", width=3, height=2, score=0.5, coverage=0.25,
         boxes=[[0, 0, 1, 2]], error=None, seconds=0.1),
    dict(path="b\r\udcff.jpg", mask=None, width=None, height=None, score=None, coverage=None,
         boxes=[], error="not an image", seconds=0.0),
]  # fmt: skip


def test_jsonl_gives_the_records_back(output):
    path = write_report(RECORDS, output, "jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == RECORDS
    assert "ä.jpg" in lines[0]


def test_csv_has_a_row_for_each_record(output):
    path = write_report(RECORDS, output, "csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == list(report.COLUMNS)
    assert rows[0]["path"] == "ä.jpg" and json.loads(rows[0]["boxes"]) == [[0, 0, 1, 2]]
    assert len(rows) == 2 and rows[1]["path"] == "b\r\\udcff.jpg"
    assert rows[1]["error"] == "not an image" and rows[1]["score"] == ""


@pytest.mark.parametrize("records", [RECORDS, RECORDS[1:]])
def test_parquet_has_typed_columns(output, records):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(write_report(records, output, "parquet"))
    assert table.column_names == list(report.COLUMNS)
    assert str(table.schema.field("boxes").type).startswith("list<")
    assert table["boxes"].to_pylist() == [record["boxes"] for record in records]
    assert table["score"].to_pylist() == [record["score"] for record in records]
    with_rle = [{**record, "rle": {"size": [2, 3], "counts": "06"}} for record in records]
    table = parquet.read_table(write_report(with_rle, output, "parquet"))
    assert table["rle"].to_pylist() == [record["rle"] for record in with_rle]
