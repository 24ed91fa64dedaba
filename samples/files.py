"""Finds photos and logos on disk, checks and hashes them."""

import hashlib
import importlib.util
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from inference.reading import IMAGE_SUFFIXES, open_photo, read_image
from samples.cache import inspect_all

# The photographs that scikit-image installs, without near-duplicates.
SAMPLE_PHOTOS = """
    astronaut.png camera.png chelsea.png coffee.png coins.png hubble_deep_field.jpg ihc.png moon.png
    motorcycle_left.png rocket.jpg
""".split()
MAX_WEIGHT = 1000  # a photo of weight n takes n entries in a list


@dataclass(frozen=True)
class ImageFile:
    """An image on disk that can be decoded."""

    path: Path
    sha256: str  # of the file's bytes
    short_px: int  # the shorter side
    weight: float = 1.0  # a photo of weight 2 is used twice as often as one of weight 1

    def read(self, zoom: float = 1.0) -> np.ndarray:
        """The image as `read_image` gives it, or smaller.

        Args:
            zoom: needed size / full size. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that
                is enough, which is up to ten times as fast.
        """
        with open_photo(self.path) as image:
            image.draft(None, tuple(max(1, round(zoom * side)) for side in image.size))
            return read_image(image)


def list_paths(folder, suffixes: tuple[str, ...]) -> list[Path]:
    """Sorted paths of all files in a folder and its subfolders that have one of the suffixes.

    Hidden files and folders are left out, links to folders are not followed. FileNotFoundError if
    the folder does not exist.
    """
    if folder == "" or not Path(folder).is_dir():  # Path("") is the current folder
        raise FileNotFoundError(f"No folder at {folder or repr(folder)}. Check the path.")
    paths = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(path for path in paths if path.name.lower().endswith(suffixes))


def find_images(folder, check=None) -> list[ImageFile]:
    """All images in a folder and its subfolders, sorted by path.

    Files that cannot be used are left out, and one warning names them.

    Args:
        folder: see `list_paths`.
        check: function of a PIL image. It raises ValueError if the image cannot be used.

    Raises:
        FileNotFoundError: the folder does not exist or has no usable image.
    """
    return check_images(list_paths(folder, IMAGE_SUFFIXES), check, where=f"below {folder}")


def check_images(paths, check=None, where="in the list") -> list[ImageFile]:
    """The usable images among the paths; see `find_images`."""
    good, bad = sort_out(paths, check)
    if not good:
        raise FileNotFoundError(
            f"No usable image {where}: searched for {', '.join(IMAGE_SUFFIXES)}"
            + (f" and left out {'; '.join(bad[:5])}." if bad else " and found none.")
        )
    if bad:
        warnings.warn(f"Left out {len(bad)} of {len(paths)} images: {'; '.join(bad)}", stacklevel=2)
    return good


def sort_out(paths, check=None) -> tuple[list[ImageFile], list[str]]:
    """The usable images among the paths, and "path (reason)" of each of the others."""
    name = check.__name__ if check else "photos"
    results = list(zip(paths, inspect_all(paths, lambda path: _inspect(path, check), name)))
    bad = [f"{path} ({error})" for path, error in results if isinstance(error, Exception)]
    return [ImageFile(path, *facts) for path, facts in results if isinstance(facts, list)], bad


def _inspect(path: Path, check) -> list:
    """Hash and `short_px` of an image file; one of DECODE_ERRORS if the file cannot be used."""
    data = path.read_bytes()
    try:
        with open_photo(BytesIO(data)) as image:
            short_px = min(image.size)
            image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            if check:
                check(image)
    except UnidentifiedImageError:
        raise ValueError("not an image" if data else "empty file") from None
    return [hashlib.sha256(data).hexdigest(), short_px]


def sample_photos() -> list[ImageFile]:
    """The photographs that scikit-image installs: enough for a demo without a download."""
    spec = importlib.util.find_spec("skimage")
    if spec is None:
        raise FileNotFoundError(
            "The sample photos come with scikit-image, which is not installed: "
            "pip install scikit-image, or give a folder of photos."
        )
    folder = Path(spec.origin).parent / "data"
    return check_images([folder / name for name in SAMPLE_PHOTOS], where=f"in {folder}")


def find_photos(sources=None) -> list[ImageFile]:
    """All photos of one or more folders.

    Args:
        sources: a folder, a list of folders, or a mapping from folders to weights. {A: 3, B: 1}
            uses each photo of A three times as often as each photo of B. A .txt file with one path
            in each line can stand for a folder. None: `sample_photos`.

    Raises:
        ValueError: a weight is 0, negative, or above MAX_WEIGHT.
        FileNotFoundError: see `find_images`.
    """
    if sources is None:
        return sample_photos()
    if isinstance(sources, (str, Path)):
        sources = [sources]
    pairs = sources.items() if isinstance(sources, Mapping) else ((one, 1.0) for one in sources)
    photos = []
    for source, weight in pairs:
        if not 0 < weight <= MAX_WEIGHT:
            raise ValueError(
                f"The weight of the photos in {source} is {weight}; give one above 0 and up to "
                f"{MAX_WEIGHT}."
            )
        photos += [replace(photo, weight=weight) for photo in _images_of(source)]
    return photos


def _images_of(source) -> list[ImageFile]:
    if Path(source).suffix != ".txt" or not Path(source).is_file():
        return find_images(source)
    return check_images([*map(Path, read_lines(Path(source)))], where=f"listed in {source}")


def read_lines(path: Path) -> list[str]:
    """The stripped lines of a UTF-8 text file, without empty ones."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text; save it as UTF-8.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
