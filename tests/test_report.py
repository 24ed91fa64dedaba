"""What a batch writes: pictures, boxes, run lengths, and whole files only."""

import errno
import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from batch.files import OutputError, write_whole
from inference import pictures
from inference.pictures import boxes_of, coco_rle, encode
from inference.segmenter import Segmentation


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


def test_pictures_of_one_result(tmp_path):
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
    rgb = np.zeros((50, 5000, 3), np.uint8)
    assert pictures.overlay_picture(found(np.ones((50, 5000))), rgb).shape == (20, 2048, 3)


def test_files_hold_what_was_drawn(tmp_path):
    deep = np.array([[0, 65535, 300]], np.uint16)
    write_whole(encode(deep, ".probability.png"), "a/c.png", tmp_path)
    assert np.array_equal(cv2.imread(str(tmp_path / "a/c.png"), cv2.IMREAD_UNCHANGED), deep)
    red = np.full((16, 16, 3), (250, 0, 0), np.uint8)
    write_whole(encode(red, ".overlay.jpg"), "d.jpg", tmp_path)
    assert np.asarray(Image.open(tmp_path / "d.jpg"))[8, 8, 0] > 240


@pytest.mark.parametrize(
    "number, kind",
    [(errno.ENOSPC, OutputError), (errno.EACCES, PermissionError), (errno.EIO, OSError)],
)
def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch, number, kind):
    (tmp_path / "a.png").write_bytes(b"old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"a\.png cannot be written: ") as caught:
        write_whole(b"new", "a.png", tmp_path)
    assert isinstance(caught.value, OutputError) == (kind is OutputError)
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
