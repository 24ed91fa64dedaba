"""Makes training samples: photos with synthetic watermarks and their exact masks.

`WatermarkSettings` says what samples look like. `drawing.draw_sample` draws every random number of
a sample from these settings. `photos.draw_scene` applies those of the photo, `add_watermark` the
others. To change the augmentation, change a default below or pass your own settings. To add a kind
of mark, a layout, an effect, an edit or a blend mode, write a function, add it to its table (in
samples/marks.py, layouts.py, photos.py or compositing.py), and give it a weight below. Add a kind
that needs a logo, a seed or words to LOGO_KINDS, SEEDED_KINDS or text.WORDS, too. A layout also
needs an entry in `scales` and `rotations_deg`. An edit has no weight: it needs one in EDIT_BOUNDS
and `edits`.

`python dataset.py --grid new.png --before old.png` draws samples, so that you see a change.

Conventions: images are uint8, H x W x 3, RGB. A stamp is one copy of a mark on a transparent
ground: uint8, h x w x 4, RGB premultiplied with alpha. Positions are (x, y), angles
counter-clockwise.
"""

import argparse
import copy
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

# Usual places and colours of some kinds. They multiply the weights of the settings.
KIND_LAYOUTS = dict(
    signature=dict(inside=1, corner=1, lower_right=8), ai_label=dict(lower_right=1),
    date_id=dict(corner=1), squares=dict(lower_right=40, corner=1),
)  # fmt: skip
KIND_COLORS = dict(date_id=dict(warm=32, white=3, tint=1, black=1), squares=dict(original=1))

Probability = Annotated[float, number(0, 1)]


def _table(**entries):
    return field(default_factory=lambda: copy.deepcopy(entries))


