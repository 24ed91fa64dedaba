"""Photos and logos to training samples: synthetic watermarks with honest masks.

The path of one sample: `draw_sample` rolls every random number (which photo, which crop, which
marks, how they look, what happens to the picture afterwards) into a frozen `SampleParams`;
`render_sample` applies it without any randomness. To change the augmentation, change a default
in `WatermarkSettings`, or pass your own. To add a kind of mark, layout, effect or blend mode,
write one function and add it to the table below it.

Conventions: images are uint8, H x W x 3, RGB. A stamp is one copy of a mark, cut out: uint8,
h x w x 4, RGB premultiplied with alpha. Positions are (x, y), angles counter-clockwise.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from images import IGNORE, ImageFile, find_images, sample_photos
from layouts import LAYOUTS, Layer, Shape
from marks import COLORS, EFFECTS, LOGO_KINDS, MARKS, SEEDED_KINDS, MarkParams, check_logo, paint
from splits import leave_out, split_by_hash
from text import TEXTS, Font, draw_ai_label, draw_date_id, draw_line, draw_text, find_fonts

ROOT = Path(__file__).parent
VISIBLE_LEVELS = 5  # a pixel has visibly changed if some channel moved by this much of 255
USUAL_EFFECTS = ("none", "none", "shadow")  # of marks with the usual look
MIN_MARK_PIXELS = 16  # fewer mask pixels than this do not make a marked photo

Range = tuple[float, float]
Crop = tuple[float, float, float]  # side, x, y: fractions of what is possible
Weights = Mapping[str, float]


def _table(**entries):
    return field(default_factory=lambda: entries)


@dataclass(frozen=True)
class WatermarkSettings:
    """What the training photos look like. Ranges are (low, high), both included.

    Weights are relative: {"logo": 3, "text": 1} draws a logo three times in four; a name that
    is left out is never drawn. Lengths are fractions of the image's side.
    """

    image_size: int = 256  # side of the square samples, px; a multiple of 32
    crop_range: Range = (0.5, 1.0)  # side of the crop, fraction of the photo's short side
    flip_probability: float = 0.5  # mirror the photo (never the mark)
    double_exposure_probability: float = 0.0  # another photo shines through: few become many

    clean_probability: float = 0.2  # photos without any mark
    several_probability: float = 0.1  # two or three marks instead of one
    kinds: Weights = _table(  # names of MARKS
        logo=5, text=5, lockup=3, signature=1, ai_label=1, date_id=1
    )  # fmt: skip
    texts: tuple[str, ...] = ()  # what text marks say; none: words, names, dates ... (text.py)
    text_styles: tuple[str, ...] = tuple(TEXTS)  # names of TEXTS, all alike
    layouts: Weights = _table(
        single=4, inside=4, centre=4, corner=4, diagonal=2, grid=2, brick=2, band=1, lattice=1
    )  # fmt: skip
    kind_layouts: Mapping[str, Weights] = _table(  # of kinds with a place of their own
        signature={"inside": 1, "corner": 2, "lower_right": 1}, ai_label={"lower_right": 1},
        date_id={"corner": 1},
    )  # fmt: skip
    # Long side of the mark over the image's width (diagonal: over the image's diagonal).
    scales: Mapping[str, Range] = _table(
        single=(0.15, 1.1), inside=(0.15, 0.9), corner=(0.08, 0.4), diagonal=(0.6, 1.0),
        grid=(0.12, 0.6), brick=(0.12, 0.6), centre=(0.2, 0.95), lower_right=(0.04, 0.25),
        band=(0.3, 0.95), lattice=(0.12, 0.6),
    )  # fmt: skip
    rotations_deg: Mapping[str, Range] = _table(
        single=(-180, 180), inside=(-180, 180), corner=(0, 0), diagonal=(-5, 5), grid=(-50, 50),
        brick=(-50, 50), centre=(0, 0), lower_right=(0, 0), band=(0, 0), lattice=(-10, 10),
    )  # fmt: skip
    upright_probability: float = 0.4  # rotation 0 whatever the range: most real marks are upright
    stretch_range: Range = (0.6, 1.6)  # width over height, against the mark's own shape
    tile_gap_range: Range = (0.1, 1.0)  # space between tiles, fraction of the mark's long side

    colors: Weights = _table(original=4, desaturated=1, white=4, black=2, grey=2, tint=2)
    effects: Weights = _table(  # names of EFFECTS
        none=12, outline=2, shadow=3, emboss=1, hollow=1
    )  # fmt: skip
    blend_modes: Weights = _table(normal=14, multiply=1, screen=1, overlay=2, soft_light=2)
    opacity_range: Range = (0.08, 1.0)
    opacity_power: float = 1.6  # 1: all opacities alike; above: more faint marks
    usual_look_probability: float = 0.3  # whatever the above: white, plain, half-transparent
    usual_opacity_range: Range = (0.3, 0.6)

    downscale_probability: float = 0.2  # shrink and enlarge again
    downscale_range: Range = (0.5, 0.9)
    blur_probability: float = 0.1
    blur_sigma_range_px: Range = (0.3, 1.0)
    noise_probability: float = 0.15  # luminance noise
    noise_std_range: Range = (1.0, 8.0)  # of 255 levels
    jpeg_probability: float = 0.5  # recompress
    jpeg_quality_range: Range = (35, 95)

    ignore_undecidable: bool = True  # False: such pixels are labelled by coverage, as elsewhere

    def __post_init__(self):
        if self.image_size < 32 or self.image_size % 32:
            raise ValueError(f"image_size is {self.image_size}; use a multiple of 32.")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_probability"):
                _check_range(item.name, (value, value), 0, 1)
            elif "_range" in item.name:
                _check_range(item.name, value, *LIMITS.get(item.name, (0, np.inf)))
        _check_range("opacity_power", (self.opacity_power,) * 2, 0.01, 100)
        for name, table in TABLES.items():
            _check_weights(name, getattr(self, name), table)
        _check_weights("text_styles", dict.fromkeys(self.text_styles, 1), TEXTS)
        unknown = sorted(set(self.kind_layouts) - set(MARKS))
        if unknown:
            raise ValueError(f"kind_layouts has no {unknown[0]}; choose from {', '.join(MARKS)}.")
        for kind, weights in self.kind_layouts.items():
            _check_weights(f"kind_layouts[{kind!r}]", weights, LAYOUTS)
        for layout in self._drawn_layouts():
            for name, low in (("scales", 0.01), ("rotations_deg", -360)):
                if layout not in getattr(self, name):
                    raise ValueError(f"{name} has no range for the layout {layout!r}; add one.")
                _check_range(f"{name}[{layout!r}]", getattr(self, name)[layout], low, 360)

    def layouts_of(self, kind: str) -> Weights:
        """Where marks of a kind lie."""
        return self.kind_layouts.get(kind, self.layouts)

    def _drawn_layouts(self) -> list[str]:
        kinds = [kind for kind, weight in self.kinds.items() if weight]
        return [*self.layouts, *(layout for kind in kinds for layout in self.layouts_of(kind))]


LIMITS = {
    "crop_range": (0.05, 1),
    "stretch_range": (0.1, 10),
    "opacity_range": (0, 1),
    "usual_opacity_range": (0, 1),
    "downscale_range": (0.1, 1),
    "jpeg_quality_range": (1, 100),
}


def _check_range(name, value, low, high):
    if np.size(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ValueError(f"{name} is {value}; low and high must rise from {low} to {high}.")


def _check_weights(name, weights, table):
    unknown = sorted(set(weights) - set(table))
    if unknown:
        raise ValueError(f"{name} has no {', '.join(unknown)}; choose from {', '.join(table)}.")
    if min(weights.values(), default=0) < 0 or sum(weights.values()) <= 0:
        raise ValueError(f"{name} is {dict(weights)}; give weights of 0 or more, not all 0.")


# --- Compositing and the truth -----------------------------------------------------------------


def _overlay(base, color):
    return np.where(base <= 0.5, 2 * base * color, 1 - 2 * (1 - base) * (1 - color))


def _soft_light(base, color):
    return (1 - 2 * color) * base * base + 2 * color * base  # Pegtop's formula: no kink


BLEND_MODES = {  # (base, color), float32 in 0..1, to float32 in 0..1
    "normal": lambda base, color: color,
    "multiply": lambda base, color: base * color,
    "screen": lambda base, color: base + color - base * color,
    "overlay": _overlay,
    "soft_light": _soft_light,
}


def composite(image: np.ndarray, layer: Layer, opacity: float, blend_mode: str) -> np.ndarray:
    """The image with a layer on it: base + alpha * opacity * (blend(base, color) - base).

    Args:
        image: uint8, H x W x 3, RGB; left untouched.
        layer: premultiplied RGBA on a window of it.
        opacity: 0..1.
        blend_mode: a name in BLEND_MODES.

    Returns:
        uint8, H x W x 3, RGB. Equal to `image` where the layer's alpha is 0.

    Source: W3C Compositing and Blending Level 1, section 5.
    """
    if blend_mode not in BLEND_MODES:
        raise ValueError(f"Blend mode {blend_mode!r} is unknown; use {', '.join(BLEND_MODES)}.")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; it must lie between 0 and 1.")
    result = image.copy()
    blend = BLEND_MODES[blend_mode]
    *layer_planes, alpha = cv2.split(layer.rgba)
    per_alpha = 1 / np.maximum(alpha, np.float32(1))  # where alpha is 0, nothing is drawn
    strength = alpha * np.float32(opacity / 255)
    planes = []
    for base, premultiplied in zip(cv2.split(image[layer.window]), layer_planes):
        base = base * np.float32(1 / 255)
        mixed = blend(base, np.minimum(premultiplied * per_alpha, 1)) - base
        mixed *= strength
        mixed += base
        mixed *= 255
        mixed += np.float32(0.5)  # in place: an eighth faster
        planes.append(mixed.astype(np.uint8))
    result[layer.window] = cv2.merge(planes)
    return result


def honest_mask(before: np.ndarray, after: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Which pixels show the mark, and which nobody can decide.

    Args:
        before, after: the image without and with marks, uint8, H x W x 3.
        coverage: how much of each pixel the marks cover, before opacity; uint8, H x W, 0..255.

    Returns:
        uint8, H x W: 1 where marks cover half the pixel or more and moved some channel by
        VISIBLE_LEVELS or more; 0 where nothing was drawn; IGNORE for the rest (antialiased rims,
        soft shadows, marks that do not show, such as white on snow).
    """
    change = functools.reduce(cv2.max, cv2.split(cv2.absdiff(before, after)))
    mask = np.multiply(coverage > 0, IGNORE, dtype=np.uint8)
    np.copyto(mask, 1, where=(coverage >= 128) & (change >= VISIBLE_LEVELS))
    return mask


