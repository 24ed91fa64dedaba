"""Logos and texts as stamps, their colours and their effects."""

import dataclasses
import shutil

import numpy as np
import pytest
from conftest import assert_premultiplied, random_stamp, solid
from PIL import Image

from samples import marks
from samples.files import find_images
from samples.marks import (
    COLORS,
    EFFECTS,
    MARKS,
    MAX_LOGO_PX,
    check_logo,
    draw_sparkles,
    load_logo,
    paint,
    tinted,
)


def save_logo(path, rgba) -> None:
    Image.fromarray(np.asarray(rgba, np.uint8)).save(path)


# --- Logos --------------------------------------------------------------------------------------


def test_logo_is_cropped_premultiplied_and_made_opaque(tmp_path):
    rgba = np.zeros((4, 5, 4))
    rgba[1, 2] = (200, 100, 50, 60)  # the strongest alpha in the file: becomes 255
    rgba[2, 3] = (200, 100, 50, 30)
    save_logo(tmp_path / "faint.png", rgba)
    stamp = load_logo(tmp_path / "faint.png")
    assert stamp.shape == (2, 2, 4)
    assert stamp[0, 0].tolist() == [200, 100, 50, 255]
    assert np.abs(stamp[1, 1].astype(int) - (100, 50, 25, 128)).max() <= 1
    assert not stamp[0, 1].any() and not stamp[1, 0].any()


def test_colour_hidden_under_full_transparency_stays_hidden(tmp_path):
    rgba = np.full((40, 40, 4), (255, 0, 0, 0))  # red that nobody sees
    rgba[10:30, 10:30] = (90, 90, 90, 255)
    rgba[20] = (255, 0, 0, 0)
    save_logo(tmp_path / "hidden.png", rgba)
    stamp = load_logo(tmp_path / "hidden.png")
    assert np.array_equal(stamp[..., 0], stamp[..., 1])


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA"])
def test_every_mode_with_transparency_is_a_logo(tmp_path, mode):
    logo = Image.new(mode, (8, 6), 0)
    logo.paste({"P": 1, "LA": (255, 255), "RGBA": (255, 255, 255, 255)}[mode], (2, 1, 6, 5))
    options = {}
    if mode == "P":
        logo.putpalette([0, 0, 0, 255, 255, 255])
        options = dict(transparency=0)
    logo.save(tmp_path / "logo.png", **options)
    (file,) = find_images(tmp_path, check_logo)
    assert np.array_equal(load_logo(file.path), solid(4, 4))


def test_large_logos_are_kept_small(tmp_path):
    rgba = np.zeros((3 * MAX_LOGO_PX, 700, 4))
    rgba[:, :600] = 255
    save_logo(tmp_path / "large.png", rgba)
    stamp = load_logo(tmp_path / "large.png")
    assert MAX_LOGO_PX / 2 <= max(stamp.shape) <= MAX_LOGO_PX
    assert stamp.shape[0] / stamp.shape[1] == pytest.approx(3 * MAX_LOGO_PX / 600, rel=0.02)


def test_logos_in_memory_are_limited_by_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "KEPT_BYTES", 5000)
    rgba = np.full((20, 20, 4), 255)  # 1,600 bytes each
    rgba[3, 3, 3] = 0
    for number in range(6):
        save_logo(tmp_path / f"{number}.png", rgba)
        load_logo(tmp_path / f"{number}.png")
    read = []
    monkeypatch.setattr(marks, "open_photo", lambda path: read.append(path) or Image.open(path))
    for number in (5, 4, 3, 0):
        load_logo(tmp_path / f"{number}.png")
    assert [path.stem for path in read] == ["0"]


@pytest.mark.parametrize(
    "mode, name", [("RGB", "photo.jpg"), ("RGB", "box.png"), ("RGBA", "a.png")]
)
def test_opaque_logos_are_left_out_with_the_remedy(tmp_path, logo_folder, mode, name):
    shutil.copy(logo_folder / "logo0.png", tmp_path)
    Image.new(mode, (8, 8), "white").save(tmp_path / name)
    with pytest.warns(UserWarning, match=f"{name} .*has no transparency.*remove it in an image ed"):
        assert [file.path.name for file in find_images(tmp_path, check_logo)] == ["logo0.png"]


def test_empty_logos_are_refused(tmp_path):
    save_logo(tmp_path / "empty.png", np.zeros((4, 4, 4)))
    with pytest.raises(FileNotFoundError, match="transparent all over"):
        find_images(tmp_path, check_logo)