@dataclass(frozen=True)
class WatermarkSettings:
    """What the training photos look like. Ranges are (low, high), both included.

    Weights are relative: {"logo": 3, "text": 1} draws a logo three times in four. A missing name is
    never drawn. In `scales`, `rotations_deg` and `edits` a missing name keeps its default. Lengths
    are fractions of the image's side.
    """

    image_size: Annotated[int, multiple(32, 8192)] = 320  # side of the samples, px
    # Side of the crop / short side of the photo. Above 1 the photo is mirrored at its edges.
    crop_range: Annotated[Range, rising(0.05, 4)] = (0.5, 1.15)
    native_probability: Probability = 0.5  # crop a large photo at full resolution:
    native_range: Annotated[Range, rising(0.5, 8)] = (1.0, 2.0)  # photo pixels per sample pixel
    flip_probability: Probability = 0.5  # mirror the photo (never the mark)
    reduce_probability: Probability = 0.2  # shrink the photo first: no JPEG blocks
    reduce_range: Annotated[Range, rising(0.1, 1)] = (0.35, 0.6)
    edit_probability: Probability = 0.08  # of each edit of the photo, before the marks
    edits: Annotated[Mapping[str, Range | None], each(EDIT_BOUNDS)] = _table(  # None: never
        contrast=(0.6, 1.7), gamma=(0.6, 1.7), brightness=(0.6, 1.6), levels=(3, 16),
        sharpness=(0.3, 2.0), noise=(2, 20), bars=(0.01, 0.22), collage=(0.0, 0.03),
    )  # fmt: skip

    clean_probability: Probability = 0.5  # photos without any mark
    several_probability: Probability = 0.1  # two or three marks instead of one
    kinds: Annotated[Weights, weights(MARKS)] = _table(
        logo=6, text=5, lockup=4, signature=1, ai_label=1, date_id=2, squares=0.5,
    )  # fmt: skip
    # Texts of the kinds text and lockup. Empty: random words, names, dates (text.py).
    texts: Annotated[tuple[str, ...], filled_texts] = ()
    text_styles: Annotated[tuple[str, ...], names(TEXTS)] = tuple(TEXTS)  # all equally often
    layouts: Annotated[Weights, weights(LAYOUTS)] = _table(
        single=4, inside=4, centre=4, corner=7, diagonal=2, grid=2, brick=2, band=1, lattice=1,
        edge=1, lower_right=0.5,
    )  # fmt: skip
    # Layouts of single kinds, instead of `layouts`. None: `layouts` times KIND_LAYOUTS.
    kind_layouts: Annotated[ByKind, each(MARKS, weights(LAYOUTS))] = None
    mark_scale: Annotated[float, number(0.01, 10)] = 1.0  # enlarges all marks
    # Long side of the mark / image width; in the layout diagonal, / image diagonal.
    scales: Annotated[Mapping[str, Range], each(LAYOUTS, rising(0.01, 10))] = _table(
        single=(0.15, 1.3), inside=(0.15, 0.9), corner=(0.04, 0.4), diagonal=(0.6, 1.1),
        grid=(0.12, 0.7), brick=(0.12, 0.7), centre=(0.2, 1.1), lower_right=(0.04, 0.25),
        band=(0.3, 0.95), lattice=(0.12, 0.7), edge=(0.15, 0.9),
    )  # fmt: skip
    rotations_deg: Annotated[Mapping[str, Range], each(LAYOUTS, rising(-360, 360))] = _table(
        single=(-180, 180), inside=(-180, 180), grid=(-50, 50), brick=(-50, 50), lattice=(-10, 10),
        corner=(0, 0), centre=(0, 0), lower_right=(0, 0), edge=(0, 0), diagonal=(-5, 5),
        band=(0, 0),  # never turned
    )  # fmt: skip
    upright_probability: Probability = 0.4  # rotation 0, as most real marks have
    stretch_range: Annotated[Range, rising(0.1, 10)] = (0.6, 1.6)  # factor on width / height
    logo_stretch_range: Annotated[Range, rising(0.1, 10)] = (0.25, 4.0)  # the same for plain logos
    tile_gap_range: Annotated[Range, rising(0, 10)] = (0.1, 1.0)  # fraction of the mark's long side

    colors: Annotated[Weights, weights(COLORS)] = _table(
        original=4, desaturated=1, white=4, black=3, grey=3, tint=4, warm=0.5,
    )  # fmt: skip
    # Colours of single kinds, instead of `colors`. None: `colors` times KIND_COLORS.
    kind_colors: Annotated[ByKind, each(MARKS, weights(COLORS))] = None
    effects: Annotated[Weights, weights(EFFECTS)] = _table(
        none=12, outline=2, shadow=3, emboss=1, hollow=1, plate=1, border=1,
    )  # fmt: skip
    blend_modes: Annotated[Weights, weights(BLEND_MODES)] = _table(
        normal=10, multiply=2, screen=2, overlay=2, soft_light=2,
    )  # fmt: skip
    opacity_range: Annotated[Range, rising(0, 1)] = (0.08, 1.0)
    opacity_power: Annotated[float, number(0.01, 100)] = 1.0  # above 1: more faint marks
    highest_opacity_probability: Probability = 0.12  # the highest opacity of the range
    # A white mark, plain or with a shadow, of this opacity, if the settings above allow it.
    usual_look_probability: Probability = 0.2
    usual_opacity_range: Annotated[Range, rising(0, 1)] = (0.3, 1.0)

    downscale_probability: Probability = 0.2  # shrink and enlarge again
    downscale_range: Annotated[Range, rising(0.1, 1)] = (0.5, 0.9)
    blur_probability: Probability = 0.1
    blur_sigma_range_px: Annotated[Range, rising(0, 100)] = (0.3, 1.0)
    noise_probability: Probability = 0.15  # luminance noise
    noise_std_range: Annotated[Range, rising(0, 255)] = (1.0, 8.0)  # of 255 levels
    jpeg_probability: Probability = 0.5  # recompress the image
    jpeg_quality_range: Annotated[Range, rising(1, 100)] = (35, 95)
    enlarge_probability: Probability = 0.5  # do the above at a smaller size, then enlarge
    enlarge_range: Annotated[Range, rising(1, 10)] = (1.0, 2.0)
    negative_probability: Probability = 0.1  # invert the result, as one view of `segment`
    ignore_undecidable: bool = True  # False: the mask is 1 from half coverage on, else 0

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
        """Weights of the layouts of a kind."""
        return weights_of(kind, self.layouts, self.kind_layouts, KIND_LAYOUTS)

    def colors_of(self, kind: str) -> Weights:
        """Weights of the colours of a kind."""
        return weights_of(kind, self.colors, self.kind_colors, KIND_COLORS)


