"""Reads marked photos and their painted masks from two folders with the same file names."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.reading import open_photo, read_image, upright, upright_size
from samples import IGNORE
from samples.files import ImageFile, find_images

MARK_LEVEL = 192  # a pixel of a mask file with this grey level or more is marked


@dataclass(frozen=True)
class Case:
    """One image with its true masks."""

    name: str
    image: np.ndarray  # uint8, H x W x 3, RGB
    mask: np.ndarray  # uint8, H x W: 1, 0 or IGNORE; see `dataset.honest_mask`
    alpha_mask: np.ndarray  # uint8, H x W: 1 where anything was drawn, as in papers


@dataclass(frozen=True)
class Pair:
    """A photo with its painted mask."""

    name: str
    image: ImageFile
    mask: Path

    @property
    def sha256(self) -> str:
        """Hash of the image file, by which `split_by_hash` splits."""
        return self.image.sha256

    def check_sizes(self) -> None:
        """Raises ValueError unless both files have the same `upright_size`."""
        size, mask_size = (upright_size(path) for path in (self.image.path, self.mask))
        if size != mask_size:
            raise ValueError(
                f"{self.mask} has {mask_size[0]} x {mask_size[1]} pixels, its image "
                f"{self.image.path} has {size[0]} x {size[1]}. Export the mask again at the size "
                "of the image."
            )

    def read(self) -> Case:
        """The image with its mask. Grey levels of 0..63 mean no mark, 192..255 mark, others IGNORE.

        The brightest channel of the mask counts, and transparent pixels count as black.
        """
        self.check_sizes()
        rgb, grey = read_image(self.image.path), _read_mask(self.mask)
        if 0 < grey.max() < MARK_LEVEL:
            raise ValueError(
                f"The brightest value of {self.mask} is {grey.max()}; marks must be {MARK_LEVEL} "
                "to 255. Multiply a mask of 0 and 1 by 255."
            )
        truth = np.where(grey >= MARK_LEVEL, 1, np.where(grey < 64, 0, IGNORE)).astype(np.uint8)
        return Case(self.name, rgb, truth, (grey > 0).astype(np.uint8))


def pair_files(images, masks) -> list[Pair]:
    """Pairs of files from two folders with the same relative name, apart from the suffix.

    The pairs are sorted by name. Their sizes are not compared; see `Pair.check_sizes`.

    Raises:
        FileNotFoundError: a folder is missing or has no image.
        ValueError: a file has no partner, or two files have the same name.
    """
    photos, painted = _by_name(images), _by_name(masks)
    alone = [f"{name} ({images if name in photos else masks})"
             for name in sorted(photos.keys() ^ painted.keys())]  # fmt: skip
    if alone:
        raise ValueError(
            f"{len(alone)} files have no partner of the same name in the other folder: "
            f"{', '.join(alone[:5])}. Each image needs one mask, such as cat.jpg, cat.png."
        )
    return [Pair(name, photos[name], painted[name].path) for name in sorted(photos)]


def _by_name(folder) -> dict[str, ImageFile]:
    named = {}
    for file in find_images(folder):
        name = file.path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise ValueError(f"{named[name].path} and {file.path} have the same name: rename one.")
        named[name] = file
    return named


def find_pairs(images, masks) -> list[Pair]:
    """The pairs of two folders, after reading all of them.

    Raises:
        FileNotFoundError: see `pair_files`.
        ValueError: see `pair_files` and `Pair.read`; or all masks are empty.
    """
    pairs = pair_files(images, masks)
    marked = [(pair.read().mask == 1).any() for pair in pairs]
    if not any(marked):
        raise ValueError(f"All {len(pairs)} masks in {masks} are empty: paint the marks white.")
    return pairs


def _read_mask(path) -> np.ndarray:
    """The brightest channel over a black background: uint8, H x W."""
    rgb = read_image(path)  # its errors explain what is wrong with the file
    with open_photo(path) as image:
        if not image.has_transparency_data:
            return rgb.max(axis=2)
        rgba = np.asarray(upright(image).convert("RGBA")).astype(np.uint16)
    return (rgba[..., :3].max(axis=2) * rgba[..., 3] // 255).astype(np.uint8)
