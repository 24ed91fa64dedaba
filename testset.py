"""The frozen test set: photos with synthetic marks, by slice, the same for everybody.

A test image depends only on (seed, slice, index) and on the files: photos, logos and fonts are
taken in the order of their content hash, whatever their names. Protocols of papers (see SLICES)
follow arXiv:2012.07007 (LOGO-*) and arXiv:2012.07616 (CLWD). Uncertain there, and chosen here: that
"size" is the mark's long side over the image's, LOGO-gray's ranges (those of L and H together), and
that marks lie whole inside, shrunk where a turned mark would not.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import cv2
import numpy as np

from dataset import WatermarkSettings, add_watermark, crop_photo, draw_sample, image_label
from images import IGNORE, ImageFile, find_images, read_image
from marks import MarkParams, load_logo
from text import Font

MAX_DRAWS = 200  # a mark that does not show at all is drawn again, so often
PROTOCOL_PX = 256  # side of the images of LOGO-* and CLWD
MEGAPIXEL = 1_000_000


@dataclass(frozen=True)
class Slice:
    """One kind of test image."""

    settings: WatermarkSettings
    square: bool = False  # a random square of the photo at PROTOCOL_PX, instead of the whole photo
    min_pixels: int = 0  # smaller photos are enlarged to this many pixels
    adjust: Callable[[MarkParams, Random], MarkParams] = lambda mark, rng: mark


@dataclass(frozen=True)
class Case:
    """One test image and its truths."""

    name: str
    image: np.ndarray  # uint8, H x W x 3, RGB
    mask: np.ndarray  # uint8, H x W: 1, 0 or IGNORE; see `dataset.honest_mask`
    alpha_mask: np.ndarray  # uint8, H x W: 1 where anything was drawn, as papers count it


def _fit_inside(mark: MarkParams, width: float, height: float) -> MarkParams:
    """The logo at a size in px, shrunk if it would not fit into the image once turned."""
    turn = math.radians(mark.rotation_deg)
    across = width * abs(math.cos(turn)) + height * abs(math.sin(turn))
    down = width * abs(math.sin(turn)) + height * abs(math.cos(turn))
    fit = min(1, PROTOCOL_PX / max(across, down))
    logo_height, logo_width = load_logo(mark.source).shape[:2]
    stretch = (width / height) / (logo_width / logo_height)
    return replace(mark, scale=max(width, height) * fit / PROTOCOL_PX, stretch=stretch)


def _logo_size(mark: MarkParams, rng: Random) -> MarkParams:
    """The drawn size is that of the long side; the logo keeps its shape."""
    height, width = load_logo(mark.source).shape[:2]
    zoom = mark.scale * PROTOCOL_PX / max(height, width)
    return _fit_inside(mark, width * zoom, height * zoom)


def _clwd_size(mark: MarkParams, rng: Random) -> MarkParams:
    """Width and height are drawn independently of each other, 10 to 256 px before turning."""
    return _fit_inside(mark, rng.uniform(10, PROTOCOL_PX), rng.uniform(10, PROTOCOL_PX))


_PLAIN = WatermarkSettings(
    clean_probability=0, several_probability=0, opacity_range=(0.2, 0.9), opacity_power=1,
    blend_modes={"normal": 1},
    downscale_probability=0, blur_probability=0, noise_probability=0,
    jpeg_probability=1, jpeg_quality_range=(85, 95),
)  # fmt: skip


def _paper(low: float, high: float, color: str = "original") -> WatermarkSettings:
    """One logo of a paper's protocol: size and opacity in the same range, any angle."""
    return replace(
        _PLAIN, kinds={"logo": 1}, layouts={"inside": 1}, scales={"inside": (low, high)},
        upright_probability=0, stretch_range=(1, 1), colors={color: 1}, effects={"none": 1},
        opacity_range=(low, high), jpeg_probability=0,
    )  # fmt: skip


_CLWD = replace(_paper(0.3, 0.7), jpeg_probability=1, jpeg_quality_range=(90, 95))
_TILES = {"grid": 1, "brick": 1}
_BLENDS = {name: 1 for name in WatermarkSettings().blend_modes if name != "normal"}

