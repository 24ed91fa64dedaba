"""Photos that carry a mark, each with a mask that somebody painted: two folders of equal names."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.reading import open_photo, read_image, upright, upright_size
from samples import IGNORE
from samples.files import ImageFile, find_images

MARK_LEVEL = 192  # grey level of a mask file from which a pixel is marked


@dataclass(frozen=True)
class Case:
    """One test image and its truths."""

    name: str
    image: np.ndarray  # uint8, H x W x 3, RGB
    mask: np.ndarray  # uint8, H x W: 1, 0 or IGNORE; see `dataset.honest_mask`
    alpha_mask: np.ndarray  # uint8, H x W: 1 where anything was drawn, as papers count it


@dataclass(frozen=True)
class Pair:
    """A photo with its painted mask."""

    name: str
    image: ImageFile
    mask: Path

    @property
    def sha256(self) -> str:
        """Of the image's bytes; it decides on which side of a split the pair falls."""
        return self.image.sha256

    def check_sizes(self) -> None:
        """Raises ValueError unless both files have the same size; see `upright_size`."""
        size, mask_size = (upright_size(path) for path in (self.image.path, self.mask))
        if size != mask_size:
            raise ValueError(
                f"{self.mask} has {mask_size[0]} x {mask_size[1]} pixels, its image "
                f"{self.image.path} has {size[0]} x {size[1]}; they must be equal. Export the mask "
                "again at the image's size."
            )

    def read(self) -> Case:
        """The image with its mask, whose grey levels say: 0..63 none, 192..255 mark, between
        undecidable, such as antialiased rims. The strongest channel counts; transparent is none."""
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
    """Images and masks of two folders that share a relative name, apart from the ending.

    Returns:
        Pairs, sorted by name; whether image and mask fit, `check_sizes` tells.

    Raises:
        FileNotFoundError: a folder is missing or holds no image.
        ValueError: names that do not pair up, or two files of one name.
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
    """The pairs of two folders, each looked at: sizes equal, and the mask one that can be read.

    Raises:
        FileNotFoundError, ValueError: see `pair_files` and `Pair.read`.
    """
    pairs = pair_files(images, masks)
    marked = [(pair.read().mask == 1).any() for pair in pairs]
    if not any(marked):
        raise ValueError(f"All {len(pairs)} masks in {masks} are empty: paint the marks white.")
    return pairs


def _read_mask(path) -> np.ndarray:
    """uint8, H x W: the strongest channel, over black where the file is transparent."""
    rgb = read_image(path)  # names what is wrong with the file
    with open_photo(path) as image:
        if not image.has_transparency_data:
            return rgb.max(axis=2)
        rgba = np.asarray(upright(image).convert("RGBA")).astype(np.uint16)
    return (rgba[..., :3].max(axis=2) * rgba[..., 3] // 255).astype(np.uint8)
