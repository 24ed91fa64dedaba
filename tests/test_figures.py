"""Pictures for people: the right colours, titles and captions."""

import numpy as np

from evaluation.figures import COLUMNS, contact_sheet, four_columns, picture_grid
from inference.pictures import overlay
from samples import IGNORE


def test_overlay_reddens_the_mask_and_nothing_else():
    image = np.full((2, 2, 3), 90, np.uint8)
    result = overlay(image, np.array([[True, False], [False, False]]))
    assert result[0, 0].tolist() == [200, 30, 30]
    assert (result[1] == 90).all() and (image == 90).all()


def test_grid_has_titles_and_row_names_and_greys_what_is_undecidable(tiny_model):
    image, truth = np.full((40, 64, 3), 99, np.uint8), np.zeros((40, 64), np.uint8)
    truth[:2, 0] = 1, IGNORE
    row = four_columns(image, truth, tiny_model.segment(image))
    axes = np.reshape(picture_grid([row, row], COLUMNS, ["one", "two"]).axes, (2, 4))
    assert [axis.get_title() for axis in axes[0]] == list(COLUMNS)
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["one", "two"]
    assert row[1][:3, 0].tolist() == [255, 96, 0]
    assert axes[0, 2].images[0].get_clim() == (0, 1)  # probability


def test_contact_sheet_has_a_caption_for_each_picture():
    pictures = [np.full((20 + i, 30, 3), i, np.uint8) for i in range(8)]
    figure = contact_sheet(pictures, [f"no. {i}" for i in range(8)], columns=3)
    assert [axis.get_title() for axis in figure.axes] == [f"no. {i}" for i in range(8)] + [""]
