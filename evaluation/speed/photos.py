"""Photos to measure on, if none are given."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from samples.files import sample_photos

PHOTO_SIDE_PX = 500  # long side of Flickr8k's photos


def write_photos(folder: Path, count: int) -> list[Path]:
    """JPEGs of 500 px and quality 90: crops of scikit-image's colour photographs."""
    photos = [file.read() for file in sample_photos()]
    large = [photo for photo in photos if min(photo.shape[:2]) >= 375 and photo.std() > 30]
    paths = []
    for index in range(count):
        photo = large[index % len(large)]
        height, width = photo.shape[:2]
        x, y = (index * 37) % max(1, width - PHOTO_SIDE_PX), (index * 23) % max(1, height - 375)
        crop = photo[y : y + 375, x : x + PHOTO_SIDE_PX]
        zoom = PHOTO_SIDE_PX / max(crop.shape)
        crop = cv2.resize(crop, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        paths.append(folder / f"{index:03}.jpg")
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
        cv2.imwrite(str(paths[-1]), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), quality)
    return paths


@contextmanager
def photo_folder(photos: str | None, count: int = 64) -> Iterator[Path]:
    """The given folder, or one with `count` files of `write_photos`, gone after the block."""
    if photos is not None:
        yield Path(photos)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), count)
        yield Path(folder)
