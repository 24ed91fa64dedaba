"""Pictures for people: the right colours, and one size for a row."""

import matplotlib.pyplot as plt
import numpy as np

from evaluation.figures import (
    COLUMNS,
    contact_sheet,
    four_columns,
    picture_grid,
    reliability_plot,
    truth_picture,
)
from inference.pictures import overlay
from samples import IGNORE


def test_overlay_reddens_the_mask_and_nothing_else():
    image = np.full((2, 2, 3), 90, np.uint8)
    result = overlay(image, np.array([[True, False], [False, False]]))
    assert result[0, 0].tolist() == [200, 30, 30]
    assert (result[1] == 90).all() and (image == 90).all()


def test_undecidable_pixels_are_grey():
    assert truth_picture(np.uint8([[0, 1, IGNORE]])).tolist() == [[0, 255, 96]]


def test_grid_has_titles_and_row_names(tiny_model):
    image, truth = np.full((40, 64, 3), 99, np.uint8), np.zeros((40, 64), np.uint8)
    row = four_columns(image, truth, tiny_model.segment(image))
    figure = picture_grid([row, row], COLUMNS, ["one", "two"])
    axes = np.reshape(figure.axes, (2, 4))
    assert [axis.get_title() for axis in axes[0]] == list(COLUMNS)
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["one", "two"]
    assert axes[0, 2].images[0].get_clim() == (0, 1)  # probability
    plt.close(figure)


def test_contact_sheet_has_a_caption_for_each_picture_and_no_empty_frames():
    pictures = [np.full((20 + i, 30, 3), i, np.uint8) for i in range(7)] + [
        np.zeros((9, 9), np.uint8)
    ]
    figure = contact_sheet(pictures, [f"no. {i}" for i in range(8)], columns=3)
    assert [axis.get_title() for axis in figure.axes] == [f"no. {i}" for i in range(8)] + [""]
    assert not any(axis.axison for axis in figure.axes)
    plt.close(figure)


def test_reliability_plot_accepts_empty_bins():
    figure = reliability_plot([0.1, np.nan], [0.2, np.nan], [1.0, 0.0])
    assert len(figure.axes) == 1
    plt.close(figure)
