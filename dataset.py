"""Makes training samples: photos with synthetic watermarks and their exact masks.

To change the samples, change a default in `WatermarkSettings` or pass your own settings. To see
what a change does, draw samples: `python dataset.py --grid new.png --before old.png`.

`drawing.draw_sample` draws all random numbers of a sample. `photos.draw_scene` then makes the crop
of the photo, and `add_watermark` draws the marks on it.

To add a kind of mark, a layout, an effect, a blend mode or an edit, write a function, add it to its
table (MARKS, LAYOUTS, EFFECTS, BLEND_MODES, EDITS in samples/), and give it a weight below.
A kind that needs a logo, a seed or words also goes into LOGO_KINDS, SEEDED_KINDS or text.WORDS.
A layout also needs an entry in `scales` and in `rotations_deg`. An edit has no weight: it needs an
entry in EDIT_BOUNDS and in `edits`.

Conventions: images are uint8, H x W x 3, RGB. A stamp is one copy of a mark on a transparent
background: uint8, h x w x 4, RGB premultiplied with alpha. Positions are (x, y). Positive angles
turn counter-clockwise.
"""

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from random import Random
from typing import Annotated

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from samples.bounds import check_all, each, filled_texts, multiple, names, number, rising, weights
from samples.compositing import BLEND_MODES, composite, honest_mask
from samples.drawing import SCENE, ByKind, Range, SampleParams, Weights, draw_sample, weights_of
from samples.files import ImageFile
from samples.grid import write_grid
from samples.layouts import LAYOUTS, Shape
from samples.loading import split_index, to_tensors
from samples.marks import COLORS, EFFECTS, LOGO_KINDS, MARKS, MarkParams, paint
from samples.own_mark import OwnMark
from samples.photos import EDIT_BOUNDS, degrade, draw_scene, shuffled_photo
from samples.splits import find_sides
from samples.text import TEXTS, Font, find_fonts, fonts_that_write

ROOT = Path(__file__).parent

# The layouts and colours that some kinds of marks mostly have. These weights multiply those of the
# settings `layouts` and `colors`.
KIND_LAYOUTS = dict(
    signature=dict(inside=1, corner=1, lower_right=8), ai_label=dict(lower_right=1),
    date_id=dict(corner=1), squares=dict(lower_right=40, corner=1),
)  # fmt: skip
KIND_COLORS = dict(date_id=dict(warm=32, white=3, tint=1, black=1), squares=dict(original=1))

Probability = Annotated[float, number(0, 1)]


def _table(**entries):
    return field(default_factory=entries.copy)


