"""The checks of settings, the blend modes and the mask."""

import numpy as np
import pytest

from dataset import WatermarkSettings
from samples import IGNORE
from samples.compositing import BLEND_MODES, VISIBLE_LEVELS, composite, honest_mask
from samples.layouts import LAYOUTS

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("image_size", 100, "is 100; give a multiple of 32, a whole number from 32 to 8192"),
        ("clean_probability", 1.2, "is 1.2; give a number from 0 to 1"),
        ("opacity_power", -1, "is -1; give a number"),  # would give opacities above 1
        ("opacity_range", (0.9, 0.1), r"is \(0.9, 0.1\); give low and high, which must rise"),
        ("noise_std_range", (1, INF), r"is \(1, inf\); .* from 0 to 255"),
        ("blend_modes", "normal", r"is 'normal'; give {name: value, ...}, with names from nor"),
        ("blend_modes", {"dodge": 1}, "has no dodge; choose from normal, multiply"),
        ("kinds", {"logo": 2, "text": -1}, "is .*give weights of 0 or more, not all 0"),
        ("effects", {}, "is {}; give weights of 0 or more, not all 0"),
        ("kind_layouts", {"text": {"spiral": 1}}, r"\['text'\] has no spiral"),
        ("kind_colors", {"text": None}, r"\['text'\] is None; give"),
        ("scales", {"single": None}, r"\['single'\] is None; give low and high"),
        ("scales", {"single": (1, 0.1)}, r"\['single'\] is \(1, 0.1\); give low and high"),
        ("edits", {"fog": (0, 1)}, "has no fog; choose from contrast, gamma"),
        ("text_styles", ("words", "poem"), "has no poem; choose from words, name"),
        ("texts", "SAMPLE", "is 'SAMPLE'; give a tuple of texts, none of them empty"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(name, value, reason):
    with pytest.raises(ValueError, match=f"^{name}.*{reason}") as error:
        WatermarkSettings(**{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["scales", "rotations_deg"])
def test_a_new_layout_needs_a_scale_and_a_rotation(name, monkeypatch):
    monkeypatch.setitem(LAYOUTS, "spiral", LAYOUTS["single"])
    own = {"scales": {"spiral": (0.1, 0.3)}, "rotations_deg": {"spiral": (0, 0)}}
    WatermarkSettings(**own)
    with pytest.raises(ValueError, match=f"{name} has no spiral; give low and high for it"):
        WatermarkSettings(**own | {name: {}})


@pytest.mark.parametrize("name", ["scales", "rotations_deg"])
def test_ranges_that_are_left_out_keep_their_default(name):
    default, changed = WatermarkSettings(), WatermarkSettings(**{name: {"corner": (0.1, 0.3)}})
    assert getattr(changed, name) == getattr(default, name) | {"corner": (0.1, 0.3)}


def test_changing_one_table_changes_no_other_settings():
    changed = WatermarkSettings()
    changed.kinds["logo"] = changed.layouts["corner"] = -3
    assert WatermarkSettings().kinds["logo"] > 0 and WatermarkSettings().layouts["corner"] > 0


def pixel(*rgb):
    return np.array([[rgb]], np.uint8)


def opaque(*rgb):
    return np.array([[(*rgb, 255)]], np.uint8)


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


def test_opacity_and_premultiplied_alpha_mix_base_and_blend():
    half = composite(pixel(50, 0, 100), opaque(200, 200, 0), 0.5, "normal")
    assert half.tolist() == [[[125, 100, 50]]]
    half_red = np.array([[(100, 0, 0, 100)]], np.uint8)  # pure red, alpha 100
    for base, expected in ((0, [100, 0, 0]), (255, [255, 155, 155])):
        assert composite(pixel(*[base] * 3), half_red, 1.0, "normal").tolist() == [[expected]]


@pytest.mark.parametrize("blend_mode", BLEND_MODES)
def test_nothing_changes_at_opacity_0_or_outside_the_layer(blend_mode):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    layer = np.zeros((12, 10, 4), np.uint8)
    layer[8:10, 3:8] = rng.integers(0, 256, (2, 5, 1))
    layer[..., :3] //= 3  # dark grey of changing alpha
    image_before, layer_before = image.copy(), layer.copy()
    assert np.array_equal(composite(image, layer, 0.0, blend_mode), image)
    assert np.array_equal(composite(image, np.zeros_like(layer), 1.0, blend_mode), image)
    result = composite(image, layer, 1.0, blend_mode)
    assert (result.shape, result.dtype) == (image.shape, np.uint8)
    changed = (result != image).any(axis=2)
    assert changed[8:10, 3:8].any()
    changed[8:10, 3:8] = False
    assert not changed.any()
    assert np.array_equal(image, image_before) and np.array_equal(layer, layer_before)


@pytest.mark.parametrize(
    "coverage, change, expected",
    [
        (255, VISIBLE_LEVELS, 1),
        (255, -VISIBLE_LEVELS, 1),
        (255, VISIBLE_LEVELS - 1, IGNORE),  # covered, but not visible
        (128, 50, 1),  # half covered
        (127, 50, IGNORE),  # covered less than half
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
