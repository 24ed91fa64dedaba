"""The settings of `dataset.py`, compositing and the honest mask, by hand."""

import numpy as np
import pytest

from dataset import WatermarkSettings
from samples import IGNORE
from samples.compositing import BLEND_MODES, VISIBLE_LEVELS, composite, honest_mask
from samples.layouts import Layer
from samples.loading import MIN_MARK_PIXELS, image_label

# --- Settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, reason",
    [
        (dict(image_size=100), "image_size is 100; use a multiple of 32"),
        (dict(image_size=0), "image_size is 0"),
        (dict(image_size=256.0), "image_size is 256.0; use a multiple of 32, a whole number"),
        (
            dict(text_styles=()),
            "text_styles is empty; give a tuple with one or more of wor",
        ),
        (dict(kinds={"logo": float("nan"), "text": 1}), "kinds is .*0 or more"),
        (dict(kinds={"logo": float("inf")}), "kinds is .*0 or more"),
        (dict(blur_sigma_range_px=(1, 1e9)), "blur_sigma_range_px .*from 0 to 100"),
        (dict(noise_std_range=(1, float("inf"))), "noise_std_range .*from 0 to 255"),
        (dict(edits={"noise": (1, 300)}), r"edits\['noise'\] is \(1, 300\).*from 0 to 255"),
        (dict(blend_modes={"dodge": 1}), "blend_modes has no dodge; choose from normal, multiply"),
        (dict(kinds={"logo": 1, "stamp": 1}), "kinds has no stamp; choose from logo, text"),
        (dict(layouts={"spiral": 1}), "layouts has no spiral"),
        (dict(text_styles=("words", "poem")), "text_styles has no poem; choose from words, name"),
        (dict(colors={"pink": 1}), "colors has no pink"),
        (dict(effects={"none": 1, "glow": 0}), "effects has no glow"),
        (dict(kinds={"logo": 2, "text": -1}), "kinds is .*0 or more"),
        (dict(kinds={"logo": 0, "text": 0}), "kinds is .*not all 0"),
        (dict(effects={}), "effects is .*not all 0"),
        (dict(opacity_range=(0.5, 2)), r"opacity_range is \(0.5, 2\).*from 0 to 1"),
        (
            dict(opacity_range=(0.9, 0.1)),
            r"opacity_range is \(0.9, 0.1\); give low and high, which must",
        ),
        (dict(opacity_range=0.5), "opacity_range is 0.5"),
        (dict(opacity_range=(float("nan"), 1)), "opacity_range"),
        (dict(crop_range=(0, 1)), "crop_range"),
        (dict(stretch_range=(0, 1)), "stretch_range"),
        (dict(logo_stretch_range=(1, 11)), r"logo_stretch_range is \(1, 11\).*from 0.1 to 10"),
        (dict(noise_std_range=(-1, 3)), "noise_std_range"),
        (dict(jpeg_quality_range=(50, 101)), "jpeg_quality_range.*from 1 to 100"),
        (dict(usual_opacity_range=(0.5, 2)), r"usual_opacity_range is \(0.5, 2\).*from 0 to 1"),
        (dict(clean_probability=1.5), "clean_probability"),
        (dict(jpeg_probability=-0.1), "jpeg_probability"),
        (dict(kind_layouts={"rune": {"inside": 1}}), "kind_layouts has no rune; choose from logo"),
        (dict(kind_layouts={"text": {"spiral": 1}}), r"kind_layouts\['text'\] has no spiral"),
        (dict(kind_layouts={"text": {"inside": 0}}), r"kind_layouts\['text'\] is .*not all 0"),
        (dict(kind_colors={"text": {"pink": 1}}), r"kind_colors\['text'\] has no pink"),
        (dict(scales={"spiral": (0.1, 1)}), "scales has no spiral; choose from single"),
        (dict(blend_modes="normal"), "blend_modes is 'normal'; give names and their weights, such"),
        (dict(blend_modes=["normal"]), r"blend_modes is \['normal'\]; give names and their weig"),
        (dict(clean_probability=1.2), "clean_probability is 1.2; give a number from 0 to 1"),
        (dict(clean_probability="all"), "clean_probability is 'all'; give a number from 0 to 1"),
        (dict(scales=0.5), "scales is 0.5; give a mapping"),
        (dict(text_styles="words"), "text_styles is 'words'; give a tuple"),
        (dict(mark_scale=0), "mark_scale is 0; give a number from"),
        (dict(scales={"single": (1, 0.1)}, layouts={"single": 1}), r"scales\['single'\]"),
        (dict(opacity_power=-1), "opacity_power"),  # would draw opacities above 1
    ],
)
def test_impossible_settings_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        WatermarkSettings(**settings)