def image_label(mask: np.ndarray) -> int:
    """Whether the photo carries a visible mark: 1, 0, or IGNORE for a mark too faint or small."""
    if np.count_nonzero(mask == 1) >= MIN_MARK_PIXELS:
        return 1
    return IGNORE if mask.any() else 0


# --- One sample: draw every random number, then apply them -------------------------------------


@dataclass(frozen=True)
class SampleParams:
    """One sample, fully decided."""

    photo: int  # index of the photo
    crop: Crop
    flip: bool
    marks: tuple[MarkParams, ...]
    downscale: float  # 1: none
    blur_sigma_px: float  # 0: none
    noise_std: float  # 0: none
    noise_seed: int
    jpeg_quality: int  # 0: none
    exposure: "Exposure | None" = None  # another photo that shines through


SCENE = ("photo", "crop", "flip", "exposure")  # what samples of one crop share


@dataclass(frozen=True)
class Exposure:
    """A second photo on the same frame."""

    photo: int
    crop: Crop
    share: float  # of the second photo, 0..1


def _pick(rng: Random, weights: Weights) -> str:
    return rng.choices(list(weights), weights.values())[0]


def _maybe(rng: Random, probability: float, value_range: Range, otherwise=0.0) -> float:
    value = rng.uniform(*value_range)
    return value if rng.random() < probability else otherwise


