"""The outputs of a batch: pictures, boxes, run lengths, and only complete files."""

import errno
import json
import os

import cv2
import numpy as np
import pytest

from batch.files import OutputError, write_whole
from inference.pictures import boxes_of, coco_rle, encode, overlay_picture
from inference.segmenter import Segmentation


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


def test_overlays_redden_the_mask_alone_and_are_reduced():
    image, mask = np.full((50, 5000, 3), (30, 60, 90), np.uint8), np.ones((50, 5000), bool)
    mask[:, :2500] = False
    shown = overlay_picture(Segmentation(np.float32(mask), mask, 0.5, 0.5), image)
    assert shown.shape == (20, 2048, 3)
    assert shown[10, 500].tolist() == [30, 60, 90] and shown[10, 1500, 0] > 150
    written = cv2.imdecode(np.frombuffer(encode(shown, ".overlay.jpg"), np.uint8), 1)
    assert np.abs(written[..., ::-1].astype(int) - shown).mean() < 3


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
