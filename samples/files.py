"""Photos and logos on disk: found, checked, hashed."""

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

# Photographs in scikit-image's wheel. Left out: textures, drawings, documents, near-duplicates.
SAMPLE_PHOTOS = """
    astronaut.png camera.png chelsea.png coffee.png coins.png hubble_deep_field.jpg ihc.png moon.png
    motorcycle_left.png rocket.jpg
""".split()
MAX_WEIGHT = 1000  # a round of photos lists each as often as its weight says


@dataclass(frozen=True)
class ImageFile:
    """One image on disk that has been opened and found sound."""

    path: Path
    sha256: str  # of the file's bytes
    short_px: int  # the shorter side
    weight: float = 1.0  # how often it is drawn, against other photos

    def read(self, zoom: float = 1.0) -> np.ndarray:
        """The image as `read_image` gives it.

        Args:
            zoom: the size that is needed, over the image's own. A JPEG is decoded at 1/2, 1/4 or
                1/8 of its size if that is enough: this is up to ten times as fast.
        """
        with open_photo(self.path) as image:
            image.draft(None, tuple(max(1, round(zoom * side)) for side in image.size))
            return read_image(image)


def list_paths(folder, suffixes: tuple[str, ...]) -> list[Path]:
    """Paths of all files below a folder with one of the endings, sorted, hidden ones not.

    Links to folders are not followed. FileNotFoundError if there is no such folder.
    """
    if folder == "" or not Path(folder).is_dir():  # Path("") is the current folder
        raise FileNotFoundError(f"No folder at {folder or repr(folder)}. Check the path.")
    paths = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]  # as of thumbnails
        paths += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(path for path in paths if path.name.lower().endswith(suffixes))


def find_images(folder, check=None) -> list[ImageFile]:
    """All images below a folder that can be decoded, sorted by path; see `list_paths`.

    Files that fail are named in one warning and left out.

    Args:
        folder: searched recursively for IMAGE_SUFFIXES.
        check: optional function of a PIL image that raises ValueError with the reason why the
            image cannot be used.

    Raises:
        FileNotFoundError: there is no such folder, or no usable image in it.
    """
    return check_images(list_paths(folder, IMAGE_SUFFIXES), check, where=f"below {folder}")


def check_images(paths, check=None, where="in the list") -> list[ImageFile]:
    """Those of the given paths that are sound images; see `find_images`."""
    good, bad = sort_out(paths, check)
    if not good:
        raise FileNotFoundError(
            f"No usable image {where}: looked for {', '.join(IMAGE_SUFFIXES)}"
            + (f" and left out {'; '.join(bad[:5])}." if bad else " and found none.")
        )
    if bad:
        warnings.warn(f"Left out {len(bad)} of {len(paths)} images: {'; '.join(bad)}", stacklevel=2)
    return good


def sort_out(paths, check=None) -> tuple[list[ImageFile], list[str]]:
    """The sound images among the paths, and "path (reason)" of the others; see `find_images`."""
    name = check.__name__ if check else "photos"
    found = list(zip(paths, inspect_all(paths, lambda path: _inspect(path, check), name)))
    good = [ImageFile(path, *seen) for path, seen in found if not isinstance(seen, Exception)]
    return good, [f"{path} ({seen})" for path, seen in found if isinstance(seen, Exception)]


def _inspect(path: Path, check) -> tuple[str, int]:
    """Hash and `short_px` of a file that is decoded, JPEGs at 1/8 of their size.

    Raises one of DECODE_ERRORS if the file cannot be used.
    """
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
    return hashlib.sha256(data).hexdigest(), short_px


def sample_photos() -> list[ImageFile]:
    """The photographs inside scikit-image's wheel: enough for a demo, nothing to download."""
    spec = importlib.util.find_spec("skimage")
    if spec is None:
        raise FileNotFoundError(
            "The sample photos come with scikit-image, which is not installed: "
            "pip install scikit-image, or give a folder of photos."
        )
    folder = Path(spec.origin).parent / "data"
    return check_images([folder / name for name in SAMPLE_PHOTOS], where=f"in {folder}")


def find_photos(sources=None) -> list[ImageFile]:
    """The photos of a folder or of several; of None: scikit-image's.

    Args:
        sources: a folder, a list of folders, or a mapping from folders to weights. {A: 3, B: 1}
            draws each photo of A three times as often as each of B. A .txt file that lists paths,
            one a line, counts as a folder.

    Raises:
        ValueError: a weight is not above 0, or above MAX_WEIGHT.
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
    """The lines of a UTF-8 text that are not empty, without spaces at their ends."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text; save it as UTF-8.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
