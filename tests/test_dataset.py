"""Samples and batches of training and validation."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import PLAIN, paint_photo
from PIL import Image

from dataset import WatermarkDataset, WatermarkSettings, make_datasets
from inference.maps import reduced
from inference.segmenter import recompressed
from samples import IGNORE
from samples.compositing import BLEND_MODES, VISIBLE_LEVELS
from samples.files import find_photos
from samples.grid import write_grid
from samples.layouts import LAYOUTS
from samples.loading import MIN_MARK_PIXELS, image_label, make_loader
from samples.marks import COLORS, EFFECTS, LOGO_KINDS, MARKS
from samples.photos import crop_photo
from samples.text import glyph_names

SMALL = WatermarkSettings(image_size=64)


def marks_of(data):
    return [mark for index in range(len(data)) for mark in data.params(index).marks]


def images_of(data, indices):
    return [data[index]["image"].numpy().tobytes() for index in indices]


def test_samples_have_the_promised_shapes_and_values(make_dataset):
    data = make_dataset(length=24)
    assert len(data) == 24
    for index in range(24):
        sample = data[index]
        assert {key: (value.dtype, tuple(value.shape)) for key, value in sample.items()} == {
            "image": (torch.uint8, (3, 64, 64)),
            "mask": (torch.uint8, (1, 64, 64)),
            "label": (torch.uint8, ()),
        }
        assert set(sample["mask"].unique().tolist()) <= {0, 1, IGNORE}
        assert sample["label"] == image_label(sample["mask"].numpy())
        shown = recompressed(data.stages(index)["image"], quality=95)  # as in `segment`
        assert np.array_equal(sample["image"].numpy().transpose(1, 2, 0), shown)


def test_the_mask_shows_what_the_marks_changed(make_dataset):
    data = make_dataset(length=60, clean_probability=0.1, several_probability=0.3)
    shown = 0
    for index in range(60):
        stages = data.stages(index)
        change = np.abs(stages["photo"].astype(int) - stages["composite"]).max(axis=2)
        mask, coverage = stages["mask"], stages["coverage"]
        assert not change[coverage == 0].any()
        assert np.array_equal(mask == 0, coverage == 0)
        assert (change[mask == 1] >= VISIBLE_LEVELS).all()
        shown += (mask == 1).any()
    assert shown > 30


def test_clean_photos_and_several_marks_occur(make_dataset):
    data = make_dataset(length=200)
    counts = [len(data.params(index).marks) for index in range(200)]
    assert set(counts) == {0, 1, 2, 3}
    assert 20 <= counts.count(0) <= 60  # one in five
    clean = data[counts.index(0)]
    assert clean["label"] == 0 and not clean["mask"].any()


TABLES = dict(kinds=MARKS, layouts=LAYOUTS, colors=COLORS, effects=EFFECTS, blend_modes=BLEND_MODES)


@pytest.mark.parametrize(
    "table, name", [(table, name) for table, names in TABLES.items() for name in names]
)
def test_every_entry_of_a_table_can_be_the_only_one(make_dataset, table, name):
    """Also for kinds of marks with layouts or colours of their own."""
    alone = {"clean_probability": 0.0, "opacity_range": (1.0, 1.0), table: {name: 1}}
    data = make_dataset(length=8, **alone)
    assert any((data.stages(index)["mask"] == 1).sum() >= MIN_MARK_PIXELS for index in range(8))
    for kinds in [None] if table == "kinds" else [{kind: 1} for kind in MARKS]:
        own = {"kinds": kinds} if kinds else {}
        data = make_dataset(length=12, **alone, **own, usual_look_probability=0.5)
        assert {getattr(mark, table[:-1]) for mark in marks_of(data)} == {name}


def test_marks_with_the_usual_look_are_white_and_plain(make_dataset):
    always = dict(clean_probability=0.0, usual_look_probability=1.0)
    for mark in marks_of(make_dataset(40, **always, usual_opacity_range=(0.4, 0.5))):
        assert mark.color == "white" or mark.kind == "squares"  # squares keep their colours
        assert mark.blend_mode == "normal"
        assert mark.effect in ("none", "shadow") and 0.4 <= mark.opacity <= 0.5
    for low, high in ((0.1, 0.2), (0.9, 0.95)):
        marks = marks_of(make_dataset(20, **always, opacity_range=(low, high)))
        assert all(low <= mark.opacity <= high for mark in marks)


def test_the_mask_can_be_the_coverage_alone(make_dataset):
    loose = make_dataset(ignore_undecidable=False)
    for index in range(6):
        expected = loose.stages(index)["coverage"] >= 128
        assert np.array_equal(loose[index]["mask"][0].numpy(), expected)


def test_a_kind_can_have_layouts_of_its_own(make_dataset):
    places = {"signature": {"centre": 1}}
    data = make_dataset(length=60, clean_probability=0.0, layouts={"grid": 1}, kind_layouts=places)
    drawn = {(mark.kind == "signature", mark.layout) for mark in marks_of(data)}
    assert drawn == {(True, "centre"), (False, "grid")}


def test_marks_can_be_enlarged_all_at_once(make_dataset):
    plain, large = (
        marks_of(make_dataset(20, clean_probability=0, mark_scale=scale)) for scale in (1.0, 1.5)
    )
    assert [mark.scale for mark in large] == pytest.approx([1.5 * mark.scale for mark in plain])


def test_texts_of_the_settings_replace_random_words(make_dataset):
    data = make_dataset(length=30, texts=("one", "two"), kinds={"text": 1}, clean_probability=0)
    assert {mark.text for mark in marks_of(data)} == {"one", "two"}


@pytest.mark.parametrize(
    "setting, field, value",
    [
        ("tile_gap_range", "gap", 0.37), ("downscale_range", "downscale", 0.61),
        ("blur_sigma_range_px", "blur_sigma_px", 0.83), ("noise_std_range", "noise_std", 3.1),
        ("enlarge_range", "enlarge", 1.7), ("reduce_range", "reduce", 0.43),
    ],
)  # fmt: skip
def test_a_range_of_one_value_gives_that_value(make_dataset, setting, field, value):
    always = ("downscale", "blur", "noise", "enlarge", "reduce")
    settings = {f"{name}_probability": 1.0 for name in always} | {"clean_probability": 0.0}
    data = make_dataset(**settings, **{setting: (value, value)})
    drawn = marks_of(data) if field == "gap" else [data.params(index) for index in range(8)]
    assert {getattr(item, field) for item in drawn} == {value}


def test_a_sample_depends_on_seed_epoch_and_index_alone(make_dataset):
    data = make_dataset()
    once = images_of(data, range(8))
    assert images_of(make_dataset(), [(0, index) for index in range(8)]) == once
    assert not set(images_of(make_dataset(seed=1), range(8))) & set(once)
    assert not set(images_of(data, [(1, index) for index in range(8)])) & set(once)


def test_datasets_without_photos_or_needed_logos_are_refused(photos, logos, fonts):
    with pytest.raises(ValueError, match="Got 0 photos"):
        WatermarkDataset([], logos, fonts=fonts)
    text_only = replace(SMALL, kinds={"text": 1}, clean_probability=0.0)
    data = WatermarkDataset(photos, [], text_only, fonts=fonts)
    assert data[0]["mask"].any() and len(data) == len(photos)  # by default
    with pytest.raises(ValueError, match="length 12, marks_per_crop 0; use 1 or more"):
        WatermarkDataset(photos, logos, SMALL, 12, 0, fonts, 0)


def test_only_fonts_with_all_letters_of_the_texts_are_used(photos, logos, fonts):
    arrow = replace(SMALL, texts=("to → ∞",), kinds={"text": 1})
    data = WatermarkDataset(photos, logos, arrow, 12, 0, fonts)
    lacking = {font.path for font in fonts if not {0x2192, 0x221E} <= glyph_names(font.path).keys()}
    assert lacking and {f.path for f in data.fonts} == {f.path for f in fonts} - lacking
    with pytest.raises(ValueError, match=r"cannot write 京.*into the folder of fonts"):
        WatermarkDataset(photos, logos, replace(arrow, texts=("東京",)), 12, 0, fonts)


def test_workers_give_the_same_samples_and_no_duplicates(make_dataset):
    data = make_dataset(length=12)
    alone, shared = (list(make_loader(data, 4, workers, train=True)) for workers in (0, 2))
    assert len(alone) == len(shared) == 3
    for batch, other in zip(alone, shared):
        assert all(torch.equal(batch[key], other[key]) for key in batch)
        assert len({image.numpy().tobytes() for image in batch["image"]}) == 4


def test_training_samples_change_each_epoch_and_validation_samples_never_do(make_dataset):
    train, val = (make_loader(make_dataset(length=7), 4, train=train) for train in (True, False))
    (first,) = list(train)  # an incomplete batch is left out
    train.sampler.set_epoch(1)
    (second,) = list(train)
    assert all(not torch.equal(a, b) for a, b in zip(first["image"], second["image"]))
    assert [len(batch["label"]) for batch in val] == [4, 3]
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(val, val))


def test_too_few_samples_for_a_batch_are_refused(photos, logos, fonts):
    data = WatermarkDataset(photos, logos, None, 5, 0, fonts, marks_per_crop=2)
    assert len(make_loader(data, 4, train=True)) == 1
    with pytest.raises(ValueError, match=r"5 training samples, 2 for each crop, do not fill one"):
        make_loader(data, 5, train=True)


def test_samples_of_a_group_share_the_crop_but_not_the_marks(photos, logos, fonts):
    settings = replace(SMALL, clean_probability=0, edit_probability=0.5)
    data = WatermarkDataset(photos, logos, settings, 12, 0, fonts, marks_per_crop=3)
    drawn = [data.params(index) for index in range(12)]
    for first in range(0, 12, 3):
        trio = drawn[first : first + 3]
        assert len({(p.photo, p.crop, p.flip, p.edits) for p in trio}) == 1
        assert len({p.marks for p in trio}) == 3
        stages = [data.stages(first + view) for view in range(3)]
        assert all(np.array_equal(s["photo"], stages[0]["photo"]) for s in stages)
    assert len({p.crop for p in drawn}) == 4
    assert data.params((1, 1)).crop == data.params((1, 0)).crop != data.params(1).crop


def test_train_and_val_share_no_photo_no_logo_and_no_mark(photo_folder, logo_folder, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "photos")
    for path in list((tmp_path / "photos").iterdir()):
        shutil.copy(path, path.with_name(f"copy_of_{path.name}"))
    train, val = make_datasets(
        tmp_path / "photos", logo_folder, None, SMALL, 50, 30, val_fraction=0.4, seed=1
    )
    assert (len(train), len(val)) == (50, 30)
    for one, other, count in ((train.photos, val.photos, 16), (train.logos, val.logos, 6)):
        assert one and other and len(one) + len(other) == count
        assert not {file.sha256 for file in one} & {file.sha256 for file in other}
    centers = [{mark.center for mark in marks_of(data)} for data in (train, val)]
    assert not set.intersection(*centers)


def test_validation_does_not_follow_the_settings(photo_folder, logo_folder):
    """So metrics of trainings with different settings can be compared."""
    files = dict(photos=photo_folder, logos=logo_folder, val_length=3, val_fraction=0.3)
    edited = replace(SMALL, colors={"black": 1}, opacity_range=(0.9, 1.0), clean_probability=0)
    first, second = (make_datasets(**files, settings=one)[1] for one in (SMALL, edited))
    assert images_of(first, range(3)) == images_of(second, range(3))
    assert make_datasets(**files, settings=SMALL, val_settings=edited)[1].settings == edited


def test_one_logo_serves_both_sides_and_text_needs_no_logo(photo_folder, logo_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"No usable image below {tmp_path}"):
        make_datasets(photo_folder, tmp_path)
    shutil.copy(logo_folder / "logo0.png", tmp_path)
    for data in make_datasets(photo_folder, tmp_path, settings=SMALL, val_fraction=0.3):
        assert [logo.path.name for logo in data.logos] == ["logo0.png"]
    text = replace(SMALL, kinds={"text": 1})
    train, val = make_datasets(photo_folder, None, settings=text, val_fraction=0.3)
    assert not train.logos and not any(val.settings.kinds.get(kind) for kind in LOGO_KINDS)
    with pytest.raises(ValueError, match="0 logos"):
        make_datasets(photo_folder, None, settings=SMALL, val_fraction=0.3)


@pytest.mark.parametrize("marks_per_crop, length", [(1, 8), (1, 5), (2, 5), (2, 4)])
def test_each_photo_is_shown_once_before_any_is_shown_again(
    photos, logos, fonts, marks_per_crop, length
):
    data = WatermarkDataset(photos, logos, SMALL, length, 0, fonts, marks_per_crop)
    crops = [(e, i) for e in range(8) for i in range(0, length, marks_per_crop)]
    shown = [data.params(crop).photo for crop in crops]
    first, second = shown[:8], shown[8:16]
    assert sorted(first) == sorted(second) == list(range(8)) and first != second
    assert [data.params(crop).photo for crop in crops[::-1]] == shown[::-1]


def test_photos_come_from_weighted_folders_and_lists(photo_folder, photos, fonts, tmp_path):
    (tmp_path / "hard.txt").write_text(f"\ufeff{photos[2].path}\n\n{photos[5].path}\n", "utf-8")
    found = find_photos({str(photo_folder): 1, tmp_path / "hard.txt": 2.5})
    assert [photo.path for photo in found] == [p.path for p in [*photos, photos[2], photos[5]]]
    text = replace(SMALL, kinds={"text": 1})
    data = WatermarkDataset(found, [], text, 13, 0, fonts)  # 8 x 1 + 2 x 2.5
    counts = [np.bincount([data.params((epoch, i)).photo for i in range(13)], minlength=10)
              for epoch in range(20)]  # fmt: skip
    assert (np.array(counts)[:, :8] == 1).all()
    assert {int(n) for n in np.array(counts)[:, 8:].flat} == {2, 3}
    with pytest.raises(ValueError, match=r"weight of the photos in .* is 0; give one above 0"):
        find_photos({photo_folder: 0})


@pytest.fixture
def large_photo(tmp_path):
    Image.fromarray(paint_photo(0, 640, 900)).save(tmp_path / "large.jpg", quality=95)
    (photo,) = find_photos(tmp_path)
    return photo


def test_large_photos_are_shown_in_detail(large_photo, logos, fonts):
    settings = replace(SMALL, native_probability=1, native_range=(1, 2))
    data = WatermarkDataset([large_photo], logos, settings, 20, 0, fonts)
    sides = [data.params(index).crop[0] * 640 / 64 for index in range(20)]
    assert 1 <= min(sides) < 1.2 and 1.8 < max(sides) <= 2
    whole = replace(settings, native_probability=0)
    far = WatermarkDataset([large_photo], logos, whole, 20, 0, fonts)
    assert min(far.params(index).crop[0] for index in range(20)) >= 0.5


def test_a_photo_is_decoded_no_larger_than_needed(large_photo, logos, fonts):
    full = large_photo.read()
    shapes = [large_photo.read(zoom).shape[0] for zoom in (2, 1, 0.51, 0.5, 0.2, 0.1)]
    assert full.shape == (640, 900, 3) and shapes == [640, 640, 640, 320, 160, 80]
    assert np.abs(reduced(full, 0.25).astype(int) - large_photo.read(0.2)).max() < 6
    settings = WatermarkSettings(**PLAIN | dict(crop_range=(1, 1), clean_probability=1))
    data = WatermarkDataset([large_photo], logos, settings, 4, 0, fonts)
    for index in range(4):
        params = data.params(index)
        whole = crop_photo(reduced(full, params.reduce), params.crop, params.flip, 64)
        assert np.abs(data.stages(index)["photo"] - whole.astype(int)).mean() < 4


def test_a_file_is_opened_again_only_after_it_changed(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.fromarray(paint_photo(0, 60, 90)).save(path)
    (first,) = find_photos(tmp_path)
    opened, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(1) or real(*a, **k))
    assert find_photos(tmp_path) == [first] and not opened
    Image.fromarray(paint_photo(1, 64, 90)).save(path)
    assert find_photos(tmp_path)[0].sha256 != first.sha256 and opened


def test_a_grid_shows_what_a_change_did(make_dataset, tmp_path):
    write_grid(make_dataset(6, clean_probability=1), tmp_path / "old.png")
    write_grid(make_dataset(6, clean_probability=0), tmp_path / "new.png", tmp_path / "old.png")
    old, new = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("old", "new"))
    side = old.shape[1]
    first, second, *_ = np.split(old[2:], 6)
    assert not np.array_equal(first, second)  # the same index in two epochs
    assert new.shape[1] == 2 * side and np.array_equal(new[:, :side], old)
    assert not np.array_equal(new[:, -side:], old)
    Image.new("RGB", (9, 9)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"other.png is no grid. Draw one first"):
        write_grid(make_dataset(), tmp_path / "x.png", tmp_path / "other.png")
