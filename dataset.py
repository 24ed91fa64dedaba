"""Photos and logos to training samples: synthetic watermarks with honest masks.

`drawing.draw_sample` rolls every random number of a sample into a frozen `SampleParams`, which
`render_sample` applies. To change the augmentation, change a default in `WatermarkSettings`, or
pass your own. A new kind of mark, layout, effect, edit or blend mode is one function, an entry in
the table below it (here, in samples/marks.py, layouts.py or photos.py), and a weight below; a kind
that needs a logo, a seed or words is also named in LOGO_KINDS, SEEDED_KINDS or text.WORDS.

Conventions: images are uint8, H x W x 3, RGB. A stamp is one copy of a mark, cut out: uint8,
h x w x 4, RGB premultiplied with alpha. Positions are (x, y), angles counter-clockwise.
"""

import copy
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from samples import IGNORE
from samples.checks import check_files, check_settings
from samples.drawing import SCENE, Range, SampleParams, Weights, draw_sample
from samples.files import ImageFile
from samples.layouts import LAYOUTS, Layer, Shape
from samples.loading import split_index, to_tensors
from samples.marks import COLORS, EFFECTS, MARKS, MarkParams, paint
from samples.own_mark import OwnMark
from samples.photos import degrade, photo_square
from samples.splits import find_sides
from samples.text import TEXTS, Font, fonts_that_write

ROOT = Path(__file__).parent
VISIBLE_LEVELS = 5  # a pixel has visibly changed if some channel moved by this much of 255


def _table(**entries):
    return field(default_factory=lambda: copy.deepcopy(entries))


@dataclass(frozen=True)
class WatermarkSettings:
    """What the training photos look like. Ranges are (low, high), both included.

    Weights are relative: {"logo": 3, "text": 1} draws a logo three times in four; a name that
    is left out is never drawn. Lengths are fractions of the image's side.
    """

    image_size: int = 256  # side of the square samples, px; a multiple of 32
    crop_range: Range = (0.5, 1.0)  # side over the photo's short side; above 1 it is mirrored
    flip_probability: float = 0.5  # mirror the photo (never the mark)
    reduce_probability: float = 0.0  # shrink the photo before its crop: JPEG's blocks go
    reduce_range: Range = (0.35, 0.6)
    edit_probability: float = 0.0  # of each of these, done to the photo before any mark
    edits: Mapping[str, Range] = _table(  # how much
        contrast=(0.6, 1.7), gamma=(0.6, 1.7), brightness=(0.6, 1.6), levels=(3, 16),
        sharpness=(0.3, 2.0), noise=(2, 20), bars=(0.01, 0.22), collage=(0.0, 0.03),
    )  # fmt: skip
    double_exposure_probability: float = 0.0  # another photo shines through: few become many

    clean_probability: float = 0.2  # photos without any mark
    several_probability: float = 0.1  # two or three marks instead of one
    kinds: Weights = _table(
        logo=5, text=5, lockup=3, signature=1, ai_label=1, date_id=2, squares=0.5,
    )  # fmt: skip
    texts: tuple[str, ...] = ()  # of the kinds text and lockup; none: words, names ... (text.py)
    text_styles: tuple[str, ...] = tuple(TEXTS)  # names of TEXTS, all alike
    layouts: Weights = _table(
        single=4, inside=4, centre=4, corner=7, diagonal=2, grid=2, brick=2, band=1, lattice=1,
        edge=1,
    )  # fmt: skip
    kind_layouts: Mapping[str, Weights] = _table(  # of kinds with a place of their own
        signature={"inside": 1, "corner": 2, "lower_right": 1}, ai_label={"lower_right": 1},
        date_id={"corner": 1}, squares={"lower_right": 3, "corner": 1},
    )  # fmt: skip
    scales: Mapping[str, Range] = _table(  # long side over the image's width, or its diagonal
        single=(0.15, 1.3), inside=(0.15, 0.9), corner=(0.04, 0.4), diagonal=(0.6, 1.1),
        grid=(0.12, 0.7), brick=(0.12, 0.7), centre=(0.2, 1.1), lower_right=(0.04, 0.25),
        band=(0.3, 0.95), lattice=(0.12, 0.7), edge=(0.15, 0.9),
    )  # fmt: skip
    rotations_deg: Mapping[str, Range] = _table(
        single=(-180, 180), inside=(-180, 180), grid=(-50, 50), brick=(-50, 50), lattice=(-10, 10),
        corner=(0, 0), centre=(0, 0), lower_right=(0, 0), edge=(0, 0), diagonal=(-5, 5),
        band=(0, 0),  # never turned
    )  # fmt: skip
    upright_probability: float = 0.4  # rotation 0 whatever the range: most real marks are upright
    stretch_range: Range = (0.6, 1.6)  # width over height, against the mark's own shape
    logo_stretch_range: Range = (0.25, 4.0)  # of plain logos: no logo's own shape is learnt
    tile_gap_range: Range = (0.1, 1.0)  # space between tiles, fraction of the mark's long side

    # What follows does not hold for the share of marks that `usual_look_probability` says.
    kind_colors: Mapping[str, Weights] = _table(  # of kinds with colours of their own
        date_id={"warm": 4, "white": 3, "tint": 1, "black": 1}, squares={"original": 1},
    )  # fmt: skip
    colors: Weights = _table(original=4, desaturated=1, white=4, black=3, grey=3, tint=4)
    effects: Weights = _table(none=12, outline=2, shadow=3, emboss=1, hollow=1, plate=1, border=1)
    blend_modes: Weights = _table(normal=12, multiply=2, screen=2, overlay=2, soft_light=2)
    opacity_range: Range = (0.08, 1.0)
    opacity_power: float = 1.6  # 1: all opacities alike; above: more faint marks
    highest_opacity_probability: float = 0.12  # the range's highest, whatever the above
    usual_look_probability: float = 0.2  # white, plain, half-transparent
    usual_opacity_range: Range = (0.3, 0.6)

    downscale_probability: float = 0.2  # shrink and enlarge again
    downscale_range: Range = (0.5, 0.9)
    blur_probability: float = 0.1
    blur_sigma_range_px: Range = (0.3, 1.0)
    noise_probability: float = 0.15  # luminance noise
    noise_std_range: Range = (1.0, 8.0)  # of 255 levels
    jpeg_probability: float = 0.5  # recompress
    jpeg_quality_range: Range = (35, 95)
    enlarge_probability: float = 0.5  # all that at a smaller size, then enlarged as in `segment`
    enlarge_range: Range = (1.0, 2.0)
    negative_probability: float = 0.0  # all that as a negative: one of the views of `segment` is
    ignore_undecidable: bool = True  # False: such pixels are labelled by coverage, as elsewhere

    def __post_init__(self):
        check_settings(self, TABLES)

    def layouts_of(self, kind: str) -> Weights:
        """Where marks of a kind lie."""
        return self.kind_layouts.get(kind, self.layouts)


