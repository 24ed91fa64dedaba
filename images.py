"""Image files of any kind to RGB arrays: reading, checking and finding them.

Shared by `dataset.py` (photos and logos to train on) and `model.py` (photos to segment).
"""

import hashlib
import importlib.util
import os
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

IMAGE_SUFFIXES = tuple(".avif .bmp .gif .jfif .jp2 .jpeg .jpg .png .tif .tiff .webp".split())
FLICKR8K_URL = (
    "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/Flickr8k_Dataset.zip"
)
FLICKR8K_MD5 = "f18a1e2920de5bd84dae7cf08ec78978"  # as the R package torchdatasets checks it
FLICKR8K_COUNT = 8091
# Photographs in scikit-image's wheel. Left out: textures, drawings, documents, near-duplicates.
SAMPLE_PHOTOS = """
    astronaut.png camera.png chelsea.png coffee.png coins.png hubble_deep_field.jpg ihc.png moon.png
    motorcycle_left.png rocket.jpg
""".split()
IGNORE = 255  # value of mask and label where nobody can decide; no weight in loss or metrics
DECODE_ERRORS = (
    OSError,
    RuntimeError,  # of its AVIF decoder
    SyntaxError,  # Pillow's word for a broken PNG chunk
    ValueError,
    Image.DecompressionBombError,
)
TURNS = {  # EXIF orientation to what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def read_image(source) -> np.ndarray:
    """An image of any size and mode as RGB.

    Args:
        source: a path, a PIL image, or an array: H x W, H x W x 1 (grey), x 2 (grey, alpha),
            x 3 (RGB) or x 4 (RGB, straight alpha); bool, uint8 (0..255), uint16 (0..65535) or
            float (0..1).

    Returns:
        uint8, H x W x 3, RGB 0..255. EXIF orientation is applied, the first frame of an
        animation is taken, and transparency is laid over white, as a browser page shows it.

    Raises:
        FileNotFoundError: no file at that path.
        ValueError: the file cannot be decoded, or the array is none of the above.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
    if isinstance(source, Image.Image):
        try:
            return _pil_to_rgb(source)
        except DECODE_ERRORS as error:
            raise ValueError(f"The PIL image cannot be decoded: {error}.") from error
    return _array_to_rgb(np.asarray(source))


def _read_file(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"No image file at {path}. Check the path.")
    try:
        with Image.open(path) as image:
            return _pil_to_rgb(image)
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that Pillow can read.") from None
    except DECODE_ERRORS as error:
        raise ValueError(f"{path} cannot be decoded: {error}.") from error


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; as stored if the EXIF block is damaged.

    `ImageOps.exif_transpose` also writes the whole block anew, which fails on damaged ones.
    """
    image.load()  # first: Pillow itself turns TIFFs, and then drops their orientation
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, TypeError, ValueError, struct.error):
        return image
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def upright_size(path) -> tuple[int, int]:
    """Width and height of an image file once it is upright.

    Reads the header only, but decodes PNG, whose EXIF may come last, and TIFF, which Pillow turns.
    """
    with Image.open(path) as image:
        if image.format == "TIFF":
            image.load()
            return image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
        return image.size[::-1] if turned else image.size


def _pil_to_rgb(image: Image.Image) -> np.ndarray:
    image = upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _array_to_rgb(_wide_grey_to_uint8(np.nan_to_num(np.asarray(image))))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _wide_grey_to_uint8(grey: np.ndarray) -> np.ndarray:
    """H x W of 16-bit integers, 32-bit integers or floats to uint8.

    A file does not tell how much of a wide format it uses: the smallest of the usual full
    scales (1, 255, 65535) that holds the brightest pixel is taken.
    """
    brightest = grey.max(initial=0)
    if grey.dtype.kind == "f" and brightest <= 1:
        full_scale = 1
    else:
        full_scale = 255 if brightest <= 255 else 65535
    scaled = grey.astype(np.float32)
    scaled *= 255 / full_scale
    return np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)


