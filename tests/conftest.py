"""Makes tiny photos, logos and networks. No test needs a download, a GPU or other files."""

import contextlib
import functools
import os
import shutil
import socket
import tempfile

os.environ["WATERMARK_CACHE"] = tempfile.mkdtemp()  # keeps the cache of the user as it is
os.environ["HF_HUB_OFFLINE"] = "1"  # a download fails at once, without retries
# For tiny networks, more threads only slow each other down.
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dataset import WatermarkDataset, WatermarkSettings
from inference import runtime
from model import WatermarkSegmenter
from samples.files import find_images
from samples.marks import MarkParams, check_logo
from samples.text import find_fonts


@functools.cache
def own_addresses() -> set[str]:
    """IP addresses of this machine."""
    addresses = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}
    with contextlib.suppress(OSError):  # some machines cannot resolve their own name
        addresses |= {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    return addresses


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Makes every connection to another machine fail."""
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in own_addresses():
            raise OSError(f"a test tried to connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def without_openvino(monkeypatch):
    """Disables OpenVINO by default, because it takes a second to convert a network."""
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)


def paint_photo(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth random colours of medium brightness, on which every mark shows: uint8, H x W x 3."""
    coarse = np.random.default_rng(seed).integers(60, 196, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(8):
        photo = Image.fromarray(paint_photo(index, 60 + 4 * index, 90 - 4 * index))
        photo.save(folder / f"{index}.{'png' if index % 4 == 3 else 'jpg'}")
    return folder


@pytest.fixture(scope="session")
def logo_folder(tmp_path_factory):
    """Six drawings on a transparent background, from 24 x 24 to 64 x 44 pixels."""
    folder = tmp_path_factory.mktemp("logos")
    for index in range(6):
        logo = Image.new("RGBA", (24 + 8 * index, 24 + 4 * index))
        draw, right, low = ImageDraw.Draw(logo), logo.width - 4, logo.height - 4
        color = (255 - 30 * index, 40 * index, 90, 255)
        (draw.ellipse if index % 2 else draw.rectangle)((3, 3, right, low), fill=color)
        draw.line((3, low, right, 3), fill=(20, 20, 20, 255), width=3)
        logo.save(folder / f"logo{index}.png")
    return folder


@pytest.fixture(scope="session")
def photos(photo_folder):
    return find_images(photo_folder)


@pytest.fixture(scope="session")
def logos(logo_folder):
    return find_images(logo_folder, check_logo)


@pytest.fixture(scope="session")
def fonts():
    return [font for font in find_fonts() if font.path.name in ("DejaVuSans.ttf", "cmr10.ttf")]


@pytest.fixture(scope="session")
def make_mark(logos):
    """Makes MarkParams of an opaque, upright logo in the middle; arguments change fields."""

    def make(**changes) -> MarkParams:
        plain = dict(
            kind="logo", logo=logos[0].path, font=None, text="", layout="single", color="original",
            tint=(10, 200, 30), effect="none", blend_mode="normal", opacity=1.0, scale=0.5,
            stretch=1.0, rotation_deg=0.0, center=(0.5, 0.5), gap=0.5,
        )  # fmt: skip
        return MarkParams(**{**plain, **changes})

    return make


PLAIN = dict(  # settings that change the photos little
    image_size=64, crop_range=(0.5, 1.0), native_probability=0, reduce_probability=0,
    edit_probability=0, negative_probability=0, clean_probability=0.2,
)  # fmt: skip


@pytest.fixture(scope="session")
def make_dataset(photos, logos, fonts):
    """Makes a WatermarkDataset with images of 64 x 64 pixels; arguments change settings."""

    def make(length=16, seed=0, **settings) -> WatermarkDataset:
        settings = WatermarkSettings(**PLAIN | settings)
        return WatermarkDataset(photos, logos, settings, length, seed, fonts)

    return make


def solid(height, width, rgb=(255, 255, 255), alpha=255):
    """A stamp of one colour, premultiplied."""
    color = [round(level * alpha / 255) for level in rgb]
    return np.full((height, width, 4), (*color, alpha), np.uint8)


def random_stamp(seed, height, width):
    rng = np.random.default_rng(seed)
    alpha = rng.integers(0, 256, (height, width, 1))
    color = rng.integers(0, 256, (height, width, 3)) * alpha // 255
    return np.dstack([color, alpha]).astype(np.uint8)


def assert_premultiplied(rgba):
    assert rgba.dtype == np.uint8 and rgba.ndim == 3 and rgba.shape[2] == 4
    assert (rgba[..., :3].astype(int) <= rgba[..., 3:].astype(int) + 1).all()


TINY = dict(encoder="tu-mobilenetv3_small_050", bridge_channels=8, decoder_channels=(8, 8, 8, 8))


@pytest.fixture
def make_model():
    """Makes a small network with random weights, which are always the same."""

    def make(**changes) -> WatermarkSegmenter:
        torch.manual_seed(0)
        return WatermarkSegmenter(**{**TINY, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_model():
    """A small network in evaluation mode, shared by all tests: do not change it."""
    torch.manual_seed(0)
    return WatermarkSegmenter(**TINY).eval()


@pytest.fixture(scope="session")
def tiny_weights(tiny_model, tmp_path_factory):
    """A folder with the weights of `tiny_model`, shared by all tests: do not change it."""
    folder = tmp_path_factory.mktemp("weights")
    tiny_model.save(folder)
    return str(folder)


@pytest.fixture
def weights(tiny_weights, tmp_path):
    """A folder with the weights of `tiny_model` that a test may change."""
    return shutil.copytree(tiny_weights, tmp_path / "weights")


@pytest.fixture
def arguments(weights, photo_folder, logo_folder, tmp_path):
    """Arguments of `evaluate.py measure` for two slices of two images each."""
    fonts = matplotlib.get_data_path() + "/fonts/ttf"
    return [
        *("measure", "--weights", str(weights), "--output", str(tmp_path / "out"), "--count", "2"),
        *("--photos", str(photo_folder), "--logos", str(logo_folder), "--fonts", fonts),
        *("--slices", "text", "clean"),
    ]


def _odd_images(folder):
    """Writes valid but unusual image files. Yields each path and the RGB array it must give."""

    def solid(height, width, color):
        return np.full((height, width, 3), color, np.uint8)

    def save(name, image, expected, **options):
        image.save(folder / name, **options)
        return folder / name, expected

    red, blue = (Image.new("RGB", (12, 8), color) for color in ("red", "blue"))
    animation = dict(save_all=True, append_images=[blue], duration=100)
    yield save("dot.png", Image.new("RGB", (1, 1), (1, 2, 3)), solid(1, 1, (1, 2, 3)))
    yield save("line.png", Image.new("RGB", (5000, 1), "red"), solid(1, 5000, (255, 0, 0)))
    wide = Image.fromarray(np.full((8, 12), 128 * 257, np.uint16))
    yield save("sixteen_bit.png", wide, solid(8, 12, 128))
    yield save("cmyk.jpg", red.convert("CMYK"), solid(8, 12, (254, 0, 0)), quality=95)
    yield save("grey.jpg", Image.new("L", (12, 8), 77), solid(8, 12, 77))
    yield save("bilevel.png", Image.new("1", (12, 8), 1), solid(8, 12, 255))
    yield save("animation.gif", red, solid(8, 12, (255, 0, 0)), **animation)
    yield save("animation.webp", red, solid(8, 12, (255, 0, 0)), lossless=True, **animation)
    yield save("animation.png", red, solid(8, 12, (255, 0, 0)), **animation)
    palette = Image.new("P", (12, 8), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.paste(0, (0, 0, 6, 8))
    expected = solid(8, 12, (200, 100, 50))
    expected[:, :6] = 255  # transparent pixels become white
    yield save("palette.png", palette, expected, transparency=0)
    yield save("grey_alpha.png", Image.new("LA", (12, 8), (100, 51)), solid(8, 12, 224))
    yield save("rgba.webp", Image.new("RGBA", (12, 8), (0, 0, 0, 0)), solid(8, 12, 255))
    upper_red = Image.new("RGB", (16, 32), "blue")  # what a viewer shows: portrait, red on top
    upper_red.paste("red", (0, 0, 16, 16))
    stored = upper_red.transpose(Image.Transpose.ROTATE_90)  # landscape; EXIF 6 rotates it back
    exif = Image.Exif()
    exif[0x0112] = 6
    yield save("exif.jpg", stored, np.array(upper_red), exif=exif, quality=100, subsampling=0)
    yield save("exif.png", stored, np.array(upper_red), exif=exif)
    yield save("exif.webp", stored, np.array(upper_red), exif=exif, lossless=True)
    exact = dict(quality=-1, chroma=444, matrix_coefficients=0)
    yield save("phone.HEIC", upper_red, np.array(upper_red), **exact)


@pytest.fixture(scope="session")
def odd_images(tmp_path_factory):
    """Pairs of a path and the expected RGB array."""
    return list(_odd_images(tmp_path_factory.mktemp("odd")))


@functools.cache
def _jpeg_bytes() -> bytes:
    return cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (40, 60, 3)))[1].tobytes()


BAD_FILES = {
    "truncated.jpg": lambda: _jpeg_bytes()[: len(_jpeg_bytes()) // 2],
    "zero.png": lambda: b"",
    "text.jpg": lambda: b"this is no picture",
}


@pytest.fixture(params=list(BAD_FILES))
def bad_file(request, tmp_path):
    path = tmp_path / request.param
    path.write_bytes(BAD_FILES[request.param]())
    return path


@pytest.fixture
def score_of_the_head(monkeypatch):
    """The score of an image comes from the network alone, not from regions of the mask."""
    monkeypatch.setattr("inference.regions.REGION_WEIGHT", 0)