@dataclass(frozen=True)
class WatermarkSettings:
    """What the samples look like.

    A probability is that of one sample or of one mark. A value is drawn between the two ends of a
    range. Weights are relative: {"logo": 3, "text": 1} draws three logos for each text, and nothing
    else. In `scales`, `rotations_deg` and `edits`, a name that you leave out keeps its default.
    samples/layouts.py describes each layout, samples/marks.py each kind and effect.
    """

    # The photo. Each sample is a square crop of one.
    image_size: Annotated[int, multiple(32, 8192)] = 320  # width and height of a sample, px
    # Side of the crop / shorter side of the photo. Above 1, mirroring extends the photo.
    crop_range: Annotated[Range, rising(0.05, 4)] = (0.5, 1.15)
    native_probability: Probability = 0.5  # make the crop of a large photo smaller, to show details
    native_range: Annotated[Range, rising(0.5, 8)] = (1.0, 2.0)  # photo pixels per sample pixel
    flip_probability: Probability = 0.5  # mirror the photo, never the mark
    reduce_probability: Probability = 0.2  # shrink the photo first, which removes JPEG artefacts
    reduce_range: Annotated[Range, rising(0.1, 1)] = (0.35, 0.6)  # new size / old size
    edit_probability: Probability = 0.08  # of each edit; edits change the photo, not the marks
    # Range of the amount of each edit; `photos.EDITS` explains it. None: never.
    edits: Annotated[Mapping[str, Range | None], each(EDIT_BOUNDS)] = _table(
        contrast=(0.6, 1.7), gamma=(0.6, 1.7), brightness=(0.6, 1.6), levels=(3, 16),
        sharpness=(0.3, 2.0), noise=(2, 20), bars=(0.01, 0.22), collage=(0.0, 0.03),
    )  # fmt: skip

    # The marks: how many, of what kind, where, how large.
    clean_probability: Probability = 0.5  # no mark
    several_probability: Probability = 0.1  # two or three marks instead of one
    kinds: Annotated[Weights, weights(MARKS)] = _table(  # lockup: a logo beside or above a word
        logo=6, text=5, lockup=4, signature=1, ai_label=1, date_id=2, squares=0.5,
    )  # fmt: skip
    # What the kinds text and lockup say. Empty: random texts.
    texts: Annotated[tuple[str, ...], filled_texts] = ()
    text_styles: Annotated[tuple[str, ...], names(TEXTS)] = tuple(TEXTS)  # of random texts
    layouts: Annotated[Weights, weights(LAYOUTS)] = _table(
        single=4, inside=4, centre=4, corner=7, diagonal=2, grid=2, brick=2, band=1, lattice=1,
        edge=1, lower_right=0.5,
    )  # fmt: skip
    # Layouts by kind of mark: {"text": {"grid": 1}}. None: `layouts` times KIND_LAYOUTS.
    kind_layouts: Annotated[ByKind, each(MARKS, weights(LAYOUTS))] = None
    mark_scale: Annotated[float, number(0.01, 10)] = 1.0  # factor on the size of all marks
    # Longer side of the mark / image width. For the layout diagonal: / diagonal of the image.
    scales: Annotated[Mapping[str, Range], each(LAYOUTS, rising(0.01, 10))] = _table(
        single=(0.15, 1.3), inside=(0.15, 0.9), corner=(0.04, 0.4), diagonal=(0.6, 1.1),
        grid=(0.12, 0.7), brick=(0.12, 0.7), centre=(0.2, 1.1), lower_right=(0.04, 0.25),
        band=(0.3, 0.95), lattice=(0.12, 0.7), edge=(0.15, 0.9),
    )  # fmt: skip
    # Added to the direction of the layout: diagonal, or up and down for edge.
    rotations_deg: Annotated[Mapping[str, Range], each(LAYOUTS, rising(-360, 360))] = _table(
        single=(-180, 180), inside=(-180, 180), grid=(-50, 50), brick=(-50, 50), lattice=(-10, 10),
        corner=(0, 0), centre=(0, 0), lower_right=(0, 0), edge=(0, 0), diagonal=(-5, 5),
        band=(0, 0),  # has no effect
    )  # fmt: skip
    upright_probability: Probability = 0.4  # rotation 0 instead, as most real marks have
    stretch_range: Annotated[Range, rising(0.1, 10)] = (0.6, 1.6)  # factor on width / height
    logo_stretch_range: Annotated[Range, rising(0.1, 10)] = (0.25, 4.0)  # same, of the kind logo
    tile_gap_range: Annotated[Range, rising(0, 10)] = (0.1, 1.0)  # gap / longer side of the mark

    # The look of the marks.
    colors: Annotated[Weights, weights(COLORS)] = _table(
        original=4, desaturated=1, white=4, black=3, grey=3, tint=4, warm=0.5,
    )  # fmt: skip
    # Colours by kind of mark: {"text": {"white": 1}}. None: `colors` times KIND_COLORS.
    kind_colors: Annotated[ByKind, each(MARKS, weights(COLORS))] = None
    effects: Annotated[Weights, weights(EFFECTS)] = _table(
        none=12, outline=2, shadow=3, emboss=1, hollow=1, plate=1, border=1,
    )  # fmt: skip
    blend_modes: Annotated[Weights, weights(BLEND_MODES)] = _table(
        normal=10, multiply=2, screen=2, overlay=2, soft_light=2,
    )  # fmt: skip
    opacity_range: Annotated[Range, rising(0, 1)] = (0.08, 1.0)
    opacity_power: Annotated[float, number(0.01, 100)] = 1.0  # above 1: more faint marks
    highest_opacity_probability: Probability = 0.12  # exactly the high end of opacity_range
    # A white mark, plain or with a shadow, as far as the settings above allow it.
    usual_look_probability: Probability = 0.2
    usual_opacity_range: Annotated[Range, rising(0, 1)] = (0.3, 1.0)  # of such a mark

    # What happens to the image after the marks are drawn.
    downscale_probability: Probability = 0.2  # shrink, then enlarge to the old size
    downscale_range: Annotated[Range, rising(0.1, 1)] = (0.5, 0.9)  # new size / old size
    blur_probability: Probability = 0.1
    blur_sigma_range_px: Annotated[Range, rising(0, 100)] = (0.3, 1.0)
    noise_probability: Probability = 0.15  # grey noise, the same in each channel
    noise_std_range: Annotated[Range, rising(0, 255)] = (1.0, 8.0)  # levels, of 255
    jpeg_probability: Probability = 0.5  # compress as JPEG
    jpeg_quality_range: Annotated[Range, rising(1, 100)] = (35, 95)
    enlarge_probability: Probability = 0.5  # do these four steps at a smaller size, then enlarge
    enlarge_range: Annotated[Range, rising(1, 10)] = (1.0, 2.0)  # final size / smaller size
    negative_probability: Probability = 0.1  # invert the image, as `segment` does in one view
    # True: the mask is IGNORE where the mark hardly shows. False: it is 1 where the mark covers at
    # least half of the pixel, else 0.
    ignore_undecidable: bool = True

    def __post_init__(self):
        check_all(self)
        for item in fields(self):
            if item.name in ("scales", "rotations_deg", "edits"):
                merged = item.default_factory() | getattr(self, item.name)
                object.__setattr__(self, item.name, merged)
        for name in ("scales", "rotations_deg"):
            if missing := LAYOUTS.keys() - getattr(self, name).keys():
                raise ValueError(f"{name} has no {', '.join(missing)}; give low and high for it.")

    def layouts_of(self, kind: str) -> Weights:
        """The weights of the layouts for a kind of mark."""
        return weights_of(kind, self.layouts, self.kind_layouts, KIND_LAYOUTS)

    def colors_of(self, kind: str) -> Weights:
        """The weights of the colours for a kind of mark."""
        return weights_of(kind, self.colors, self.kind_colors, KIND_COLORS)