# --- Compositing and the truth -----------------------------------------------------------------


BLEND_MODES = {  # (base, color), float32 in 0..1, to float32 in 0..1
    "normal": lambda base, color: color,
    "multiply": lambda base, color: base * color,
    "screen": lambda base, color: base + color - base * color,
    "overlay": lambda b, c: np.where(b <= 0.5, 2 * b * c, 1 - 2 * (1 - b) * (1 - c)),
    "soft_light": lambda b, c: (1 - 2 * c) * b * b + 2 * c * b,  # Pegtop's formula: no kink
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
    *layer_planes, alpha = cv2.split(layer.rgba)
    per_alpha = 1 / np.maximum(alpha, np.float32(1))  # where alpha is 0, nothing is drawn
    strength = alpha * np.float32(opacity / 255)
    planes = []
    for base, premultiplied in zip(cv2.split(image[layer.window]), layer_planes):
        base = base * np.float32(1 / 255)
        mixed = BLEND_MODES[blend_mode](base, np.minimum(premultiplied * per_alpha, 1))
        mixed = (np.clip(mixed, 0, 1) - base) * strength
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
        VISIBLE_LEVELS or more, before any recompression; 0 where nothing was drawn; IGNORE for
        the rest (antialiased rims, soft shadows, marks that do not show, such as white on snow).
    """
    change = functools.reduce(cv2.max, cv2.split(cv2.absdiff(before, after)))
    mask = np.multiply(coverage > 0, IGNORE, dtype=np.uint8)
    np.copyto(mask, 1, where=(coverage >= 128) & (change >= VISIBLE_LEVELS))
    return mask


# --- One sample: draw every random number, then apply them -------------------------------------


def make_layer(mark: MarkParams, shape: Shape) -> Layer:
    """The mark as it lies on an image of shape (height, width)."""
    length = mark.scale * (math.hypot(*shape) if mark.layout == "diagonal" else shape[1])
    stamp = MARKS[mark.kind](mark, max(4, length))
    return LAYOUTS[mark.layout](EFFECTS[mark.effect](paint(stamp, mark)), mark, shape)


def add_watermark(photo: np.ndarray, params: SampleParams) -> dict[str, np.ndarray]:
    """The marks on a photo, and every stage on the way; the same params give the same arrays.

    Args:
        photo: uint8, H x W x 3, RGB, any size; left untouched.
        params: from `draw_sample`; the fields in SCENE have no part here.

    Returns:
        photo, composite (with marks), image (after recompression and the like): uint8,
        H x W x 3, RGB; coverage: uint8, H x W, 0..255; mask: see `honest_mask`.
    """
    after, coverage = photo, np.zeros(photo.shape[:2], np.uint8)
    for mark in params.marks:
        layer = make_layer(mark, coverage.shape)
        after = composite(after, layer, mark.opacity, mark.blend_mode)
        coverage[layer.window] = cv2.max(coverage[layer.window], layer.rgba[..., 3])
    image, mask = degrade(after, params), honest_mask(photo, after, coverage)
    return dict(photo=photo, composite=after, image=image, coverage=coverage, mask=mask)


def render_sample(
    params: SampleParams, photo: np.ndarray, size: int, second: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """A sample of size x size px: a crop (`second` shines through), then `add_watermark`."""
    return add_watermark(photo_square(params, photo, size, second), params)


TABLES = dict(kinds=MARKS, layouts=LAYOUTS, colors=COLORS, effects=EFFECTS, blend_modes=BLEND_MODES)


# --- Torch -------------------------------------------------------------------------------------


class WatermarkDataset(Dataset):
    """Photos with synthetic watermarks.

    A sample is a pure function of (seed, epoch, index): `dataset[7]` is always the same sample,
    `dataset[3, 7]` is the one that takes its place in epoch 3 (`FreshSampler` asks for it). So many
    samples in a row as `marks_per_crop` says show the same crop of the same photo, each with marks
    of its own: the photo is decoded once, and only the marks tell the samples apart.

    A sample is a dictionary of tensors:
        image: uint8, 3 x S x S, RGB 0..255; a JPEG, as all that `segment` shows the network.
        mask: uint8, 1 x S x S, 1 = mark, 0 = none, IGNORE = undecidable (`honest_mask`).
        label: uint8, scalar, 1 = the photo carries a visible mark, 0 = it does not, or IGNORE.
    """

    def __init__(
        self,
        photos: list[ImageFile],
        logos: list[ImageFile],
        settings: WatermarkSettings | None = None,
        length: int | None = None,
        seed: int | str = 0,
        fonts: list[Font] | None = None,
        marks_per_crop: int = 1,
    ):
        """
        Args:
            photos, logos: from `find_images`.
            settings: what the samples look like.
            length: samples per epoch, 1 or more; by default one for each photo.
            seed: of all randomness.
            fonts: from `find_fonts`; by default those that matplotlib ships.
            marks_per_crop: samples in a row that show the same crop, 1 or more.
        """
        if marks_per_crop < 1 or (length is not None and length < 1):
            raise ValueError(f"length {length}, marks_per_crop {marks_per_crop}; use 1 or more.")
        self.photos, self.logos, self.seed = photos, logos, seed
        self.marks_per_crop, self._last_read = marks_per_crop, {}
        self.settings, self.length = settings or WatermarkSettings(), length or len(photos)
        self.fonts = fonts_that_write("".join(self.settings.texts), fonts, "fonts")
        check_files(photos, logos, self.fonts, self.settings.kinds)

    def __len__(self) -> int:
        return self.length

    def params(self, index) -> SampleParams:
        """What was drawn for a sample: an index, or (epoch, index)."""
        epoch, index = split_index(index, self.length)
        params, first = self._draw(epoch, index), index - index % self.marks_per_crop
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

    def with_mark(self, mark: OwnMark, settings: WatermarkSettings | None = None):
        """The same photos with a mark of one's own; settings: by default those of this dataset."""
        files = (self.photos, mark.logos, mark.settings(settings or self.settings))
        return WatermarkDataset(*files, self.length, self.seed, mark.fonts)

    def stages(self, index) -> dict[str, np.ndarray]:
        """A sample taken apart; see `render_sample`."""
        params = self.params(index)
        photo, *second = self._read([item.photo for item in (params, params.exposure) if item])
        return render_sample(params, photo, self.settings.image_size, *second)

    def __getitem__(self, index) -> dict[str, torch.Tensor]:
        stages, ignore = self.stages(index), self.settings.ignore_undecidable
        mask = stages["mask"] if ignore else np.uint8(stages["coverage"] >= 128)
        return to_tensors(stages["image"], mask)


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
        settings, seed: see `WatermarkDataset`; validation draws marks of its own from the seed.
        train_length, val_length: samples per epoch; by default one for each photo.
        val_fraction: share of photos and of logos kept for validation.
        held_out: a manifest of files that neither may use, the benchmark's; None: no such files.
        marks_per_crop: of the training samples; validation has a photo for each.
    """
    train, val, fonts = find_sides(photos, logos, fonts, val_fraction, held_out)
    train = WatermarkDataset(*train, settings, train_length, seed, fonts, marks_per_crop)
    return train, WatermarkDataset(*val, settings, val_length, f"{seed} validation", fonts)
