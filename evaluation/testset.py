"""The test set: photos with synthetic marks, in slices. It is frozen, the same for everybody.

A test image depends only on (seed, slice, index) and on the content of the photos, logos and fonts,
which are sorted by their hash. A change of the defaults of `WatermarkSettings` does not change it.

LOGO-* imitate arXiv:2012.07007, CLWD imitates arXiv:2012.07616. The papers leave some things open.
We chose the ranges of LOGO-* (gray: from the lowest of L to the highest of H) and take them as long
side of the mark / side of the image. Our marks lie inside the image, and shrink if they do not fit
after the rotation. The JPEG quality of CLWD is 90-95. The papers have other photos (COCO). In CLWD
a pixel is marked if its summed difference is above 15 of 255; here `honest_mask` or "alpha > 0"
decides. In every slice, a mark that is not visible at all is drawn again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from dataset import WatermarkSettings, add_watermark
from inference.maps import reduced
from samples.drawing import Range, SampleParams, draw_sample
from samples.files import ImageFile, find_images, find_photos
from samples.layouts import turned_size
from samples.loading import image_label
from samples.marks import MarkParams, check_logo, load_logo
from samples.pairs import Case, pair_files
from samples.photos import EDITS, crop_photo
from samples.splits import (
    TEST_PHOTOS,
    TRAINED_ON,
    check_disjoint,
    make_manifest,
    pick_listed,
    read_manifest,
)
from samples.text import Font, find_fonts

MAX_DRAWS = 200  # number of times that an invisible mark is drawn again
PROTOCOL_PX = 256  # side of the images of LOGO-* and CLWD


class TestImage(NamedTuple):
    """One image of the test set."""

    photo: str  # the photo's name; images of one photo are not independent
    make: Callable[[], Case]  # draws the image


@dataclass(frozen=True)
class Slice:
    """One kind of test image."""

    settings: WatermarkSettings
    source: str = "photos"  # kind of photos, one of `splits.TEST_PHOTOS`
    square: bool = False  # True: a random square, at PROTOCOL_PX; False: the whole photo
    reduce: float = 1  # factor on the photo's size; below 1, the photo loses its JPEG blocks
    edits: Mapping[str, Range] = field(default_factory=dict)  # each photo gets one of them
    adjust: Callable[[MarkParams, Random], MarkParams] = lambda mark, rng: mark


def _fit_inside(mark: MarkParams, width: float, height: float) -> MarkParams:
    """The logo at a size in px, or smaller if it does not fit into the image after the rotation."""
    fit = min(1, PROTOCOL_PX / max(turned_size(width, height, mark.rotation_deg)))
    logo_height, logo_width = load_logo(mark.logo).shape[:2]
    stretch = (width / height) / (logo_width / logo_height)
    return replace(mark, scale=max(width, height) * fit / PROTOCOL_PX, stretch=stretch)


def _logo_size(mark: MarkParams, rng: Random) -> MarkParams:
    """The logo with its own shape; the drawn size is that of its long side."""
    height, width = load_logo(mark.logo).shape[:2]
    zoom = mark.scale * PROTOCOL_PX / max(height, width)
    return _fit_inside(mark, width * zoom, height * zoom)


def _clwd_size(mark: MarkParams, rng: Random) -> MarkParams:
    """The logo with an independent width and height, 10 to 256 px before the rotation."""
    return _fit_inside(mark, rng.uniform(10, PROTOCOL_PX), rng.uniform(10, PROTOCOL_PX))


_PLAIN = WatermarkSettings(  # sets every field that matters, so no default does
    flip_probability=0, clean_probability=0, several_probability=0,
    kinds={"logo": 1, "text": 1},
    text_styles=("words", "name", "domain", "handle", "copyright", "date", "code"),
    layouts={"single": 6, "inside": 4, "corner": 4, "diagonal": 2, "grid": 2, "brick": 2},
    kind_layouts={}, kind_colors={},
    scales={"single": (0.15, 1.1), "inside": (0.15, 0.9), "corner": (0.08, 0.4),
            "diagonal": (0.6, 1.0), "grid": (0.12, 0.6), "brick": (0.12, 0.6)},
    rotations_deg={"single": (-180, 180), "inside": (-180, 180), "corner": (0, 0),
                   "diagonal": (-5, 5), "grid": (-50, 50), "brick": (-50, 50)},
    upright_probability=0.4, stretch_range=(0.6, 1.6), logo_stretch_range=(0.6, 1.6),
    tile_gap_range=(0.1, 1.0),
    colors={"original": 4, "desaturated": 1, "white": 4, "black": 2, "grey": 2, "tint": 2},
    effects={"none": 12, "outline": 2, "shadow": 3, "emboss": 1},
    blend_modes={"normal": 1}, opacity_range=(0.2, 0.9), opacity_power=1,
    highest_opacity_probability=0, usual_look_probability=0, usual_opacity_range=(0.3, 0.6),
    reduce_probability=0, edit_probability=0, crop_range=(1, 1), downscale_probability=0,
    downscale_range=(0.5, 0.9),
    blur_probability=0, noise_probability=0, jpeg_probability=1, jpeg_quality_range=(85, 95),
    enlarge_probability=0, negative_probability=0,
)  # fmt: skip


def _paper(low: float, high: float, color: str = "original") -> WatermarkSettings:
    """Settings for one logo as in a paper: size and opacity from one range, any angle."""
    return replace(
        _PLAIN, kinds={"logo": 1}, layouts={"inside": 1}, scales={"inside": (low, high)},
        upright_probability=0, logo_stretch_range=(1, 1), colors={color: 1}, effects={"none": 1},
        opacity_range=(low, high), jpeg_probability=0,
    )  # fmt: skip


_REAL_LOOK = replace(  # like marks on the web
    _PLAIN, kinds={"lockup": 4, "text": 2, "signature": 1, "date_id": 1},
    layouts={"centre": 5, "band": 2, "lattice": 2},
    kind_layouts={"signature": {"inside": 1, "corner": 1}, "date_id": {"corner": 1}},
    scales={"centre": (0.2, 0.95), "band": (0.3, 0.95), "lattice": (0.12, 0.6),
            "inside": (0.15, 0.5), "corner": (0.08, 0.4)},
    rotations_deg={name: (0, 0) for name in ("centre", "band", "lattice", "inside", "corner")},
    usual_look_probability=0.8,
)  # fmt: skip
_CLWD = replace(_paper(0.3, 0.7), jpeg_probability=1, jpeg_quality_range=(90, 95))
_EDITS = {"contrast": (1.3, 1.6), "brightness": (1.2, 1.5), "levels": (6, 16), "noise": (5, 15),
          "sharpness": (0.5, 1.5), "bars": (0.03, 0.15), "collage": (0, 0.02)}  # fmt: skip
_TEXT = replace(_PLAIN, kinds={"text": 1}, layouts={"inside": 2, "corner": 1})
_SMALL = replace(_PLAIN, layouts={"corner": 1}, scales={"corner": (0.04, 0.1)})
_NONE = replace(_PLAIN, clean_probability=1)
_TILES = {"grid": 1, "brick": 1}
_BLENDS = {"multiply": 1, "screen": 1, "overlay": 1, "soft_light": 1}

SLICES = {
    "LOGO-L": Slice(_paper(0.35, 0.6), square=True, adjust=_logo_size),
    "LOGO-H": Slice(_paper(0.6, 0.85), square=True, adjust=_logo_size),
    "LOGO-gray": Slice(_paper(0.35, 0.85, "desaturated"), square=True, adjust=_logo_size),
    "CLWD": Slice(_CLWD, square=True, adjust=_clwd_size),
    "text": Slice(_TEXT),
    "tiled": Slice(replace(_PLAIN, layouts=_TILES)),
    "faint": Slice(replace(_PLAIN, opacity_range=(0.08, 0.2))),
    "opaque": Slice(replace(_PLAIN, opacity_range=(0.95, 1.0))),
    "blend": Slice(replace(_PLAIN, blend_modes=_BLENDS)),
    "recompressed": Slice(
        replace(_PLAIN, downscale_probability=1, jpeg_quality_range=(35, 60)),
    ),
    "clean": Slice(_NONE),
    "real-look": Slice(_REAL_LOOK),
    "clean-reduced": Slice(replace(_PLAIN, clean_probability=1, jpeg_probability=0), reduce=0.5),
    "clean-edited": Slice(_NONE, edits=_EDITS),
    "large-corner": Slice(_SMALL, "large"),
    "large-text": Slice(_TEXT, "large"),
    "large-real-look": Slice(_REAL_LOOK, "large"),
    "large-clean": Slice(_NONE, "large"),
    "print-text": Slice(_TEXT, "print"),
    "print-clean": Slice(_NONE, "print"),
}
CLEAN = [name for name, kind in SLICES.items() if kind.settings.clean_probability == 1]
MARKED = [name for name in SLICES if name not in CLEAN]


def render_case(
    name: str, index: int, seed: int, photos: list[ImageFile], logos: list[ImageFile],
    fonts: list[Font],
) -> Case:  # fmt: skip
    """Draws test image `index` of the slice `name`, a key of SLICES.

    The photos are taken in the order of their hashes, again from the first after the last. Logos
    and fonts are chosen at random.
    """
    photos, logos, fonts = (
        sorted(files, key=lambda file: file.sha256) for files in (photos, logos, fonts)
    )
    kind, rng = SLICES[name], Random(f"{seed} {name} {index}")
    photo = reduced(photos[index % len(photos)].read(), kind.reduce)
    if kind.edits:
        edit, amount_range = rng.choice(list(kind.edits.items()))
        photo = EDITS[edit](photo, rng.uniform(*amount_range), rng)
    for _ in range(MAX_DRAWS):
        params = draw_case(name, rng, logos, fonts)
        background = crop_photo(photo, params.crop, False, PROTOCOL_PX) if kind.square else photo
        stages = add_watermark(background, params)
        if not params.marks or image_label(stages["mask"]) == 1:
            alpha_mask = (stages["coverage"] > 0).astype(np.uint8)
            return Case(f"{name}/{index:04d}", stages["image"], stages["mask"], alpha_mask)
    path = photos[index % len(photos)].path
    raise ValueError(
        f"No mark is visible on {path} ({photo.shape[1]} x {photo.shape[0]} px), after "
        f"{MAX_DRAWS} draws for image {index} of {name}. Remove this photo."
    )


def draw_case(name: str, rng: Random, logos, fonts) -> SampleParams:
    """All random numbers of one test image, except the choice of the photo."""
    kind = SLICES[name]
    params = draw_sample(kind.settings, rng, 1, logos, fonts)
    return replace(params, marks=tuple(kind.adjust(mark, rng) for mark in params.marks))


# --- Files --------------------------------------------------------------------------------------


def find_test_files(
    photos=None, logos=None, fonts=None, manifest=None, weights=None, **sources
) -> dict[str, list]:
    """The files to test with: kind to files. A kind of photos that is not given is missing.

    Args:
        photos: a folder or several.
        logos, fonts: folders; the default are matplotlib's fonts.
        manifest: use only the photos, the logos and the fonts of `fonts` that it lists.
        weights: folder of the network to test; see `refuse_trained`.
        sources: `large` and `print`, folders of photos for the slices with these sources.
    """
    folders = {"photos": photos, **sources}
    files = {kind: find_photos(folder) for kind, folder in folders.items() if folder}
    files["logos"] = find_images(logos, check_logo)
    files["fonts"] = find_fonts(fonts, shipped=fonts is None)
    if manifest:
        listed = read_manifest(manifest)
        for kind in [kind for kind in files if fonts or kind != "fonts"]:
            what = f"{kind} photos" if kind in ("large", "print") else kind
            files[kind] = pick_listed(files[kind], listed.get(kind, []), what)
    if weights:
        refuse_trained(files, weights)
    return files


def refuse_trained(files: dict[str, list], weights) -> None:
    """Raises ValueError if the network in a weights folder was trained on a photo or logo.

    If it was trained on a font, this only prints it, because without --fonts there are no others.
    """
    path = Path(weights) / TRAINED_ON
    if not path.exists():
        print(f"No {path}, so it is unknown whether the network was trained on these files.")
        return
    photos = [photo for kind in TEST_PHOTOS for photo in files.get(kind, [])]
    trained_on, tested = read_manifest(path), make_manifest(**{**files, "photos": photos})
    check_disjoint({**tested, "fonts": []}, trained_on, path)
    if known := len(set(tested["fonts"]) & set(trained_on["fonts"])):
        print(f"{known} of {len(tested['fonts'])} fonts were trained on. Give others: --fonts DIR.")


def synthetic_slices(names, count: int, seed: int, files: dict[str, list]) -> dict:
    """Slice name to its `count` images, each on the next photo.

    A slice of unedited clean photos uses each photo once, so it may have fewer images. A slice
    without photos is left out, and a line is printed.
    """
    slices = {}
    for name in names:
        kind = SLICES[name]
        if kind.source not in files:
            print(f"Left out, because it needs --{kind.source}: {name}.")
            continue
        own = {"photos": files[kind.source], "logos": files["logos"], "fonts": files["fonts"]}
        n_photos = len(own["photos"])
        repeats = name in MARKED or kind.edits
        slices[name] = [
            TestImage(f"{kind.source} {i % n_photos}", partial(render_case, name, i, seed, **own))
            for i in range(count if repeats else min(count, n_photos))
        ]
    if not slices:
        raise ValueError("None of the slices has photos. Give the folders that they need.")
    return slices


def real_pairs(images, masks, weights=None) -> dict[str, list[TestImage]]:
    """One slice with the pairs of two folders; see `pair_files` and `refuse_trained`."""
    pairs = pair_files(images, masks)
    for pair in pairs:
        pair.check_sizes()
    if weights:
        refuse_trained({"photos": pairs}, weights)
    return {"pairs": [TestImage(pair.name, pair.read) for pair in pairs]}