# --- Stamps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("long_px", [4, 7.5, 31, 64, 200])
@pytest.mark.parametrize("stretch", [0.6, 1.0, 1.6])
def test_logo_stamp_has_the_size_asked_for(make_mark, logos, long_px, stretch):
    full = load_logo(logos[5].path)
    stamp = MARKS["logo"](make_mark(logo=logos[5].path, stretch=stretch), long_px)
    assert abs(max(stamp.shape[:2]) - long_px) <= 0.5
    ratio = stretch * full.shape[1] / full.shape[0]  # of width to height
    shorter = long_px * min(ratio, 1 / ratio)
    assert abs(min(stamp.shape[:2]) - shorter) <= 1


@pytest.mark.parametrize("long_px", [5, 9, 17, 40, 61, 150])
def test_resized_stamps_never_ring(tmp_path, make_mark, long_px):
    rgba = np.full((60, 60, 4), 255)
    rgba[..., :3] = np.where(np.indices((60, 60)).sum(0) // 6 % 2, 80, 200)[..., None]
    rgba[0, 0] = 0
    save_logo(tmp_path / "stripes.png", rgba)
    stamp = MARKS["logo"](make_mark(logo=tmp_path / "stripes.png"), long_px)
    assert_premultiplied(stamp)
    assert stamp[..., :3].max() <= 200
    assert stamp[stamp[..., 3] == 255][:, :3].min() >= 80


@pytest.mark.parametrize("long_px", [8, 30, 90])
def test_resized_random_stamps_stay_premultiplied(tmp_path, make_mark, long_px):
    rgba = np.random.default_rng(0).integers(0, 256, (50, 37, 4))
    rgba[0, 0, 3] = 0
    save_logo(tmp_path / "random.png", rgba)
    stamp = MARKS["logo"](make_mark(logo=tmp_path / "random.png", stretch=1.3), long_px)
    assert_premultiplied(stamp)


def text_stamp(make_mark, font, text, long_px):
    return MARKS["text"](make_mark(kind="text", font=font.path, text=text), long_px)


@pytest.mark.parametrize("text", ["Sample", "x", "first\nsecond\nthird line", " "])
def test_text_stamp_is_white(make_mark, fonts, text):
    stamp = text_stamp(make_mark, fonts[0], text, 100)
    assert all(np.array_equal(stamp[..., channel], stamp[..., 3]) for channel in range(3))
    assert (stamp[..., 3].max() > 200) == bool(text.strip())


@pytest.mark.parametrize("long_px", [60, 150, 300])
def test_text_stamp_has_about_the_size_asked_for(make_mark, fonts, long_px):
    ink = text_stamp(make_mark, fonts[0], "Sample", long_px)[..., 3] > 127
    columns = np.flatnonzero(ink.any(axis=0))
    assert columns[-1] - columns[0] + 1 == pytest.approx(long_px, rel=0.08)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("text", ["Leo", "Halden & Row Studio"])
def test_lockup_is_an_icon_beside_or_above_a_word_in_one_colour(
    make_mark, logos, fonts, stacked, text
):
    changes = dict(kind="lockup", logo=logos[0].path, font=fonts[0].path, text=text)
    mark = make_mark(**changes, stacked=stacked)
    stamp, again = (MARKS["lockup"](mark, 200) for _ in range(2))
    assert np.array_equal(stamp, again)
    assert max(stamp.shape) == pytest.approx(200, rel=0.1)
    assert all(np.array_equal(stamp[..., channel], stamp[..., 3]) for channel in range(3))
    ink = (stamp[..., 3] > 127).any(axis=1 if stacked else 0)
    gaps = np.flatnonzero(np.diff(np.flatnonzero(ink)) > 3)
    assert len(gaps) >= 1
    icon = (stamp[: gaps[0] + 1] if stacked else stamp[:, : gaps[0] + 1])[..., 3] > 127
    box = np.ix_(icon.any(axis=1), icon.any(axis=0))
    assert icon[box].mean() > 0.75  # a filled rectangle, and a line beyond its corners


def test_the_word_of_a_lockup_stays_readable(make_mark, logos, fonts):
    mark = make_mark(kind="lockup", font=fonts[0].path, text="Halden", logo=logos[0].path)
    assert np.array_equal(MARKS["lockup"](mark, 4), MARKS["lockup"](mark, 16))
    assert MARKS["lockup"](mark, 4).shape[1] > 40


def test_sparkle_by_hand():
    star = draw_sparkles(41, [(0.5, 0.5, 0.5)])
    assert (star.shape, star.dtype) == ((41, 41), np.uint8)
    assert np.abs(star.astype(int) - star.T).max() < 25  # four points alike
    assert np.abs(star.astype(int) - star[::-1]).max() < 25
    assert (star[20, 5:36] > 100).all() and star[20, 1] > 0  # from tip to tip
    assert not star[:10, :10].any() and star[20, 20] == 255
    assert 0.15 < star.mean() / 255 < 0.23  # slim: 0.22 were its sides quarters of a circle


def test_ai_labels_are_text_or_sparkles(make_mark, fonts):
    label = dict(kind="ai_label", font=fonts[0].path)
    written = MARKS["ai_label"](make_mark(**label, text="AI"), 60)
    assert np.array_equal(written, text_stamp(make_mark, fonts[0], "AI", 60))
    stars = [MARKS["ai_label"](make_mark(**label, seed=seed), 40) for seed in range(4)]
    assert all(star.shape == (40, 40, 4) for star in stars)
    assert len({star.tobytes() for star in stars}) == 3  # one, two or three sparkles
    assert MARKS["ai_label"](make_mark(**label), 1).shape == (10, 10, 4)


def test_signatures_differ_by_seed_and_are_never_tiny(make_mark):
    marks = [make_mark(kind="signature", seed=seed) for seed in (1, 1, 2)]
    once, again, other = (MARKS["signature"](mark, 90) for mark in marks)
    assert np.array_equal(once, again) and not np.array_equal(once, other)
    assert_premultiplied(once)
    assert np.array_equal(MARKS["signature"](marks[0], 4), MARKS["signature"](marks[0], 40))


def test_text_stays_readable_however_small(make_mark, fonts):
    tiny, tinier = (text_stamp(make_mark, fonts[0], "H" * 12, long_px) for long_px in (16, 4))
    assert np.array_equal(tiny, tinier)
    assert np.count_nonzero((tiny[..., 3] > 127).any(axis=1)) >= 6  # height of the letters, px


@pytest.mark.parametrize("long_px", [60, 100, 300])
@pytest.mark.parametrize("line", ["HHH", "HHHHHHHHHHHHHHHH"])
def test_no_line_of_a_text_is_cut_off(make_mark, fonts, line, long_px):
    stamp = text_stamp(make_mark, fonts[0], "\n".join([line] * 3), long_px)
    ink = stamp[..., 3].sum(axis=1, dtype=float)  # of each row
    inked = np.concatenate([[0], ink > 0.25 * ink.max(), [0]])
    starts, ends = np.flatnonzero(np.diff(inked) == 1), np.flatnonzero(np.diff(inked) == -1)
    assert len(starts) == 3
    sums = [ink[start:end].sum() for start, end in zip(starts, ends)]
    assert min(sums) > 0.8 * max(sums)


def test_more_lines_make_a_text_taller(make_mark, fonts):
    texts = "watermark", "watermark\nwatermark"
    one, two = (text_stamp(make_mark, fonts[0], text, 100) for text in texts)
    assert two.shape[0] > 1.7 * one.shape[0]


@pytest.mark.parametrize("stretch", [1, 2, 4])
def test_thin_lines_of_a_logo_survive_its_stretching(make_mark, tmp_path, stretch):
    rgba = np.zeros((512, 512, 4))
    rgba[::25] = rgba[-1] = 255  # 21 lines of a pixel, and one at the end
    save_logo(tmp_path / "lines.png", rgba)
    mark = dataclasses.replace(make_mark(), logo=tmp_path / "lines.png", stretch=float(stretch))
    alpha = MARKS["logo"](mark, 256)[..., 3].astype(float)
    assert len(alpha) == round(256 / stretch)
    rows, zoom = alpha.mean(axis=1), len(alpha) / 512
    around = [rows[max(0, round(y * zoom) - 1) :][:3].sum() for y in range(0, 500, 25)]
    assert min(around) > 0.7 * 255 * zoom  # each has the ink of its pixel


# --- Colours and effects ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "color, rgb",
    [
        ("original", (40, 80, 100)), ("white", (100, 100, 100)), ("black", (0, 0, 0)),
        ("tint", (4, 78, 12)), ("grey", (4, 78, 12)), ("desaturated", (70, 70, 70)),
    ],
)  # fmt: skip
def test_paint_premultiplies_the_colour(make_mark, color, rgb):
    stamp = np.full((1, 1, 4), (40, 80, 100, 100), np.uint8)
    painted = paint(stamp, make_mark(color=color, tint=(10, 200, 30)))
    assert np.abs(painted[0, 0].astype(int) - (*rgb, 100)).max() <= 1
    assert stamp[0, 0].tolist() == [40, 80, 100, 100]