WORDS = {  # kinds that write, to (font, rng, styles) -> what they say
    "text": draw_text,
    "lockup": lambda font, rng, styles: draw_line(font, rng, ("words", "name", "domain", "handle")),
    "ai_label": lambda font, rng, styles: draw_ai_label(font, rng),
    "date_id": lambda font, rng, styles: draw_date_id(font, rng),
}


def _draw_words(settings, rng, kind, layout, font) -> str:
    if kind not in WORDS:
        return ""
    if settings.texts and kind in ("text", "lockup"):
        return rng.choice(settings.texts)
    words = WORDS[kind](font, rng, settings.text_styles)
    return words.split("\n")[0] if layout == "band" else words  # more lines hardly fit


def draw_mark(settings: WatermarkSettings, rng: Random, logos, fonts) -> MarkParams:
    """All random numbers of one mark."""
    mark = _draw_mark(settings, rng, logos, fonts)
    probability = settings.usual_look_probability
    if not probability or rng.random() >= probability:  # at 0 nothing is drawn: old samples stay
        return mark
    effect, opacity = rng.choice(USUAL_EFFECTS), rng.uniform(*settings.usual_opacity_range)
    return replace(mark, color="white", effect=effect, opacity=opacity, blend_mode="normal")


def _draw_mark(settings, rng, logos, fonts) -> MarkParams:
    kind = _pick(rng, settings.kinds)
    layout = _pick(rng, settings.layouts_of(kind))
    font = rng.choice(fonts)
    color = _pick(rng, settings.colors)
    grey = (rng.randint(40, 215),) * 3
    low, high = settings.opacity_range
    narrow, wide = settings.stretch_range
    return MarkParams(
        kind=kind,
        logo=rng.choice(logos).path if kind in LOGO_KINDS else None,
        font=font.path if kind in WORDS else None,
        text=_draw_words(settings, rng, kind, layout, font),
        layout=layout,
        color=color,
        tint=grey if color == "grey" else tuple(rng.choices(range(256), k=3)),
        effect=_pick(rng, settings.effects),
        blend_mode=_pick(rng, settings.blend_modes),
        opacity=low + (high - low) * rng.random() ** settings.opacity_power,
        scale=rng.uniform(*settings.scales[layout]),
        stretch=narrow * (wide / narrow) ** rng.random(),
        rotation_deg=_maybe(rng, 1 - settings.upright_probability, settings.rotations_deg[layout]),
        center=(rng.random(), rng.random()),
        gap=rng.uniform(*settings.tile_gap_range),
        stacked=kind == "lockup" and layout != "band" and rng.random() < 0.4,
        seed=rng.getrandbits(32) if kind in SEEDED_KINDS else 0,
    )


