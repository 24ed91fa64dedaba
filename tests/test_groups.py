"""`segment.py --together`: files of equal size are searched for a shared mark."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import paint_photo
from PIL import Image
from test_pooling import lay, mark, paint_scene  # noqa: F401

from batch.files import UsageError
from batch.run import Options, segment_files


@pytest.fixture(scope="module")
def originals(tmp_path_factory, mark):  # noqa: F811
    """Eight photos with a mark and two without, one of another size, and a damaged file."""
    folder = tmp_path_factory.mktemp("originals")
    for i in range(10):
        scene = paint_scene(i)
        image = lay(mark, scene)["image"] if i < 8 else scene
        Image.fromarray(image).save(folder / f"{i}.png")
    Image.fromarray(paint_photo(3, 60, 90)).save(folder / "other.png")
    data = (folder / "0.png").read_bytes()
    (folder / "damaged.png").write_bytes(data[: len(data) // 2])  # its header is sound
    return folder


@pytest.fixture
def folder(originals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(originals, "in")
    return Path("in")


def go(output, **options):
    return segment_files(["in"], output, Options(device="cpu", **options))


def read(output) -> dict[str, dict]:
    lines = (Path(output) / "report.jsonl").read_text().splitlines()
    return {Path(record["path"]).stem: record for record in map(json.loads, lines)}


def test_together_finds_the_shared_mark_and_leaves_the_rest_alone(folder):
    go("alone")
    summary = go("out", together=True)
    alone, records = read("alone"), read("out")
    assert all(records[str(i)]["shared"] > 0.75 for i in range(8))
    assert records["other"]["shared"] == 0 and records["damaged"]["error"]
    for name in ("8", "9", "other"):
        assert records[name]["shared"] < 0.75
        assert Path("out", f"{name}.png").read_bytes() == Path("alone", f"{name}.png").read_bytes()
        assert records[name]["score"] == alone[name]["score"]
    consensus = np.asarray(Image.open("out/consensus-192x144.png"))
    assert consensus.shape == (144, 192) and set(np.unique(consensus)) == {0, 255}
    assert not Path("out/consensus-90x60.png").exists()
    lines = str(summary).splitlines()
    assert lines[1].startswith("192 x 144: 10 images, 8 of them share a mark (confidence ")
    assert lines[2] == "segmented alone, because fewer than 3 images have their size: 1"
    assert "shared" not in alone["0"]


def test_a_finished_run_is_left_and_a_changed_group_is_done_again(folder):
    go("out", together=True)
    again = go("out", together=True)
    assert again.done_before == 11  # all except the damaged file
    assert Path("out/consensus-192x144.png").exists()
    for i in range(2, 8):
        (folder / f"{i}.png").unlink()
    changed = go("out", together=True)
    assert (
        changed.done_before == 1 and len(changed.records) == 6
    )  # the image of the other size is done
    assert "192 x 144: 4 images that share no mark as far as can be told" in str(changed)
    assert not Path("out/consensus-192x144.png").exists()


def test_an_image_named_like_a_consensus_is_refused(folder):
    shutil.copy(folder / "0.png", folder / "consensus-192x144.png")
    with pytest.raises(UsageError, match=r"is the name of two outputs: rename .*consensus-192x144"):
        go("out", together=True)


def test_turned_tiffs_have_the_size_that_they_are_read_with(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in folder.glob("*.png"):
        path.unlink()
    for i in range(3):
        Image.fromarray(paint_photo(i, 40, 60)).save(folder / f"t{i}.tif", exif=exif)
    assert "40 x 60: 3 images" in str(go("out", together=True))
    for i in range(3):
        record = read("out")[f"t{i}"]
        assert (record["width"], record["height"], record["error"]) == (40, 60, None)
