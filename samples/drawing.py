"""Draws all random numbers of a sample: `draw_sample`. `dataset.py` applies them.

`settings` is always a `dataset.WatermarkSettings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from samples.marks import LOGO_KINDS, SEEDED_KINDS, MarkParams
from samples.photos import Crop, Edit, draw_crop
from samples.text import WORDS, draw_words

USUAL_EFFECTS = ("none", "none", "shadow")  # see `usual_look_probability`

Range = tuple[float, float]
Weights = Mapping[str, float]


@dataclass(frozen=True)
class SampleParams:
    """All random numbers of one sample."""

    photo: int  # index of the photo
    crop: Crop
    flip: bool
    marks: tuple[MarkParams, ...]
    downscale: float  # 1: none
    blur_sigma_px: float  # 0: none
    noise_std: float  # 0: none
    noise_seed: int
    jpeg_quality: int  # 0: none
    enlarge: float = 1.0  # 1: none
    reduce: float = 1.0  # factor on the size of the photo, before the crop; 1: none
    edits: tuple[Edit, ...] = ()  # of the photo, before the marks, in this order
    negative: bool = False  # invert the final image


SCENE = ("photo", "crop", "flip", "reduce", "edits")  # samples of one crop share these fields


ByKind = Mapping[str, Weights] | None


def weights_of(kind: str, allowed: Weights, given: ByKind, preferred: ByKind) -> Weights:
    """The weights of layouts or colours for one kind of mark.

    Args:
        allowed: weights for all kinds.
        given: weights by kind that replace `allowed`; or None.
        preferred: weights by kind that multiply `allowed` if `given` is None. They have no effect
            if all products are 0.
    """
    if given is not None:
        return given.get(kind, allowed)
    both = {name: n * allowed.get(name, 0) for name, n in preferred.get(kind, {}).items()}
    return both if any(both.values()) else allowed


def _pick(rng: Random, weights: Weights) -> str:
    return rng.choices(list(weights), weights.values())[0]


def _maybe(rng, probability: float, value_range: Range, otherwise=0.0, newer=False) -> float:
    """A value of the range with a probability, or else `otherwise`; for `newer` see `happens`."""
    if newer and not probability:
        return otherwise
    value = rng.uniform(*value_range)
    return value if rng.random() < probability else otherwise


def happens(rng: Random, probability: float) -> bool:
    """True with a probability. At 0 it draws no number, so that later numbers stay the same."""
    return probability > 0 and rng.random() < probability


def draw_mark(settings, rng: Random, logos, fonts) -> MarkParams:
    """All random numbers of one mark."""
    mark = _draw_mark(settings, rng, logos, fonts)
    if happens(rng, settings.highest_opacity_probability):
        mark = replace(mark, opacity=settings.opacity_range[1])
    if happens(rng, settings.usual_look_probability):
        mark = replace(mark, **_usual_look(settings, rng, mark.kind))
    return mark


def _usual_look(settings, rng: Random, kind: str) -> dict:
    """Changes that make a mark white and plain, as far as the settings allow."""
    changes = {}
    effects = [effect for effect in USUAL_EFFECTS if settings.effects.get(effect)]
    if effects:
        changes["effect"] = rng.choice(effects)
    low, high = settings.usual_opacity_range
    low, high = max(low, settings.opacity_range[0]), min(high, settings.opacity_range[1])
    if low <= high:
        changes["opacity"] = rng.uniform(low, high)
    if settings.colors_of(kind).get("white"):
        changes["color"] = "white"
    if settings.blend_modes.get("normal"):
        changes["blend_mode"] = "normal"
    return changes


def _draw_tint(rng: Random, color: str) -> tuple[int, int, int]:
    """A random RGB colour. "warm" gives yellow, orange or red, as in dates that cameras print."""
    red, green, blue = rng.choices(range(256), k=3)
    return (200 + red // 5, green * 2 // 3, blue // 5) if color == "warm" else (red, green, blue)


def _draw_mark(settings, rng, logos, fonts) -> MarkParams:
    kind = _pick(rng, settings.kinds)
    layout = _pick(rng, settings.layouts_of(kind))
    font = rng.choice(fonts)
    color = _pick(rng, settings.colors_of(kind))
    grey = (rng.randint(40, 215),) * 3
    low, high = settings.opacity_range
    narrow, wide = settings.logo_stretch_range if kind == "logo" else settings.stretch_range
    return MarkParams(
        kind=kind,
        logo=rng.choice(logos).path if kind in LOGO_KINDS else None,
        font=font.path if kind in WORDS else None,
        text=draw_words(settings, rng, kind, layout, font),
        layout=layout,
        color=color,
        tint=grey if color == "grey" else _draw_tint(rng, color),
        effect=_pick(rng, settings.effects),
        blend_mode=_pick(rng, settings.blend_modes),
        opacity=low + (high - low) * rng.random() ** settings.opacity_power,
        scale=rng.uniform(*settings.scales[layout]) * settings.mark_scale,
        stretch=narrow * (wide / narrow) ** rng.random(),
        rotation_deg=_maybe(rng, 1 - settings.upright_probability, settings.rotations_deg[layout]),
        center=(rng.random(), rng.random()),
        gap=rng.uniform(*settings.tile_gap_range),
        stacked=kind == "lockup" and layout != "band" and rng.random() < 0.4,
        seed=rng.getrandbits(32) if kind in SEEDED_KINDS else 0,
    )


def draw_sample(settings, rng: Random, n_photos, logos, fonts) -> SampleParams:
    """All random numbers of one sample."""
    n_marks = 0 if rng.random() < settings.clean_probability else 1
    if n_marks and rng.random() < settings.several_probability:
        n_marks = rng.randint(2, 3)
    return SampleParams(
        photo=rng.randrange(n_photos),
        crop=draw_crop(settings.crop_range, rng),
        flip=rng.random() < settings.flip_probability,
        marks=tuple(draw_mark(settings, rng, logos, fonts) for _ in range(n_marks)),
        downscale=_maybe(rng, settings.downscale_probability, settings.downscale_range, 1.0),
        blur_sigma_px=_maybe(rng, settings.blur_probability, settings.blur_sigma_range_px),
        noise_std=_maybe(rng, settings.noise_probability, settings.noise_std_range),
        noise_seed=rng.getrandbits(32),
        jpeg_quality=round(_maybe(rng, settings.jpeg_probability, settings.jpeg_quality_range)),
        enlarge=_maybe(rng, settings.enlarge_probability, settings.enlarge_range, 1.0, newer=True),
        reduce=_maybe(rng, settings.reduce_probability, settings.reduce_range, 1.0, newer=True),
        edits=tuple(
            Edit(name, rng.uniform(*amount_range), rng.getrandbits(32))
            for name, amount_range in settings.edits.items()
            if amount_range and happens(rng, settings.edit_probability)
        ),
        negative=happens(rng, settings.negative_probability),
    )