def draw_sample(settings: WatermarkSettings, rng: Random, n_photos, logos, fonts) -> SampleParams:
    """All random numbers of one sample."""
    n_marks = 0 if rng.random() < settings.clean_probability else 1
    if n_marks and rng.random() < settings.several_probability:
        n_marks = rng.randint(2, 3)
    return SampleParams(
        photo=rng.randrange(n_photos),
        crop=draw_crop(settings, rng),
        flip=rng.random() < settings.flip_probability,
        marks=tuple(draw_mark(settings, rng, logos, fonts) for _ in range(n_marks)),
        downscale=_maybe(rng, settings.downscale_probability, settings.downscale_range, 1.0),
        blur_sigma_px=_maybe(rng, settings.blur_probability, settings.blur_sigma_range_px),
        noise_std=_maybe(rng, settings.noise_probability, settings.noise_std_range),
        noise_seed=rng.getrandbits(32),
        jpeg_quality=round(_maybe(rng, settings.jpeg_probability, settings.jpeg_quality_range)),
        exposure=_draw_exposure(settings, rng, n_photos),
    )


def draw_crop(settings: WatermarkSettings, rng: Random) -> Crop:
    """Which square of a photo to take; see `crop_photo`."""
    return rng.uniform(*settings.crop_range), rng.random(), rng.random()


def _draw_exposure(settings, rng, n_photos: int) -> Exposure | None:
    probability = settings.double_exposure_probability
    if not probability or rng.random() >= probability:  # at 0 nothing is drawn: old samples stay
        return None
    return Exposure(rng.randrange(n_photos), draw_crop(settings, rng), rng.uniform(0.3, 0.7))


