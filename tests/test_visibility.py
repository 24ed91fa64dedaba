"""`visibility.py`: the mark is drawn as asked, and measured at every opacity and size."""

import json
import shutil
from random import Random

import numpy as np
import pytest
from conftest import paint_photo

import visibility
from evaluation.visibility import cell_table, lay_on, measure
from samples.own_mark import find_mark


@pytest.fixture
def mark(tmp_path, logo_folder):
    (tmp_path / "mark").mkdir()
    shutil.copy(logo_folder / "logo0.png", tmp_path / "mark")
    return find_mark(tmp_path / "mark")


@pytest.fixture
def text_mark(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a line of text")
    return find_mark(tmp_path / "text")


PHOTOS = [paint_photo(seed, 120, 200) for seed in range(2)]


def extent(mask) -> int:
    return max(np.ptp(axis) + 1 for axis in np.nonzero(mask))


@pytest.mark.parametrize("size", [0.2, 0.5, 1.0])
def test_size_is_the_longer_side_over_the_photos_shorter_one(mark, size):
    sample = lay_on(PHOTOS[0], mark, 1.0, size, Random(0))
    assert abs(extent(sample["coverage"] >= 128) - 120 * size) <= 2


def test_a_fainter_mark_lies_at_the_same_place_and_shows_less(mark):
    strong, faint = (lay_on(PHOTOS[0], mark, opacity, 0.5, Random(3)) for opacity in (0.8, 0.03))
    assert np.array_equal(strong["coverage"], faint["coverage"])
    assert 0 <= (faint["mask"] == 1).sum() < (strong["mask"] == 1).sum()


def test_marks_that_do_not_fit_are_explained(mark, text_mark):
    with pytest.raises(ValueError, match=r"The size is 1.2, the opacity 0.5; give sizes"):
        lay_on(PHOTOS[0], mark, 0.5, 1.2, Random(0))
    with pytest.raises(ValueError, match="would be 12 px long on a photo of 200 x 120 px: too sm"):
        lay_on(PHOTOS[0], text_mark, 0.5, 0.1, Random(0))


class Oracle:
    """A segmenter that marks every pixel."""

    def segment(self, image):
        return type("Found", (), {"mask": np.ones(image.shape[:2], bool)})


def test_measure_by_hand(mark):
    cells = measure(Oracle(), mark, PHOTOS, (0.9,), (0.3, 0.6), count=3)
    assert [(c.opacity, c.size, c.photos) for c in cells] == [(0.9, 0.3, 3), (0.9, 0.6, 3)]
    for cell in cells:
        assert cell.recall == 1 and cell.visible > 0.8
    assert cells[0].iou < cells[1].iou < 0.5  # the share of the photo that the mark covers


def test_invisible_marks_leave_an_empty_cell(mark):
    (cell,) = measure(Oracle(), mark, PHOTOS, (0.0,), (0.5,), count=2)
    assert cell.photos == 0 and np.isnan([cell.visible, cell.recall, cell.iou]).all()
    assert cell_table([cell]).splitlines()[-1] == "| 0.0 | 0.5 | - | - | - | 0 |"


def test_command_prints_the_table_first_and_writes_it_with_heat_map_and_examples(
    mark, photo_folder, weights, tmp_path, capsys
):
    call = [tmp_path / "mark", "--photos", photo_folder, "--weights", weights, "--sizes", 0.5]
    call = [*map(str, call), "--count", "1", "--opacities", "0.2", "0.8", "--output"]
    visibility.main([*call, str(tmp_path / "out")])
    printed, out = capsys.readouterr().out, tmp_path / "out"
    cells = json.loads((out / "cells.json").read_text())
    assert [cell["opacity"] for cell in cells] == [0.2, 0.8]
    assert (out / "table.md").read_text() in printed
    assert (out / "heat_map.png").exists() and (out / "examples.png").exists()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"visibility.py: .*file"):
        visibility.main([*call, str(tmp_path / "file")])
    assert "| 0.2 |" in capsys.readouterr().out  # printed all the same


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "No folder at nowhere"),
        (["{mark}", "--opacities", "1.5"], "the opacity 1.5; give sizes above 0"),
        (["{mark}", "--photos", ""], "No folder at ''"),
    ],
)
def test_command_explains_what_is_wrong(mark, tmp_path, arguments, message):
    arguments = [argument.format(mark=tmp_path / "mark") for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        visibility.main([*arguments, "--output", str(tmp_path / "o")])
    assert str(stop.value).startswith("visibility.py: ") and message in str(stop.value)
    assert not (tmp_path / "o").exists()
