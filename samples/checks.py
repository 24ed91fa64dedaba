"""Whether settings of samples make sense, and whether there are files for them."""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from samples.layouts import LAYOUTS
from samples.marks import COLORS, LOGO_KINDS, MARKS
from samples.photos import EDITS
from samples.text import TEXTS

LIMITS = {  # of ranges that end before infinity
    "crop_range": (0.05, 4),
    "stretch_range": (0.1, 10),
    "logo_stretch_range": (0.1, 10),
    "opacity_range": (0, 1),
    "usual_opacity_range": (0, 1),
    "reduce_range": (0.1, 1),
    "downscale_range": (0.1, 1),
    "jpeg_quality_range": (1, 100),
    "enlarge_range": (1, 10),
    "tile_gap_range": (0, 10),
    "noise_std_range": (0, 255),
    "blur_sigma_range_px": (0, 100),
}
EDIT_LIMITS = {
    "contrast": (0, 100), "gamma": (0.01, 100), "brightness": (0, 100), "levels": (2, 256),
    "sharpness": (0, 100), "noise": (0, 255), "bars": (0, 0.5), "collage": (0, 0.5),
}  # fmt: skip


def check_settings(settings, tables: Mapping[str, Mapping]) -> None:
    """Raises ValueError, with what is allowed, for `dataset.WatermarkSettings` that cannot be.

    Args:
        tables: name of a setting to the table whose names it weighs.
    """
    side = settings.image_size
    if not isinstance(side, (int, np.integer)) or side < 32 or side % 32:
        raise ValueError(f"image_size is {side}; use a multiple of 32, a whole number.")
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name.endswith("_probability"):
            _check_range(item.name, (value, value), 0, 1)
        elif "_range" in item.name:
            _check_range(item.name, value, *LIMITS.get(item.name, (0, np.inf)))
    _check_range("opacity_power", (settings.opacity_power,) * 2, 0.01, 100)
    for name, table in tables.items():
        _check_weights(name, getattr(settings, name), table)
    _check_names("kind_colors", settings.kind_colors, MARKS)
    for kind, weights in settings.kind_colors.items():
        _check_weights(f"kind_colors[{kind!r}]", weights, COLORS)
    _check_names("text_styles", settings.text_styles, TEXTS)
    if not settings.text_styles:
        raise ValueError(f"text_styles is empty; name one or more of {', '.join(TEXTS)}.")
    if isinstance(settings.texts, str) or not all(text.strip() for text in settings.texts):
        raise ValueError(f"texts is {settings.texts!r}; give a tuple of texts, none of them empty.")
    _check_layouts(settings)
    _check_edits(settings.edits)


def check_files(photos, logos, fonts, kinds: Mapping[str, float]) -> None:
    """Raises ValueError unless there are files of each sort that these kinds of marks need."""
    needs_logos = any(kinds.get(kind) for kind in LOGO_KINDS)
    if not photos or not fonts or (needs_logos and not logos):
        raise ValueError(
            f"Got {len(photos)} photos, {len(logos)} logos, {len(fonts)} fonts; give at "
            "least one of each, from find_images and find_fonts (logos if kinds draws them)."
        )


def _check_layouts(settings) -> None:
    """Each kind has layouts, and each layout that may be drawn a range of sizes and angles."""
    _check_names("kind_layouts", settings.kind_layouts, MARKS)
    for kind, weights in settings.kind_layouts.items():
        _check_weights(f"kind_layouts[{kind!r}]", weights, LAYOUTS)
    kinds = [kind for kind, weight in settings.kinds.items() if weight]
    weights = [settings.layouts, *map(settings.layouts_of, kinds)]
    for layout in dict.fromkeys(name for table in weights for name in table if table[name]):
        for name, limits in (("scales", (0.01, 10)), ("rotations_deg", (-360, 360))):
            if layout not in getattr(settings, name):
                raise ValueError(f"{name} has no range for the layout {layout!r}; add one.")
            _check_range(f"{name}[{layout!r}]", getattr(settings, name)[layout], *limits)


def _check_edits(edits):
    _check_names("edits", edits, EDITS)
    for name, amount_range in edits.items():
        _check_range(f"edits[{name!r}]", amount_range, *EDIT_LIMITS.get(name, (0, np.inf)))


def _check_range(name, value, low, high):
    if np.size(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ValueError(f"{name} is {value}; low and high must rise from {low} to {high}.")


def _check_names(name, names, table):
    unknown = sorted(set(names) - set(table))
    if unknown:
        raise ValueError(f"{name} has no {', '.join(unknown)}; choose from {', '.join(table)}.")


def _check_weights(name, weights, table):
    _check_names(name, weights, table)
    if not all(0 <= weight < np.inf for weight in weights.values()) or not any(weights.values()):
        raise ValueError(f"{name} is {dict(weights)}; give weights of 0 or more, not all 0.")