def _array_to_rgb(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or array.size == 0:
        raise ValueError(
            f"Got an array of shape {array.shape}. Give H x W (grey) or H x W x C with 1 (grey), "
            "2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha) channels; move channels last if they "
            "come first."
        )
    array = _to_uint8(array).reshape(*array.shape[:2], channels)
    color = array if channels in (1, 3) else array[..., :-1]
    color = np.repeat(color, 3, axis=2) if color.shape[2] == 1 else color
    if channels in (1, 3):
        return np.array(color)
    alpha = array[..., -1:] / 255.0
    return np.rint(color * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return np.rint(array / 257.0).astype(np.uint8)
    if array.dtype.kind == "f" and np.all((array >= 0) & (array <= 1)):
        return np.rint(array * 255.0).astype(np.uint8)
    found = f"{array.dtype} from {array.min()} to {array.max()}"
    raise ValueError(f"Got {found}. Give bool, uint8, uint16, or float between 0 and 1.")


@dataclass(frozen=True)
class ImageFile:
    """One image on disk that has been opened and found sound."""

    path: Path
    sha256: str  # of the file's bytes
    plain_jpeg: bool = False  # RGB or grey JPEG: OpenCV decodes it as Pillow does, twice as fast

    def read(self) -> np.ndarray:
        """The image as `read_image` gives it."""
        if not self.plain_jpeg:
            return read_image(self.path)
        data = np.frombuffer(self.path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        if image is None:  # changed since it was found
            raise ValueError(f"{self.path} can no longer be decoded.")
        return image


def find_images(folder, check=None) -> list[ImageFile]:
    """All images below a folder that can be decoded, sorted by path.

    Hidden files are passed over, links to folders are not followed. Files that fail are named
    in one warning and left out.

    Args:
        folder: searched recursively for IMAGE_SUFFIXES.
        check: optional function of a PIL image that raises ValueError with the reason why the
            image cannot be used.

    Raises:
        FileNotFoundError: there is no such folder, or no usable image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder at {folder}. Check the path.")
    return check_images(list_image_paths(folder), check, where=f"below {folder}")


def list_image_paths(folder: Path) -> list[Path]:
    """Paths of all files below a folder that are named like images, sorted, hidden ones not."""
    return sorted(
        Path(root, name)
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
    )


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
    with ThreadPoolExecutor() as pool:  # Pillow frees the interpreter while it decodes
        results = list(pool.map(lambda path: _inspect(path, check), paths))
    bad = [f"{path} ({why})" for path, why in zip(paths, results) if isinstance(why, str)]
    return [file for file in results if isinstance(file, ImageFile)], bad


def _inspect(path: Path, check) -> "ImageFile | str":
    """The file's entry, or why it cannot be used. Decodes it, but JPEGs at 1/8 of their size."""
    try:
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as image:
            plain_jpeg = image.format == "JPEG" and image.mode in ("RGB", "L")
            image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            if check:
                check(image)
    except UnidentifiedImageError:
        return "empty file" if not data else "not an image"
    except DECODE_ERRORS as error:
        return str(error)
    return ImageFile(path, hashlib.sha256(data).hexdigest(), plain_jpeg)


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


def download_flickr8k(folder="data/flickr8k", url=FLICKR8K_URL) -> Path:
    """The 8,091 photos of Flickr8k (1 GB), downloaded once with a progress bar.

    An interrupted download leaves nothing behind and starts again on the next call.

    Returns:
        The folder of photos, for `find_images`.

    Raises:
        ConnectionError: the server cannot be reached.
        ValueError: the archive does not hold 8,091 photos.

    Source: Hodosh et al., "Framing Image Description as a Ranking Task", JAIR 2013; for research
    and education, the photos' rights stay with their owners.
    """
    import pooch
    import requests

    photos = Path(folder) / "Flicker8k_Dataset"  # the archive's own spelling
    count = len(list(photos.glob("[!.]*.jpg")))
    if count != FLICKR8K_COUNT:
        unzip = pooch.Unzip(extract_dir=str(Path(folder).resolve()))
        try:
            pooch.retrieve(
                url,
                known_hash=f"md5:{FLICKR8K_MD5}",
                fname="flickr8k.zip",
                path=folder,
                processor=unzip,
                progressbar=True,
            )
        except requests.exceptions.RequestException as error:
            raise ConnectionError(
                f"{url} cannot be reached ({type(error).__name__}). Check the network, or use "
                "the sample photos or a folder of your own."
            ) from error
        count = len(list(photos.glob("[!.]*.jpg")))
    if count != FLICKR8K_COUNT:
        raise ValueError(
            f"{photos} holds {count} photos, not {FLICKR8K_COUNT}: delete {folder} and try again."
        )
    return photos
