"""Stamps of each kind of mark, their colours and effects."""

import numpy as np
import pytest
from conftest import assert_premultiplied, random_stamp, solid
from PIL import Image

from samples.files import find_images
from samples.marks import COLORS, EFFECTS, MARKS, MAX_LOGO_PX, check_logo, load_logo, paint


def save_logo(path, rgba) -> None:
    Image.fromarray(np.asarray(rgba, np.uint8)).save(path)


def test_logo_is_cropped_premultiplied_and_made_opaque(tmp_path):
    rgba = np.zeros((4, 5, 4))
    rgba[1, 2] = (200, 100, 50, 60)  # the greatest alpha in the file becomes 255
    rgba[2, 3] = (200, 100, 50, 30)
    save_logo(tmp_path / "faint.png", rgba)
    stamp = load_logo(tmp_path / "faint.png")
    assert stamp.shape == (2, 2, 4)
    assert stamp[0, 0].tolist() == [200, 100, 50, 255]
    assert np.abs(stamp[1, 1].astype(int) - (100, 50, 25, 128)).max() <= 1
    assert not stamp[0, 1].any() and not stamp[1, 0].any()


def test_colour_hidden_under_full_transparency_stays_hidden(tmp_path):
    rgba = np.full((40, 40, 4), (255, 0, 0, 0))  # invisible red
    rgba[10:30, 10:30] = (90, 90, 90, 255)
    rgba[20] = (255, 0, 0, 0)
    save_logo(tmp_path / "hidden.png", rgba)
    stamp = load_logo(tmp_path / "hidden.png")
    assert np.array_equal(stamp[..., 0], stamp[..., 1])


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA"])
def test_every_mode_with_transparency_is_a_logo_and_opaque_files_are_left_out(tmp_path, mode):
    logo = Image.new(mode, (8, 6), 0)
    logo.paste({"P": 1, "LA": (255, 255), "RGBA": (255, 255, 255, 255)}[mode], (2, 1, 6, 5))
    if mode == "P":
        logo.putpalette([0, 0, 0, 255, 255, 255])
    logo.save(tmp_path / "logo.png", **(dict(transparency=0) if mode == "P" else {}))
    Image.new("RGB" if mode == "P" else mode, (8, 8), "white").save(tmp_path / "box.png")
    with pytest.warns(UserWarning, match=r"box.png .*has no transparency.*remove it in an image"):
        (file,) = find_images(tmp_path, check_logo)
    assert np.array_equal(load_logo(file.path), solid(4, 4))
    save_logo(tmp_path / "logo.png", np.zeros((4, 4, 4)))
    with pytest.raises(FileNotFoundError, match="transparent all over"):
        find_images(tmp_path, check_logo)


@pytest.mark.parametrize("long_px", [4, 7.5, 200])
@pytest.mark.parametrize("stretch", [0.6, 1.0])
def test_logo_stamp_has_the_size_asked_for(make_mark, logos, long_px, stretch):
    full = load_logo(logos[5].path)
    stamp = MARKS["logo"](make_mark(logo=logos[5].path, stretch=stretch), long_px)
    assert abs(max(stamp.shape[:2]) - long_px) <= 0.5
    ratio = stretch * full.shape[1] / full.shape[0]  # width / height
    shorter = long_px * min(ratio, 1 / ratio)
    assert abs(min(stamp.shape[:2]) - shorter) <= 1


