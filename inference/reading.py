"""Converts image files, PIL images and arrays to RGB arrays: `read_image`."""

import os
import struct
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from pillow_heif import register_heif_opener

register_heif_opener()  # without it Pillow does not read the photos of an iPhone

IMAGE_SUFFIXES = tuple(
    ".avif .bmp .gif .heic .heif .hif .jfif .jp2 .jpeg .jpg .png .tif .tiff .webp".split()
)
# Pillow's names of these formats, and PPM. Never EPS: Pillow would start Ghostscript.
FORMATS = "AVIF BMP GIF HEIF JPEG JPEG2000 PNG PPM TIFF WEBP".split()
DECODE_ERRORS = (  # what Pillow and its plugins raise for a file that is damaged or too large
    OSError,
    EOFError,  # pillow_heif
    MemoryError,  # JPEG 2000 with a damaged length
    RuntimeError,  # the AVIF decoder
    SyntaxError,  # Pillow, for a broken PNG chunk
    ValueError,
    Image.DecompressionBombError,
)
TURNS = {  # EXIF orientation to the operation that turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def open_photo(source) -> Image.Image:
    """A path or file object as a PIL image. Reads only the header; raises what Pillow raises."""
    return Image.open(source, formats=FORMATS)


def read_image(source) -> np.ndarray:
    """An image of any size and mode as RGB.

    Args:
        source: a path, a PIL image, or an array: H x W, H x W x 1 (grey), x 2 (grey, alpha),
            x 3 (RGB) or x 4 (RGB, straight alpha); bool, uint8 (0..255), uint16 (0..65535) or
            float (0..1).

    Returns:
        uint8, H x W x 3, RGB 0..255, upright by its EXIF orientation. Transparent parts lie over
        white. An animation gives its first frame.

    Raises:
        FileNotFoundError: no file at that path.
        ValueError: the file cannot be decoded, or the source is of another type.
    """
    is_path = isinstance(source, (str, os.PathLike))
    if is_path and not Path(source).is_file():
        raise FileNotFoundError(
            f"No image file at {source}. Give the path of one file on this machine."
        )
    if is_path and not Path(source).stat().st_size:
        raise ValueError(f"{source} is empty: it has 0 bytes.")
    if not is_path and not isinstance(source, Image.Image):
        array = np.asarray(source)
        if array.dtype.kind not in "biufc" or not array.ndim:
            raise ValueError(
                f"Got {type(source).__name__}. Give a path, a PIL image or an array, one at a time."
            )
        return _array_to_rgb(array)
    try:
        with open_photo(source) if is_path else nullcontext(source) as image:
            return _pil_to_rgb(image)
    except UnidentifiedImageError:
        raise ValueError(
            f"{source} is not an image that Pillow can read. Give one of {', '.join(FORMATS)}."
        ) from None
    except DECODE_ERRORS as error:
        name = source if is_path else "The PIL image"
        raise ValueError(f"{name} cannot be decoded: {str(error).rstrip('.')}.") from error


def upright(image: Image.Image) -> Image.Image:
    """The image, turned by its EXIF orientation. A damaged EXIF block is ignored.

    `ImageOps.exif_transpose` also rewrites the block, which fails if a part of it is damaged.
    """
    image.load()  # first: Pillow turns a TIFF while it loads, and removes its orientation
    orientation = _orientation(image)
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _orientation(image: Image.Image) -> int | None:
    """EXIF orientation, 1 to 8; None if there is none, or the EXIF block is damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, TypeError, ValueError, struct.error):
        return None


def upright_size(path) -> tuple[int, int]:
    """Width and height of an image file after its EXIF orientation. Decodes only PNG and TIFF."""
    with open_photo(path) as image:
        if image.format == "TIFF":
            image.load()  # turns it
            return image.size
        return image.size[::-1] if _orientation(image) in range(5, 9) else image.size


def _pil_to_rgb(image: Image.Image) -> np.ndarray:
    if 0 in image.size:
        raise ValueError("it has no pixels")
    image = upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_wide_grey_to_uint8(np.nan_to_num(np.asarray(image))))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _wide_grey_to_uint8(grey: np.ndarray) -> np.ndarray:
    """H x W of 16-bit integers, 32-bit integers or floats to uint8.

    A file does not say which value is white. It is taken to be the smallest of 1 (floats only), 255
    and 65535 that no pixel exceeds. Of floats, 1 % may exceed 1, as highlights do.
    """
    white = 255 if grey.max(initial=0) <= 255 else 65535
    if grey.dtype.kind == "f" and grey.size and np.percentile(grey, 99) <= 1:
        white = 1
    return np.rint(grey.astype(np.float32) * (255 / white)).clip(0, 255).astype(np.uint8)


def _array_to_rgb(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or array.size == 0:
        raise ValueError(
            f"Got an array of shape {array.shape}. Give H x W (grey) or H x W x C with 1 (grey), "
            "2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha) channels; move channels last if they "
            "come first."
        )
    array = _to_uint8(array)
    if channels == 3:
        return array.copy()
    return _pil_to_rgb(Image.fromarray(array.reshape(array.shape[:2]) if channels == 1 else array))


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return np.rint(array / 257.0).astype(np.uint8)
    if array.dtype.kind == "f" and np.all((array >= 0) & (array <= 1)):
        return np.rint(array * 255.0).astype(np.uint8)
    raise ValueError(
        f"Got {array.dtype} from {array.min()} to {array.max()}. Give bool, uint8, uint16, or "
        "float between 0 and 1."
    )