def crop_photo(photo: np.ndarray, crop, flip: bool, size: int) -> np.ndarray:
    """A square of the photo at the training size, before any mark lies on it."""
    height, width = photo.shape[:2]
    side = max(1, round(crop[0] * min(height, width)))
    x, y = round(crop[1] * (width - side)), round(crop[2] * (height - side))
    square = photo[y : y + side, x : x + side]
    # Averaging matters only where pixels would be skipped, and costs five times as much.
    method = cv2.INTER_AREA if side > 2 * size else cv2.INTER_LINEAR
    square = cv2.resize(square, (size, size), interpolation=method)
    return cv2.flip(square, 1) if flip else square


def make_layer(mark: MarkParams, shape: Shape) -> Layer:
    """The mark as it lies on an image of shape (height, width)."""
    length = mark.scale * (math.hypot(*shape) if mark.layout == "diagonal" else shape[1])
    stamp = MARKS[mark.kind](mark, max(4, length))
    return LAYOUTS[mark.layout](EFFECTS[mark.effect](paint(stamp, mark)), mark, shape)


def degrade(image: np.ndarray, params: SampleParams) -> np.ndarray:
    """What happens to a picture on its way through the web, in that order."""
    if params.downscale < 1:
        small = cv2.resize(image, None, fx=params.downscale, fy=params.downscale,
                           interpolation=cv2.INTER_AREA)  # fmt: skip
        image = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if params.blur_sigma_px:
        image = cv2.GaussianBlur(image, (0, 0), params.blur_sigma_px)
    if params.noise_std:
        rng = np.random.default_rng(params.noise_seed)
        noise = rng.standard_normal(image.shape[:2], dtype=np.float32) * params.noise_std
        image = cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)
    if params.jpeg_quality:
        quality = [cv2.IMWRITE_JPEG_QUALITY, params.jpeg_quality]
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode(".jpg", bgr, quality)[1]
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    return image


def add_watermark(photo: np.ndarray, params: SampleParams) -> dict[str, np.ndarray]:
    """The marks on a photo, and every stage on the way; the same params give the same arrays.

    Args:
        photo: uint8, H x W x 3, RGB, any size; left untouched.
        params: from `draw_sample`; the fields in SCENE have no part here.

    Returns:
        photo, composite (with marks), image (after recompression and the like): uint8,
        H x W x 3, RGB; coverage: uint8, H x W, 0..255; mask: see `honest_mask`.
    """
    after, shape = photo, photo.shape[:2]
    coverage = np.zeros(shape, np.uint8)
    for mark in params.marks:
        layer = make_layer(mark, shape)
        after = composite(after, layer, mark.opacity, mark.blend_mode)
        coverage[layer.window] = cv2.max(coverage[layer.window], layer.rgba[..., 3])
    mask = honest_mask(photo, after, coverage)
    image = degrade(after, params)
    return dict(photo=photo, composite=after, image=image, coverage=coverage, mask=mask)


