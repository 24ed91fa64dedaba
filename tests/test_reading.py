"""Reading, finding and splitting image files."""

import warnings

import numpy as np
import pytest
from conftest import BAD_FILES, paint_photo
from PIL import Image, ImageOps, UnidentifiedImageError

from inference.reading import read_image, upright_size
from samples import files as image_files
from samples.files import check_images, find_images, sample_photos


def test_postscript_is_refused_under_any_name(tmp_path, monkeypatch):
    """Pillow would start Ghostscript to read it."""
    Image.new("RGB", (20, 10), "red").save(tmp_path / "photo.eps")
    (tmp_path / "photo.eps").rename(tmp_path / "photo.jpg")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("was started"))
    for read in (read_image, upright_size):
        with pytest.raises((ValueError, UnidentifiedImageError), match=r"photo\.jpg"):
            read(tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    "array, rgb",
    [
        (np.array([[0, 200]], np.uint8), [[[0, 0, 0], [200, 200, 200]]]),
        (np.array([[True, False]]), [[[255, 255, 255], [0, 0, 0]]]),
        (np.array([[[65535, 257, 0]]], np.uint16), [[[255, 1, 0]]]),
        (np.array([[[0.0, 0.5, 1.0]]]), [[[0, 128, 255]]]),
        (np.array([[[1.0, 0.2, 0.0]]], np.float16), [[[255, 51, 0]]]),
        (
            np.array([[[100, 0], [100, 255], [0, 51]]], np.uint8),
            [[[255] * 3, [100] * 3, [204] * 3]],
        ),
        (np.array([[[0, 100, 200, 51]]], np.uint8), [[[204, 224, 244]]]),  # 80 % white
    ],
)
def test_arrays_become_rgb_over_white(array, rgb):
    result = read_image(array)
    assert result.dtype == np.uint8
    assert result.tolist() == rgb


@pytest.mark.parametrize("shape", [(3, 8, 12), (8, 0)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(.*move channels last"):
        read_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "array, message",
    [(np.full((2, 2), 255.0), "float64 from 255.0"), (np.ones((2, 2), int), "int64 from 1 to 1")],
)
def test_arrays_of_other_dtypes_or_ranges_are_refused(array, message):
    with pytest.raises(ValueError, match=f"{message}.*Give bool, uint8, uint16, or float"):
        read_image(array)


@pytest.mark.parametrize("other", [None, b"abc", 5, {}, ["a.jpg", "b.jpg"], np.array([[None]])])
def test_other_types_are_refused_by_name(other):
    message = f"Got {type(other).__name__}.*Give a path, a PIL image or"
    with pytest.raises(ValueError, match=message):
        read_image(other)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match=r"PIL image.*no pixels"):
        read_image(Image.new("RGB", (0, 3)))


@pytest.mark.parametrize(
    "grey, expected",
    [
        (np.array([[0, 65535]], np.int32), [0, 255]),
        (np.array([[0, 100]], np.int32), [0, 100]),  # fits 8 bits, so white is 255
        (np.array([[0.0, 0.2]], np.float32), [0, 51]),
        (np.array([[0.0, 51.0]], np.float32), [0, 51]),
        (np.array([[np.nan, 1.0]], np.float32), [0, 255]),
        (np.array([[0.2, *[0.4] * 198, 1.5]], np.float32), [51, *[102] * 198, 255]),  # a highlight
    ],
)
def test_wide_grey_files_keep_their_brightness(tmp_path, grey, expected):
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    assert read_image(tmp_path / "grey.tif")[0, :, 0].tolist() == expected


def test_odd_files_become_rgb(odd_images):
    for path, expected in odd_images:
        result = read_image(path)
        assert (result.shape, result.dtype) == (expected.shape, np.uint8), path
        assert np.abs(result.astype(int) - expected).max() <= 2, path  # JPEG rounds


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_every_exif_orientation_is_applied(tmp_path, orientation, suffix):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:, :, 0] = np.linspace(0, 255, 32)  # red grows to the right, green downwards
    upright[:, :, 1] = np.linspace(0, 255, 16)[:, None]
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright), 7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    options = dict(quality=95, subsampling=0) if suffix == "jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    for result in (read_image(path), check_images([path])[0].read()):
        assert result.shape == upright.shape
        assert np.abs(result.astype(int) - upright).mean() < 3


def test_bad_and_missing_files_are_refused_by_name(bad_file):
    reason = " is empty" if bad_file.name == "zero.png" else ""
    with pytest.raises(ValueError, match=bad_file.name + reason):
        read_image(bad_file)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        read_image("nowhere.jpg")


def test_find_images_searches_subfolders_and_names_all_bad_files_in_one_warning(tmp_path):
    for name in ("z.PNG", "sub/a.jpg", ".hidden.png", ".thumbnails/z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    for name, content in BAD_FILES.items():
        (tmp_path / name).write_bytes(content())
    with pytest.warns(UserWarning) as caught:
        files = find_images(tmp_path)
    assert [str(file.path.relative_to(tmp_path)) for file in files] == ["sub/a.jpg", "z.PNG"]
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "3 of 5" in message
    assert all(name in message for name in BAD_FILES)
    assert "empty file" in message and "not an image" in message and "truncated" in message


def test_a_photo_is_turned_although_its_exif_block_cannot_be_rewritten(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0  # orientation, resolution
    entry = b"\x01\x1a\x00\x05"  # big-endian: a fraction ...
    damaged = exif.tobytes().replace(entry, b"\x01\x1a\x00\x07")  # ... now bytes
    damaged = damaged.replace(entry[1::-1] + b"\x05\x00", entry[1::-1] + b"\x07\x00")
    assert damaged != exif.tobytes()
    Image.new("RGB", (30, 20)).save(tmp_path / "photo.jpg", exif=damaged)
    with pytest.raises(TypeError):
        ImageOps.exif_transpose(Image.open(tmp_path / "photo.jpg"))
    assert read_image(tmp_path / "photo.jpg").shape == (30, 20, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_files_with_damaged_exif_are_left_out_or_readable(tmp_path, suffix):
    photo = Image.fromarray(paint_photo(0, 20, 30))
    photo.save(tmp_path / "good.png")
    photo.save(tmp_path / f"damaged.{suffix}", exif=b"Exif\0\0no TIFF header here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = find_images(tmp_path)
    assert {file.read().shape for file in files} == {(20, 30, 3)}
    assert all(upright_size(file.path) == (30, 20) for file in files)


@pytest.mark.parametrize("kind", [EOFError, MemoryError])
def test_errors_of_decoders_for_damaged_photos_are_explained(kind, tmp_path, monkeypatch):
    """pillow_heif raises EOFError; Pillow's JPEG 2000 decoder raises MemoryError."""
    (tmp_path / "photo.heic").write_bytes(b"damaged")

    def end(*_, **__):
        raise kind("Unexpected end of file")

    monkeypatch.setattr(Image, "open", end)
    with pytest.raises(ValueError, match=r"photo\.heic.*Unexpected end of file"):
        read_image(tmp_path / "photo.heic")


def test_missing_and_empty_folders_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No folder at .*nowhere"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"No usable image below .*\.jpg.* found none"):
        find_images(tmp_path)


def test_sample_photos_without_scikit_image_say_what_to_do(monkeypatch):
    monkeypatch.setattr(image_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install scikit-image"):
        sample_photos()