# --- Drawing the marks of one sample -----------------------------------------------------------


def make_layer(mark: MarkParams, shape: Shape) -> np.ndarray:
    """The mark at its place on an empty layer of shape (height, width): uint8, H x W x 4."""
    length = mark.scale * (math.hypot(*shape) if mark.layout == "diagonal" else shape[1])
    stamp = MARKS[mark.kind](mark, max(4, length))
    return LAYOUTS[mark.layout](EFFECTS[mark.effect](paint(stamp, mark)), mark, shape)


def add_watermark(photo: np.ndarray, params: SampleParams) -> dict[str, np.ndarray]:
    """Draws the marks on a photo and returns every stage. Nothing here is random.

    Args:
        photo: uint8, H x W x 3, RGB, any size; stays unchanged.
        params: from `draw_sample`. The fields in SCENE are not used here.

    Returns:
        photo, composite (the photo with marks), image (the composite after blur, noise, JPEG and
        so on): uint8, H x W x 3, RGB; coverage: uint8, H x W, 0..255; mask: see `honest_mask`.
    """
    after, coverage = photo, np.zeros(photo.shape[:2], np.uint8)
    for mark in params.marks:
        layer = make_layer(mark, coverage.shape)
        after = composite(after, layer, mark.opacity, mark.blend_mode)
        coverage = cv2.max(coverage, layer[..., 3])
    image, mask = degrade(after, params), honest_mask(photo, after, coverage)
    return dict(photo=photo, composite=after, image=image, coverage=coverage, mask=mask)


# --- Torch -------------------------------------------------------------------------------------