def render_sample(
    params: SampleParams, photo: np.ndarray, size: int, second: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """A training sample of size x size pixels: the photo's crop, then `add_watermark`.

    Args:
        second: the photo of `params.exposure`.
    """
    square = crop_photo(photo, params.crop, params.flip, size)
    if params.exposure:
        share = params.exposure.share
        other = crop_photo(second, params.exposure.crop, not params.flip, size)
        square = cv2.addWeighted(square, 1 - share, other, share, 0)
    return add_watermark(square, params)


TABLES = {
    "kinds": MARKS,
    "layouts": LAYOUTS,
    "colors": COLORS,
    "effects": EFFECTS,
    "blend_modes": BLEND_MODES,
}


# --- Torch -------------------------------------------------------------------------------------


class WatermarkDataset(Dataset):
    """Photos with synthetic watermarks.

    A sample is a pure function of (seed, epoch, index): `dataset[7]` is always the same sample,
    `dataset[3, 7]` is the one that takes its place in epoch 3 (`FreshSampler` asks for it). So many
    samples in a row as `marks_per_crop` says show the same crop of the same photo, each with marks
    of its own: the photo is decoded once, and only the marks tell the samples apart.

    A sample is a dictionary of tensors:
        image: uint8, 3 x S x S, RGB 0..255.
        mask: uint8, 1 x S x S, 1 = mark, 0 = none, IGNORE = undecidable (`honest_mask`).
        label: uint8, scalar, 1 = the photo carries a visible mark, 0 = it does not, or IGNORE.
    """

    def __init__(
        self,
        photos: list[ImageFile],
        logos: list[ImageFile],
        settings: WatermarkSettings | None = None,
        length: int | None = None,
        seed: int = 0,
        fonts: list[Font] | None = None,
        marks_per_crop: int = 1,
    ):
        """
        Args:
            photos, logos: from `find_images`.
            settings: what the samples look like.
            length: samples per epoch; by default one for each photo.
            seed: of all randomness.
            fonts: from `find_fonts`; by default those that matplotlib ships.
            marks_per_crop: samples in a row that show the same crop, 1 or more.
        """
        if marks_per_crop < 1:
            raise ValueError(f"marks_per_crop is {marks_per_crop}; use 1 or more.")
        self.photos, self.logos, self.seed = photos, logos, seed
        self.marks_per_crop, self._last_read = marks_per_crop, {}
        self.settings = settings or WatermarkSettings()
        self.length = length or len(photos)
        self.fonts = find_fonts() if fonts is None else fonts
        needs_logos = any(self.settings.kinds.get(kind) for kind in LOGO_KINDS)
        if not photos or not self.fonts or (needs_logos and not logos):
            raise ValueError(
                f"Got {len(photos)} photos, {len(logos)} logos, {len(self.fonts)} fonts; give at "
                "least one of each, from find_images and find_fonts (logos if kinds draws them)."
            )

    def __len__(self) -> int:
        return self.length

    def params(self, index) -> SampleParams:
        """What was drawn for a sample: an index, or (epoch, index)."""
        epoch, index = index if isinstance(index, tuple) else (0, index)
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is out of range 0..{self.length - 1}")
        params = self._draw(epoch, index)
        first = index - index % self.marks_per_crop
        if index == first:  # nothing to share: the usual case draws once
            return params
        scene = self._draw(epoch, first)
        return replace(params, **{name: getattr(scene, name) for name in SCENE})

    def _draw(self, epoch: int, index: int) -> SampleParams:
        rng = Random(f"{self.seed} {epoch} {index}")  # hashed: neighbours have nothing in common
        return draw_sample(self.settings, rng, len(self.photos), self.logos, self.fonts)

    def _read(self, numbers: list[int]) -> list[np.ndarray]:
        """Photos; the last ones are kept, for the next sample may show them again."""
        if set(numbers) != set(self._last_read):
            self._last_read = {number: self.photos[number].read() for number in numbers}
        return [self._last_read[number] for number in numbers]

    @property
    def files(self) -> dict[str, list]:
        """The files that samples are made of, as `splits.make_manifest` takes them."""
        return dict(photos=self.photos, logos=self.logos, fonts=self.fonts)

    def stages(self, index) -> dict[str, np.ndarray]:
        """A sample taken apart; see `render_sample`."""
        params = self.params(index)
        shown = [item.photo for item in (params, params.exposure) if item]
        photo, *second = self._read(shown)
        return render_sample(params, photo, self.settings.image_size, *second)

    def __getitem__(self, index) -> dict[str, torch.Tensor]:
        stages = self.stages(index)
        mask = stages["mask"]
        if not self.settings.ignore_undecidable:
            mask = (stages["coverage"] >= 128).astype(np.uint8)
        return to_tensors(stages["image"], mask)


def to_tensors(image: np.ndarray, mask: np.ndarray) -> dict[str, torch.Tensor]:
    """A sample of `WatermarkDataset` from image (uint8, S x S x 3) and mask (uint8, S x S)."""
    return {
        "image": torch.from_numpy(np.stack(cv2.split(image))),  # 3 x S x S
        "mask": torch.from_numpy(mask)[None],
        "label": torch.tensor(image_label(mask), dtype=torch.uint8),
    }


class PaddedDataset(Dataset):
    """A dataset and, from its end on, samples without weight: mask and label are all IGNORE."""

    def __init__(self, data: Dataset):
        self.data = data

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index < len(self.data):
            return self.data[index]
        sample = self.data[0]
        ignored = {name: torch.full_like(sample[name], IGNORE) for name in ("mask", "label")}
        return {**sample, **ignored}


class FreshSampler(Sampler):
    """Indices (epoch, 0), (epoch, 1), ...: new samples each epoch. Lightning calls `set_epoch`.

    Under several processes each takes its own share, of the same size for all. Samples of one crop
    stay in one process.
    """

    def __init__(self, length: int, marks_per_crop: int = 1):
        self.rank, self.processes = _rank()
        self.together, self.epoch = marks_per_crop, 0
        self.length = length // (self.processes * self.together) * self.together

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        for i in range(self.length):
            crop, mark = divmod(i, self.together)
            yield self.epoch, (self.rank + crop * self.processes) * self.together + mark


def _rank() -> tuple[int, int]:
    """(number of this process, number of processes), (0, 1) unless training is distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _one_thread(worker_id: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism


def make_loader(dataset, batch_size: int, workers: int = 0, train: bool = False) -> DataLoader:
    """Batches of a dataset: fresh samples each epoch to train on, the same ones to validate.

    Under several processes `batch_size` is that of each, and each gets its own share of the
    samples, as many as the others get: they wait for each other. A rest that cannot be shared is
    left out of training; in validation samples without weight (`PaddedDataset`) fill it up, so that
    each sample counts once.
    """
    rank, processes = _rank()
    together = getattr(dataset, "marks_per_crop", 1)
    sampler = FreshSampler(len(dataset), together)
    if train and len(sampler) < batch_size:
        raise ValueError(
            f"{len(dataset)} training samples, {together} for each crop, do not fill one batch of "
            f"{batch_size} for each of {processes} processes; use a smaller batch_size or more "
            "samples."
        )
    filled = math.ceil(len(dataset) / processes) * processes
    return DataLoader(
        dataset if train else PaddedDataset(dataset),
        batch_size,
        sampler=sampler if train else range(rank, filled, processes),
        num_workers=workers,
        drop_last=train,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available(),
    )


def make_datasets(
    photos=None,
    logos=ROOT / "logos",
    fonts=None,
    settings: WatermarkSettings | None = None,
    train_length: int | None = None,
    val_length: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    held_out=ROOT / "held_out.json",
    marks_per_crop: int = 1,
) -> tuple[WatermarkDataset, WatermarkDataset]:
    """Train and validation datasets that share neither a photo nor a logo.

    Args:
        photos: a folder or several; by default the sample photos of scikit-image.
        logos, fonts: folders; text marks use matplotlib's fonts and those of `fonts`.
        settings, seed: see `WatermarkDataset`.
        train_length, val_length: samples per epoch; by default one for each photo.
        val_fraction: share of photos and of logos kept for validation.
        held_out: a manifest of files that neither dataset may use, by default those of the
            benchmark; None for no such files.
        marks_per_crop: of the training samples; validation has a photo for each.
    """
    photo_files = find_photos(photos)
    logo_files, found_fonts = find_images(logos, check_logo), find_fonts(fonts)
    if held_out is not None:
        files = dict(photos=photo_files, logos=logo_files, fonts=found_fonts)
        photo_files, logo_files, found_fonts = leave_out(files, held_out).values()
    photo_sides = split_by_hash(photo_files, val_fraction, "photos")
    logo_sides = split_by_hash(logo_files, val_fraction, "logos")
    sides = zip(photo_sides, logo_sides, (train_length, val_length), (marks_per_crop, 1))
    return tuple(
        WatermarkDataset(*files, settings, length, seed, found_fonts, repeats)
        for *files, length, repeats in sides
    )


def find_photos(folders=None) -> list[ImageFile]:
    """The photos of a folder or of several (`find_images`); of None: scikit-image's."""
    if folders is None:
        return sample_photos()
    if isinstance(folders, (str, Path)):
        return find_images(folders)
    return [photo for folder in folders for photo in find_images(folder)]