# --- One sample: draw every random number, then apply them -------------------------------------


def make_layer(mark: MarkParams, shape: Shape) -> np.ndarray:
    """The mark at its place on an image of shape (height, width): uint8, H x W x 4, as a stamp."""
    length = mark.scale * (math.hypot(*shape) if mark.layout == "diagonal" else shape[1])
    stamp = MARKS[mark.kind](mark, max(4, length))
    return LAYOUTS[mark.layout](EFFECTS[mark.effect](paint(stamp, mark)), mark, shape)


def add_watermark(photo: np.ndarray, params: SampleParams) -> dict[str, np.ndarray]:
    """Draws the marks on a photo; gives all stages. The same params give the same arrays.

    Args:
        photo: uint8, H x W x 3, RGB, any size; left untouched.
        params: from `draw_sample`; the fields in SCENE are not used here.

    Returns:
        photo, composite (with marks), image (after recompression and the like): uint8,
        H x W x 3, RGB; coverage: uint8, H x W, 0..255; mask: see `honest_mask`.
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

    A sample is a pure function of (seed, epoch, index): `dataset[7]` is always the same sample,
    `dataset[3, 7]` takes its place in epoch 3 (`FreshSampler` asks for it). The photos come in
    shuffled rounds, and the weight of a photo says how often it comes. `marks_per_crop` samples in
    a row show the same crop with different marks, so that they differ only in the marks.

    A sample is a dictionary of tensors:
        image: uint8, 3 x S x S, RGB 0..255; saved as a JPEG, as `segment` does with every view.
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
            photos, logos: from `find_photos` and `find_images`. Kinds without logos need none.
            settings: what the samples look like.
            length: samples per epoch, 1 or more; by default one for each photo.
            seed: decides all random numbers.
            fonts: from `find_fonts`; by default the fonts of matplotlib.
            marks_per_crop: samples in a row that show the same crop, 1 or more.
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
        if index == first:  # the first of its crop: one draw is enough
            return params
        scene = self._draw(epoch, first)
        return replace(params, **{name: getattr(scene, name) for name in SCENE})

    def _draw(self, epoch: int, index: int) -> SampleParams:
        rng = Random(f"{self.seed} {epoch} {index}")  # hashed: samples are independent
        settings, crops = self.settings, math.ceil(self.length / self.marks_per_crop)
        place = epoch * crops + index // self.marks_per_crop
        photo = shuffled_photo(place, self._weights, self.seed)
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
    """Training and validation datasets without a common photo or logo, if there are two or more.

    Args:
        photos: folders, see `files.find_photos`; by default the sample photos of scikit-image.
        logos, fonts: folders; text marks use matplotlib's fonts and those of `fonts`. Without
            logos (None), validation draws only kinds of marks that need none.
        settings, seed: see `WatermarkDataset`; validation draws marks of its own from the seed.
        train_length, val_length: samples per epoch; by default one for each photo.
        val_fraction: share of photos and of logos kept for validation.
        held_out: a manifest of the test set's files, which neither may use; None: no such files.
        marks_per_crop: for training; each validation sample has its own crop.
        val_settings: for validation. By default the default settings with the training's
            image_size, whatever `settings` says, so that trainings can be compared.
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
    parser = argparse.ArgumentParser(description="Draws samples, to see what a change did.")
    parser.add_argument("--grid", required=True, metavar="FILE", help="picture to write")
    parser.add_argument("--before", metavar="FILE", help="an older grid, to show beside the new")
    parser.add_argument("--photos", metavar="DIR", help="by default scikit-image's sample photos")
    options = parser.parse_args()
    try:
        write_grid(make_datasets(options.photos)[0], options.grid, options.before)
    except (OSError, ValueError) as error:
        sys.exit(f"dataset.py: {error}")


if __name__ == "__main__":
    main()