SLICES = {
    "LOGO-L": Slice(_paper(0.35, 0.6), square=True, adjust=_logo_size),
    "LOGO-H": Slice(_paper(0.6, 0.85), square=True, adjust=_logo_size),
    "LOGO-gray": Slice(_paper(0.35, 0.85, "desaturated"), square=True, adjust=_logo_size),
    "CLWD": Slice(_CLWD, square=True, adjust=_clwd_size),
    "text": Slice(replace(_PLAIN, kinds={"text": 1}, layouts={"inside": 2, "corner": 1})),
    "tiled": Slice(replace(_PLAIN, layouts=_TILES)),
    "faint": Slice(replace(_PLAIN, opacity_range=(0.08, 0.2))),
    "opaque": Slice(replace(_PLAIN, opacity_range=(0.95, 1.0))),
    "blend": Slice(replace(_PLAIN, blend_modes=_BLENDS)),
    "corner": Slice(
        replace(_PLAIN, layouts={"corner": 1}, scales={"corner": (0.04, 0.1)}),
        min_pixels=MEGAPIXEL,
    ),
    "recompressed": Slice(
        replace(_PLAIN, downscale_probability=1, jpeg_quality_range=(35, 60)),
    ),
    "clean": Slice(replace(_PLAIN, clean_probability=1)),
}


def _enlarge(photo: np.ndarray, min_pixels: int) -> np.ndarray:
    zoom = math.sqrt(min_pixels / (photo.shape[0] * photo.shape[1]))
    if zoom <= 1:
        return photo
    size = (math.ceil(photo.shape[1] * zoom), math.ceil(photo.shape[0] * zoom))
    return cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)


def render_case(name: str, index: int, seed: int, photos, logos, fonts) -> Case:
    """Test image `index` of a slice; arguments as for `render_cases`."""
    kind, rng = SLICES[name], Random(f"{seed} {name} {index}")
    photo = photos[index % len(photos)].read()
    for _ in range(MAX_DRAWS):
        params = draw_sample(kind.settings, rng, 1, logos, fonts)
        marks = tuple(kind.adjust(mark, rng) for mark in params.marks)
        background = (
            crop_photo(photo, (1.0, *params.crop[1:]), False, PROTOCOL_PX)
            if kind.square
            else _enlarge(photo, kind.min_pixels)
        )
        stages = add_watermark(background, replace(params, marks=marks))
        if not marks or image_label(stages["mask"]) == 1:
            alpha_mask = (stages["coverage"] > 0).astype(np.uint8)
            return Case(f"{name}/{index:04d}", stages["image"], stages["mask"], alpha_mask)
    raise ValueError(f"No visible mark in {MAX_DRAWS} draws of {name} {index}: use other photos.")


def render_cases(
    name: str, count: int, seed: int, photos: list[ImageFile], logos: list[ImageFile],
    fonts: list[Font],
) -> Iterator[Case]:  # fmt: skip
    """`count` test images of the slice `name`, a key of SLICES.

    Photos are used in turn, each as often as any other; logos and fonts are drawn.
    """
    photos, logos, fonts = (
        sorted(files, key=lambda file: file.sha256) for files in (photos, logos, fonts)
    )
    for index in range(count):
        yield render_case(name, index, seed, photos, logos, fonts)


def pair_files(images, masks) -> list[tuple[str, Path, Path]]:
    """Images and masks of two folders that share a relative name, apart from the ending.

    Returns:
        (name, image path, mask path), sorted by name.

    Raises:
        FileNotFoundError: a folder is missing or holds no image.
        ValueError: names that do not pair up, or two files of one name.
    """
    sides = []
    for folder in (images, masks):
        named = {}
        for file in find_images(folder):
            name = file.path.relative_to(folder).with_suffix("").as_posix()
            if name in named:
                raise ValueError(f"{named[name]} and {file.path} have the same name: rename one.")
            named[name] = file.path
        sides.append(named)
    alone = [f"{name} ({folder})" for one, other, folder in
             ((sides[0], sides[1], images), (sides[1], sides[0], masks))
             for name in one if name not in other]  # fmt: skip
    if alone:
        raise ValueError(
            f"{len(alone)} files have no partner of the same name in the other folder: "
            f"{', '.join(sorted(alone)[:5])}. Each image needs one mask, such as cat.jpg, cat.png."
        )
    return [(name, sides[0][name], sides[1][name]) for name in sorted(sides[0])]


def read_pair(name: str, image, mask) -> Case:
    """A real image with its mask, whose grey levels say: 0..63 none, 192..255 mark, between
    undecidable, such as antialiased rims."""
    rgb, grey = read_image(image), read_image(mask)[..., 1]
    if rgb.shape[:2] != grey.shape:
        raise ValueError(
            f"{mask} has {grey.shape[1]} x {grey.shape[0]} pixels, its image {image} has "
            f"{rgb.shape[1]} x {rgb.shape[0]}; they must be equal. Export the mask again at the "
            "image's size."
        )
    truth = np.where(grey >= 192, 1, np.where(grey < 64, 0, IGNORE)).astype(np.uint8)
    return Case(name, rgb, truth, (grey > 0).astype(np.uint8))