@pytest.mark.parametrize("name", ["scales", "rotations_deg"])
def test_ranges_that_are_left_out_keep_their_default(name):
    default, changed = WatermarkSettings(), WatermarkSettings(**{name: {"corner": (0.1, 0.3)}})
    assert getattr(changed, name) == getattr(default, name) | {"corner": (0.1, 0.3)}


# --- Compositing --------------------------------------------------------------------------------


def pixel(*rgb):
    return np.array([[rgb]], np.uint8)


def opaque(*rgb):
    return Layer(np.array([[(*rgb, 255)]], np.uint8))


@pytest.mark.parametrize(
    "blend_mode, expected",
    [  # base .2 .4 .8, colour .8 .4 .2
        ("normal", (204, 102, 51)),
        ("multiply", (41, 41, 41)),  # .16
        ("screen", (214, 163, 214)),  # .84 .64 .84
        ("overlay", (82, 82, 173)),  # .32 .32 .68
        ("soft_light", (75, 90, 180)),  # .296 .352 .704
    ],
)
def test_blend_modes_by_hand(blend_mode, expected):
    result = composite(pixel(51, 102, 204), opaque(204, 102, 51), 1.0, blend_mode)
    assert tuple(result[0, 0]) == expected


def test_opacity_mixes_base_and_blend():
    assert composite(pixel(50, 0, 100), opaque(200, 200, 0), 0.5, "normal").tolist() == [
        [[125, 100, 50]]
    ]


def test_premultiplied_alpha_mixes_by_its_own_strength():
    half_red = Layer(np.array([[(100, 0, 0, 100)]], np.uint8))  # pure red, alpha 100
    assert composite(pixel(0, 0, 0), half_red, 1.0, "normal").tolist() == [[[100, 0, 0]]]
    assert composite(pixel(255, 255, 255), half_red, 1.0, "normal").tolist() == [[[255, 155, 155]]]


@pytest.mark.parametrize("blend_mode", BLEND_MODES)
def test_nothing_changes_at_opacity_0_or_outside_the_layer(blend_mode):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    rgba = np.repeat(rng.integers(0, 256, (4, 5, 1), dtype=np.uint8), 4, axis=2)
    rgba[..., :3] //= 3  # dark grey of changing alpha
    rgba[:2] = 0
    image_before, rgba_before = image.copy(), rgba.copy()
    layer = Layer(rgba, x=3, y=6)
    assert np.array_equal(composite(image, layer, 0.0, blend_mode), image)
    result = composite(image, layer, 1.0, blend_mode)
    assert (result.shape, result.dtype) == (image.shape, np.uint8)
    changed = (result != image).any(axis=2)
    assert changed[8:10, 3:8].any()
    changed[8:10, 3:8] = False  # rows 6 and 7 of the window are transparent
    assert not changed.any()
    assert np.array_equal(image, image_before) and np.array_equal(rgba, rgba_before)


def test_composite_refuses_unknown_blend_modes_and_opacities():
    with pytest.raises(ValueError, match="'dodge' is unknown; use normal, multiply"):
        composite(pixel(0, 0, 0), opaque(1, 1, 1), 1.0, "dodge")
    for opacity in (2, -0.1, float("nan")):
        with pytest.raises(ValueError, match=f"opacity is {opacity}.*between 0 and 1"):
            composite(pixel(0, 0, 0), opaque(1, 1, 1), opacity, "normal")


# --- The truth ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "coverage, change, expected",
    [
        (255, VISIBLE_LEVELS, 1),
        (255, -VISIBLE_LEVELS, 1),
        (255, VISIBLE_LEVELS - 1, IGNORE),  # covered, but nobody can see it
        (255, 0, IGNORE),
        (128, 50, 1),  # half covered
        (127, 50, IGNORE),  # rim
        (1, 0, IGNORE),
        (0, 0, 0),
    ],
)
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_honest_mask_by_hand(coverage, change, expected, channel):
    before = np.full((1, 1, 3), 100, np.uint8)
    after = before.copy()
    after[0, 0, channel] = 100 + change
    mask = honest_mask(before, after, np.array([[coverage]], np.uint8))
    assert (mask.dtype, mask.tolist()) == (np.uint8, [[expected]])


def test_image_label_by_hand():
    mask = np.zeros((8, 8), np.uint8)
    assert image_label(mask) == 0
    mask[0, 0] = IGNORE
    assert image_label(mask) == IGNORE
    mask.flat[1:MIN_MARK_PIXELS] = 1
    assert image_label(mask) == IGNORE
    mask.flat[MIN_MARK_PIXELS] = 1
    assert image_label(mask) == 1