@pytest.mark.parametrize("long_px", [5, 9, 17, 40, 61, 150])
def test_resized_stamps_have_no_overshoot(tmp_path, make_mark, long_px):
    rgba = np.full((60, 60, 4), 255)
    rgba[..., :3] = np.where(np.indices((60, 60)).sum(0) // 6 % 2, 80, 200)[..., None]
    rgba[0, 0] = 0
    save_logo(tmp_path / "stripes.png", rgba)
    stamp = MARKS["logo"](make_mark(logo=tmp_path / "stripes.png"), long_px)
    assert_premultiplied(stamp)
    assert stamp[..., :3].max() <= 200
    assert stamp[stamp[..., 3] == 255][:, :3].min() >= 80


def text_stamp(make_mark, font, text, long_px):
    return MARKS["text"](make_mark(kind="text", font=font.path, text=text), long_px)


@pytest.mark.parametrize("long_px", [60, 150, 300])
def test_text_stamp_is_white_and_has_about_the_size_asked_for(make_mark, fonts, long_px):
    stamp = text_stamp(make_mark, fonts[0], "Sample", long_px)
    assert all(np.array_equal(stamp[..., channel], stamp[..., 3]) for channel in range(3))
    columns = np.flatnonzero((stamp[..., 3] > 127).any(axis=0))
    assert columns[-1] - columns[0] + 1 == pytest.approx(long_px, rel=0.08)
    assert not text_stamp(make_mark, fonts[0], " ", long_px).any()


@pytest.mark.parametrize("kind", ["text", "lockup", "signature", "ai_label", "squares"])
def test_marks_that_would_be_unreadable_are_drawn_larger(make_mark, logos, fonts, kind):
    mark = make_mark(kind=kind, font=fonts[0].path, text="H" * 12, logo=logos[0].path, seed=1)
    tiny, tinier = (MARKS[kind](mark, long_px) for long_px in (9, 4))
    assert np.array_equal(tiny, tinier) and tiny.shape[1] > 8


def test_ai_labels_and_signatures_follow_text_and_seed(make_mark, fonts):
    written = MARKS["ai_label"](make_mark(kind="ai_label", font=fonts[0].path, text="AI"), 60)
    assert np.array_equal(written, text_stamp(make_mark, fonts[0], "AI", 60))
    for kind, different in (("ai_label", 3), ("signature", 4)):  # 1, 2 or 3 sparkles
        drawn = [MARKS[kind](make_mark(kind=kind, seed=seed), 90) for seed in (0, 1, 2, 3, 0)]
        assert len({stamp.tobytes() for stamp in drawn}) == different
        assert np.array_equal(drawn[0], drawn[4])
        assert_premultiplied(drawn[0])


@pytest.mark.parametrize("long_px", [60, 100, 300])
@pytest.mark.parametrize("line", ["HHH", "HHHHHHHHHHHHHHHH"])
def test_no_line_of_a_text_is_cut_off(make_mark, fonts, line, long_px):
    stamp = text_stamp(make_mark, fonts[0], "\n".join([line] * 3), long_px)
    ink = stamp[..., 3].sum(axis=1, dtype=float)  # one value for each row of pixels
    inked = np.concatenate([[0], ink > 0.25 * ink.max(), [0]])
    starts, ends = np.flatnonzero(np.diff(inked) == 1), np.flatnonzero(np.diff(inked) == -1)
    assert len(starts) == 3
    sums = [ink[start:end].sum() for start, end in zip(starts, ends)]
    assert min(sums) > 0.8 * max(sums)


@pytest.mark.parametrize("color", COLORS)
def test_paint_premultiplies_the_colour(make_mark, color):
    stamp = np.full((3, 5, 4), (40, 80, 100, 100), np.uint8)
    painted = paint(stamp, make_mark(color=color, tint=(10, 200, 30)))
    known = dict(original=(40, 80, 100), white=(100,) * 3, black=(0,) * 3, tint=(4, 78, 12))
    assert_premultiplied(painted)
    assert np.abs(painted.astype(int) - (*known.get(color, painted[0, 0, :3]), 100)).max() <= 1
    assert (stamp == (40, 80, 100, 100)).all()


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (40, 33)])
def test_effects_stay_premultiplied_and_leave_the_stamp_alone(effect, shape):
    stamp = random_stamp(2, *shape)
    before = stamp.copy()
    result = EFFECTS[effect](stamp)
    assert_premultiplied(result)
    assert np.array_equal(stamp, before)
    assert np.array_equal(result, before) == (effect == "none") or shape == (1, 1)


@pytest.mark.parametrize("rgb, opposite", [((255, 255, 255), 0), ((0, 0, 255), 255)])
def test_outline_and_plate_have_the_opposite_brightness(rgb, opposite):
    for effect, width, alpha in (("outline", 1, 255), ("plate", 2, 150)):
        result = EFFECTS[effect](solid(10, 20, rgb))
        assert result.shape == (10 + 2 * width, 20 + 2 * width, 4)
        assert (result[width:-width, width:-width] == (*rgb, 255)).all()
        ground = [min(opposite, alpha)] * 3  # premultiplied
        for row, column in ((0, 10), (-1, 10), (5, 0), (5, -1)):
            assert result[row, column].tolist() == [*ground, alpha]  # above half: in the mask


def test_large_logos_are_reduced(tmp_path):
    rgba = np.zeros((3 * MAX_LOGO_PX, 700, 4))
    rgba[:, :600] = 255
    save_logo(tmp_path / "large.png", rgba)
    stamp = load_logo(tmp_path / "large.png")
    assert MAX_LOGO_PX / 2 <= max(stamp.shape) <= MAX_LOGO_PX
    assert stamp.shape[0] / stamp.shape[1] == pytest.approx(3 * MAX_LOGO_PX / 600, rel=0.02)