@pytest.mark.parametrize("color", COLORS)
def test_paint_keeps_alpha_and_premultiplication(make_mark, color):
    stamp = random_stamp(1, 9, 11)
    painted = paint(stamp, make_mark(color=color))
    assert_premultiplied(painted)
    assert np.array_equal(painted[..., 3], stamp[..., 3])


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (40, 33)])
def test_effects_stay_premultiplied_and_leave_the_stamp_alone(effect, shape):
    stamp = random_stamp(2, *shape)
    before = stamp.copy()
    assert_premultiplied(EFFECTS[effect](stamp))
    assert np.array_equal(stamp, before)


def test_hollow_keeps_a_rim_of_the_own_colour():
    stamp = np.pad(solid(5, 6, (200, 90, 30)), ((2, 2), (2, 2), (0, 0)))
    expected = stamp.copy()
    expected[3:6, 3:7] = 0
    assert np.array_equal(EFFECTS["hollow"](stamp), expected)
    assert np.array_equal(EFFECTS["hollow"](stamp[2:-2, 2:-2]), expected[2:-2, 2:-2])


def test_hollow_leaves_strokes_of_two_pixels_whole():
    stamp = np.pad(solid(2, 9), ((3, 3), (3, 3), (0, 0)))
    assert np.array_equal(EFFECTS["hollow"](stamp), stamp)


