"""Your own mark and painted pairs: reading, checking, and mixing with general data."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dataset import WatermarkSettings, make_datasets
from samples import IGNORE
from samples.marks import load_logo
from samples.mixing import PairDataset, mix_in
from samples.own_mark import find_mark
from samples.pairs import find_pairs
from samples.splits import make_manifest
from samples.text import shipped_folder

SMALL = WatermarkSettings(image_size=32)


@pytest.fixture
def mark_folder(tmp_path, logo_folder):
    folder = tmp_path / "mark"
    folder.mkdir()
    shutil.copy(logo_folder / "logo0.png", folder)
    return folder


def test_logos_lines_and_font_of_a_folder_make_a_mark(mark_folder):
    (mark_folder / "words.txt").write_text("\ufeff© Jane Doe\n\n  jane.example \n", "utf-8")
    shutil.copy(shipped_folder() / "DejaVuSerif.ttf", mark_folder)
    mark = find_mark(mark_folder)
    assert [logo.path.name for logo in mark.logos] == ["logo0.png"]
    assert mark.texts == ("© Jane Doe", "jane.example")
    assert [font.path.parent for font in mark.fonts] == [mark_folder]
    settings = mark.settings(SMALL)
    assert settings.texts == mark.texts and settings.kinds == {"logo": 1, "text": 2}
    assert settings.image_size == 32
    assert settings.logo_stretch_range == SMALL.stretch_range  # little stretched


def test_a_mark_without_a_font_uses_dejavu_sans(tmp_path):
    (tmp_path / "a.txt").write_text("Привет", "utf-8")
    mark = find_mark(tmp_path)
    assert not mark.logos and mark.settings(WatermarkSettings()).kinds == {"logo": 0, "text": 1}
    assert [font.path.name for font in mark.fonts] == ["DejaVuSans.ttf"]


@pytest.mark.parametrize("find", [find_mark, lambda folder: make_datasets(None, folder)])
def test_a_logo_file_that_changed_is_read_again(mark_folder, logo_folder, find):
    path = mark_folder / "logo0.png"
    shutil.copy(logo_folder / "logo1.png", mark_folder)  # training and validation need one each
    find(mark_folder)
    before = load_logo(path)
    Image.new("RGBA", (9, 7), (255, 0, 0, 128)).save(path)
    find(mark_folder)
    assert before.shape[:2] != load_logo(path).shape[:2] == (7, 9)


@pytest.mark.parametrize(
    "files, reason",
    [
        ({}, r"No mark in .*Put in one or more logos"),
        ({"a.txt": "北京"}, r"cannot write 京 北. Put a font that has all letters"),
        ({"a.txt": "Müller".encode("latin-1")}, r"a.txt is no UTF-8 text"),
        ({"a.txt": "Müller", "broken.ttf": b"no"}, r"The font broken.ttf cannot write M"),
        (  # a licence beside the font
            {"OFL.txt": "\n".join("abcdefghijk")},
            "have 11 lines. Each line is a text mark, and at most 10",
        ),
    ],
)
def test_a_mark_that_cannot_be_used_is_explained(tmp_path, files, reason):
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match=reason):
        find_mark(tmp_path)


def test_missing_folders_and_opaque_logos_are_explained(mark_folder):
    with pytest.raises(FileNotFoundError, match=r"No folder at .*nowhere"):
        find_mark(mark_folder / "nowhere")
    Image.new("RGB", (20, 20)).save(mark_folder / "photo.png")
    with pytest.raises(ValueError, match=r"1 logos cannot be used: .*photo.png \(has no transpar"):
        find_mark(mark_folder)


@pytest.fixture
def pair_folders(tmp_path):
    """Four photos of 40 x 60 px, each with a white box painted into its mask."""
    folders = tmp_path / "images", tmp_path / "masks"
    for folder in folders:
        folder.mkdir()
    for i in range(4):
        photo, mask = np.full((40, 60, 3), 50 * i, np.uint8), np.zeros((40, 60), np.uint8)
        photo[10:30, 20:50] += 40
        mask[10:30, 20:50], mask[10, 20:50] = 255, 128  # the upper edge is undecidable
        Image.fromarray(photo).save(folders[0] / f"{i}.png")
        Image.fromarray(mask).save(folders[1] / f"{i}.png")
    return folders


def test_a_crop_of_a_pair_has_the_same_crop_of_the_mask(pair_folders):
    settings = WatermarkSettings(image_size=32, crop_range=(0.8, 0.8))  # of 40 px: no resizing
    data = PairDataset(find_pairs(*pair_folders), settings, length=20)
    for index in range(20):
        stages, sample = data.stages(index), data[index]
        image, mask = stages["image"], stages["mask"]
        marked = (image[..., 0] % 50) == 40
        assert image.shape == (32, 32, 3) and set(np.unique(mask)) <= {0, 1, IGNORE}
        assert marked[mask == 1].all() and not marked[mask == 0].any()
        assert torch.equal(sample["mask"][0], torch.from_numpy(mask))
        assert sample["image"].shape == (3, 32, 32) and sample["label"] == 1
    assert len({data.stages(i)["image"].tobytes() for i in range(20)}) > 10
    again, later = data.stages((0, 3))["image"], data.stages((1, 3))["image"]
    assert np.array_equal(data.stages(3)["image"], again) and not np.array_equal(again, later)


def test_pairs_that_do_not_match_are_explained(pair_folders):
    images, masks = pair_folders
    Image.new("L", (60, 41)).save(masks / "2.png")
    with pytest.raises(ValueError, match=r"2.png has 60 x 41 pixels, its image .* has 60 x 40"):
        find_pairs(images, masks)
    (masks / "2.png").unlink()
    with pytest.raises(ValueError, match=r"1 files have no partner .*: 2 "):
        find_pairs(images, masks)
    for i in range(4):
        Image.new("L", (60, 40)).save(masks / f"{i}.png")
    with pytest.raises(ValueError, match=r"All 4 masks in .* are empty: paint the marks white"):
        find_pairs(images, masks)


def test_training_mixes_and_validation_has_only_own_samples(
    make_dataset, mark_folder, pair_folders
):
    general = make_dataset(image_size=32), make_dataset(image_size=32, seed=1)
    mark, pairs = find_mark(mark_folder), find_pairs(*pair_folders)
    train, val = mix_in(general, 0.5, mark, pairs, SMALL, val_fraction=0.5)
    assert train.weights == (0.25, 0.25, 0.5) and val.weights == (0.5, 0.5)
    assert train.datasets[2] is general[0] and len(train) == len(general[0])
    sides = [{pair.name for pair in data.pairs} for data in (train, val)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    listed = make_manifest(**train.files)
    assert set(make_manifest(logos=mark.logos)["logos"]) <= set(listed["logos"])
    assert set(make_manifest(photos=train.pairs)["photos"]) <= set(listed["photos"])
    assert train[0, 1]["image"].shape[0] == 3


def test_impossible_mixtures_are_refused(make_dataset, mark_folder):
    general, mark = (make_dataset(), make_dataset()), find_mark(mark_folder)
    with pytest.raises(ValueError, match="Own samples have 32 px, general ones 64 px"):
        mix_in(general, 0.5, mark, settings=SMALL)
    with pytest.raises(ValueError, match="own_share is 0; it must lie above 0"):
        mix_in(general, 0, mark)