class WatermarkDataset(Dataset):
    """Photos with synthetic watermarks.

    A sample depends only on the seed, the epoch and the index. `dataset[7]` is sample 7 of epoch 0,
    `dataset[3, 7]` is sample 7 of epoch 3. Every photo comes once before any comes again; a photo
    of weight 2 comes twice. Groups of `marks_per_crop` samples show the same crop with different
    marks.

    A sample is a dictionary of tensors:
        image: uint8, 3 x S x S, RGB 0..255, after JPEG compression, as `segment` does it.
        mask: uint8, 1 x S x S, 1 = mark, 0 = no mark, IGNORE = undecidable; see `honest_mask`.
        label: uint8, scalar, 1 = the mark is visible, 0 = no mark, IGNORE = hardly visible.
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
            photos, logos: from `find_photos` and `find_images`. `logos` may be empty if the
                settings draw no kind in LOGO_KINDS.
            settings: what the samples look like.
            length: samples per epoch, 1 or more; by default one for each photo.
            seed: decides all random numbers.
            fonts: from `find_fonts`; by default the fonts of matplotlib.
            marks_per_crop: number of samples that share a crop, 1 or more.
        """
        if marks_per_crop < 1 or (length is not None and length < 1):
            raise ValueError(f"length {length}, marks_per_crop {marks_per_crop}; use 1 or more.")
        self.photos, self.logos, self.seed = photos, logos, seed
        self.marks_per_crop, self._weights = marks_per_crop, tuple(p.weight for p in photos)
        self.settings, self.length = settings or WatermarkSettings(), length or len(photos)
        fonts = find_fonts() if fonts is None else fonts
        self.fonts = fonts_that_write("".join(self.settings.texts), fonts, "fonts")
        needs_logos = any(self.settings.kinds.get(kind) for kind in LOGO_KINDS)
        if not photos or not self.fonts or (needs_logos and not logos):
            raise ValueError(
                f"Got {len(photos)} photos, {len(logos)} logos, {len(self.fonts)} fonts; give at "
                f"least one of each. Kinds other than {', '.join(LOGO_KINDS)} need no logos."
            )

    def __len__(self) -> int:
        return self.length

    def params(self, index) -> SampleParams:
        """The random parameters of a sample, given by its index or by (epoch, index)."""
        epoch, index = split_index(index, self.length)
        params, first = self._draw(epoch, index), index - index % self.marks_per_crop
        if index == first:
            return params
        scene = self._draw(epoch, first)
        return replace(params, **{name: getattr(scene, name) for name in SCENE})

    def _draw(self, epoch: int, index: int) -> SampleParams:
        rng = Random(f"{self.seed} {epoch} {index}")  # Random hashes the text
        settings, crops = self.settings, math.ceil(self.length / self.marks_per_crop)
        crop_number = epoch * crops + index // self.marks_per_crop
        photo = shuffled_photo(crop_number, self._weights, self.seed)
        params = draw_sample(settings, rng, len(self.photos), self.logos, self.fonts)
        (side, x, y), rng = params.crop, Random(f"native {self.seed} {epoch} {index}")
        if rng.random() < settings.native_probability:
            native_px = settings.image_size * rng.uniform(*settings.native_range)
            side = min(side, native_px / self.photos[photo].short_px)
        return replace(params, photo=photo, crop=(side, x, y))

    @property
    def files(self) -> dict[str, list]:
        """The source files of the samples, as arguments of `splits.make_manifest`."""
        return dict(photos=self.photos, logos=self.logos, fonts=self.fonts)

    def with_mark(self, mark: OwnMark, settings: WatermarkSettings):
        """A dataset of the same photos with your own mark."""
        files = (self.photos, mark.logos, mark.settings(settings))
        return WatermarkDataset(*files, self.length, self.seed, mark.fonts)

    def stages(self, index) -> dict[str, np.ndarray]:
        """All stages of a sample; see `add_watermark`."""
        params = self.params(index)
        return add_watermark(draw_scene(params, self.photos, self.settings.image_size), params)

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
    val_settings: WatermarkSettings | None = None,
) -> tuple[WatermarkDataset, WatermarkDataset]:
    """Training and validation datasets, which share no photo and no logo.

    Args:
        photos: folders, see `files.find_photos`; by default the sample photos of scikit-image.
        logos: a folder. A single logo serves training and validation. None: validation draws only
            the kinds of marks that need no logo.
        fonts: a folder of fonts to use besides those of matplotlib.
        settings, seed: see `WatermarkDataset`. Training and validation draw different marks.
        train_length, val_length: samples per epoch; by default one for each photo.
        val_fraction: share of the photos and of the logos that goes to validation.
        held_out: a manifest of files to leave out, such as those of the test set; None: use all.
        marks_per_crop: of training. Each validation sample has its own crop.
        val_settings: settings of validation. The default is `WatermarkSettings` with the image
            size of `settings`, so that trainings with different settings can be compared.
    """
    settings = settings or WatermarkSettings()
    if val_settings is None:
        val_settings = WatermarkSettings(image_size=settings.image_size)
        if logos is None:
            kinds = {name: n for name, n in val_settings.kinds.items() if name not in LOGO_KINDS}
            val_settings = replace(val_settings, kinds=kinds)
    train, val, fonts = find_sides(photos, logos, fonts, val_fraction, held_out)
    train = WatermarkDataset(*train, settings, train_length, seed, fonts, marks_per_crop)
    return train, WatermarkDataset(*val, val_settings, val_length, f"{seed} validation", fonts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws a grid of samples in one picture.")
    parser.add_argument("--grid", required=True, metavar="FILE", help="picture to write")
    parser.add_argument("--before", metavar="FILE", help="older grid, shown beside the new one")
    parser.add_argument("--photos", metavar="DIR", help="default: sample photos of scikit-image")
    options = parser.parse_args()
    try:
        write_grid(make_datasets(options.photos)[0], options.grid, options.before)
    except (OSError, ValueError) as error:
        sys.exit(f"dataset.py: {error}")


if __name__ == "__main__":
    main()