OPPOSITES = [  # of a colour, by its luma
    ((255, 255, 255), 0), ((0, 0, 0), 255), ((0, 255, 255), 0), ((140, 0, 0), 255),
    ((0, 0, 255), 255), ((255, 230, 0), 0),
]  # fmt: skip


@pytest.mark.parametrize("rgb, rim", OPPOSITES)
def test_outline_is_a_rim_of_the_opposite_brightness(rgb, rim):
    result = EFFECTS["outline"](solid(5, 5, rgb))
    assert result.shape == (7, 7, 4)
    assert (result[1:6, 1:6] == (*rgb, 255)).all()
    for row, column in ((0, 3), (6, 3), (3, 0), (3, 6)):
        assert result[row, column].tolist() == [rim, rim, rim, 255]


def test_shadow_is_black_soft_and_to_the_lower_right():
    result = EFFECTS["shadow"](solid(20, 20)).astype(int)
    pad = (result.shape[0] - 20) // 2
    inside = np.zeros(result.shape[:2], bool)
    inside[pad : pad + 20, pad : pad + 20] = True
    assert (result[inside] == 255).all()
    assert not result[~inside][:, :3].any()  # black
    alpha = np.where(inside, 0, result[..., 3])
    assert 60 < alpha.max() <= 128
    assert alpha[pad + 20 :, pad + 20 :].sum() > 4 * alpha[:pad, :pad].sum()


def test_emboss_lights_the_upper_left():
    stamp = np.pad(solid(30, 30, (120, 120, 120)), ((5, 5), (5, 5), (0, 0)))
    result = EFFECTS["emboss"](stamp).astype(int)
    assert np.array_equal(result[..., 3], stamp[..., 3])
    assert result[20, 5, 0] > 130 and result[5, 20, 0] > 130
    assert result[20, 34, 0] < 110 and result[34, 20, 0] < 110
    assert result[20, 20, 0] == pytest.approx(120, abs=2)


@pytest.mark.parametrize("rgb, opposite", OPPOSITES)
def test_a_plate_has_the_opposite_brightness_and_belongs_to_the_mark(rgb, opposite):
    result = EFFECTS["plate"](solid(10, 20, rgb))
    assert result.shape == (14, 24, 4)
    assert (result[2:12, 2:22] == (*rgb, 255)).all()
    ground = 150 if opposite else 0  # premultiplied
    result[2:12, 2:22] = (ground, ground, ground, 150)
    assert (result == (ground, ground, ground, 150)).all()  # above half: `honest_mask` counts it


def test_a_border_is_a_box_of_lines_in_the_marks_colour():
    result = EFFECTS["border"](solid(34, 40, (200, 30, 10)))
    assert result.shape == (50, 56, 4)
    expected = np.zeros_like(result)
    expected[:] = (200, 30, 10, 255)
    expected[2:-2, 2:-2] = 0
    expected[8:42, 8:48] = (200, 30, 10, 255)
    assert np.array_equal(result, expected)


def test_marks_are_immutable(make_mark):
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_mark().opacity = 0.5


def test_a_turned_logo_with_a_damaged_exif_block_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0  # orientation, resolution
    damaged = exif.tobytes().replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x07")
    damaged = damaged.replace(b"\x1a\x01\x05\x00", b"\x1a\x01\x07\x00")
    assert damaged != exif.tobytes()
    logo = Image.new("RGBA", (60, 40), (200, 30, 30, 0))
    logo.paste((200, 30, 30, 255), (5, 5, 55, 35))
    logo.save(tmp_path / "logo.webp", exif=damaged, lossless=True)
    assert load_logo(tmp_path / "logo.webp").shape[:2] == (50, 30)


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (1, 1), (3, 1)])
def test_the_smallest_stamps_can_be_tinted(shape):
    stamp = tinted(np.full(shape, 128, np.uint8), (255, 100, 0))
    assert stamp.shape == (*shape, 4)
    assert (stamp == (128, 50, 0, 128)).all()
