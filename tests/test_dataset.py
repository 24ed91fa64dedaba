"""Samples: drawn, rendered, indexed, batched and split."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import PLAIN, paint_photo, solid
from PIL import Image

from dataset import (
    WatermarkDataset,
    WatermarkSettings,
    add_watermark,
    composite,
    make_datasets,
    make_layer,
    render_sample,
)
from inference.maps import reduced
from inference.segmenter import recompressed
from samples import IGNORE, files, loading
from samples.compositing import BLEND_MODES, VISIBLE_LEVELS
from samples.files import ImageFile, find_photos, jpeg_reduction
from samples.grid import write_grid
from samples.layouts import LAYOUTS, Layer
from samples.loading import MIN_MARK_PIXELS, FreshSampler, image_label, make_loader
from samples.marks import COLORS, EFFECTS, LOGO_KINDS, MARKS
from samples.photos import EDITS, crop_photo, degrade, draw_deck, photo_square
from samples.text import glyph_names

# --- One sample ---------------------------------------------------------------------------------


def test_crop_by_hand():
    photo = np.zeros((4, 6, 3), np.uint8)
    photo[2, 4], photo[2, 5] = 100, 200  # upper row of the lower right 2 x 2 square
    expected = np.array([[100, 200], [0, 0]])
    assert np.array_equal(crop_photo(photo, (0.5, 1.0, 1.0), False, 2)[..., 0], expected)
    assert np.array_equal(crop_photo(photo, (0.5, 1.0, 1.0), True, 2)[..., 0], expected[:, ::-1])
    assert not crop_photo(photo, (0.5, 0.0, 0.0), False, 2).any()


@pytest.mark.parametrize("side", [0.7, 1.0, 2.5])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 500), (3, 2), (300, 200)])
def test_photos_of_any_size_can_be_cropped(height, width, side):
    photo = np.full((height, width, 3), 9, np.uint8)
    square = crop_photo(photo, (side, 0.5, 0.5), True, 32)
    assert square.shape == (32, 32, 3) and (square == 9).all()


def test_a_crop_larger_than_the_photo_mirrors_it():
    photo = np.zeros((4, 6, 3), np.uint8)
    photo[:, 0], photo[0] = 90, 200  # its left column, its upper row
    square = crop_photo(photo, (2.0, 1.0, 0.5), False, 8)[..., 0]  # 8 px: 2 to the left, 2 above
    assert np.array_equal(square[2:6, 2:], photo[..., 0])
    assert np.array_equal(square[2:6, 1], photo[:, 0, 0])  # mirrored at the left edge
    assert (square[1, 2:] == 200).all() and (square[0, 3:] == 0).all()


def test_a_crop_larger_than_the_photo_is_averaged():
    photo = np.zeros((8, 8, 3), np.uint8)
    photo[1] = 150  # the first of 8 rows covers 1.5 of 12
    assert (crop_photo(photo, (1.5, 0.0, 0.0), False, 8)[0] == 50).all()


@pytest.fixture
def clean_params(make_dataset):
    """Params of a photo that stays as it is."""
    params = make_dataset(clean_probability=1.0).params(0)
    nothing = dict(downscale=1.0, blur_sigma_px=0.0, noise_std=0.0, jpeg_quality=0, enlarge=1.0)
    return replace(params, **nothing)


def test_without_degradation_the_image_stays(clean_params):
    image = paint_photo(0, 64, 64)
    assert np.array_equal(degrade(image, clean_params), image)


def test_a_picture_is_enlarged_after_its_recompression(clean_params):
    """JPEG's blocks of 8 px are 16 px wide then."""
    photo, params = paint_photo(0, 64, 64), replace(clean_params, jpeg_quality=40)
    as_is, enlarged = (degrade(photo, replace(params, enlarge=zoom)) for zoom in (1.0, 2.0))
    small = cv2.resize(photo, (32, 32), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(degrade(small, params), (64, 64), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(enlarged, expected) and not np.array_equal(enlarged, as_is)


def test_a_negative_is_that_of_all_that_happened(make_dataset):
    samples = [make_dataset(negative_probability=p).stages(3) for p in (0.0, 1.0)]
    assert np.array_equal(samples[1].pop("image"), 255 - samples[0].pop("image"))
    assert all(np.array_equal(samples[1][name], samples[0][name]) for name in samples[0])


def test_enlargement_changes_nothing_else_that_is_drawn(make_dataset):
    without = make_dataset(enlarge_probability=0).params(3)
    enlarged = make_dataset(enlarge_probability=1.0, enlarge_range=(1.5, 2.0)).params(3)
    assert without.enlarge == 1 and 1.5 <= enlarged.enlarge <= 2
    assert replace(enlarged, enlarge=1.0) == without


def test_edits_are_done_to_the_photo_before_any_mark(make_dataset):
    without = make_dataset(edit_probability=0).params(3)
    edits = dict.fromkeys(EDITS) | dict(contrast=(1.5, 1.5), brightness=(0.5, 0.5))  # no others
    params = make_dataset(edit_probability=1.0, edits=edits).params(3)
    assert [(edit.name, edit.amount) for edit in params.edits] == [
        ("contrast", 1.5), ("brightness", 0.5)]  # fmt: skip
    assert replace(params, edits=()) == without
    photo = np.repeat(np.uint8([0, 102, 153, 255]), 8)[None, :, None].repeat(32, 0).repeat(3, 2)
    stages = render_sample(replace(params, crop=(1.0, 0.0, 0.0), flip=False), photo, 32)
    # 1.5 times the distance from the middle (.4 to .35, .6 to .65), then half of it
    assert stages["photo"][0, ::8, 0].tolist() == [0, 45, 83, 128]
    unmarked = stages["coverage"] == 0
    assert np.array_equal(stages["composite"][unmarked], stages["photo"][unmarked])


def test_pairs_share_their_edits(make_dataset):
    data = make_dataset(20, edit_probability=0.5)
    data.marks_per_crop = 2
    edits = [data.params(index).edits for index in range(20)]
    assert edits[::2] == edits[1::2] and len(set(edits)) > 5


def test_a_photo_is_reduced_before_its_crop(make_dataset):
    without = make_dataset(reduce_probability=0).params(3)
    params = make_dataset(reduce_probability=1.0, reduce_range=(0.5, 0.5)).params(3)
    assert params.reduce == 0.5 and replace(params, reduce=1.0) == without
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[::2] = 200  # every second row: the mean of two is 100
    params = replace(params, crop=(1.0, 0.0, 0.0), marks=(), flip=False)
    assert (render_sample(params, photo, 32)["photo"] == 100).all()


@pytest.mark.parametrize(
    "change",
    [dict(downscale=0.5), dict(blur_sigma_px=1.0), dict(noise_std=5.0), dict(jpeg_quality=40)],
)
def test_degradation_changes_pixels_not_the_scene(clean_params, change):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :] = (200, 60, 20)
    image[20:40, 10:30] = (20, 60, 200)
    before = image.copy()
    results = [degrade(image, replace(clean_params, **change)) for _ in range(2)]
    assert np.array_equal(*results)
    assert np.array_equal(image, before)
    assert (results[0].shape, results[0].dtype) == (image.shape, np.uint8)
    difference = np.abs(results[0].astype(int) - image)
    assert 0 < difference.mean() < 8  # neither untouched nor moved nor with swapped channels


@pytest.mark.parametrize("downscale", [0.5019, 0.502, 0.777])  # 256 px: 128.49, 128.51, 198.9
@pytest.mark.parametrize("enlarge", [1.0, 1.37])
def test_degradation_does_not_shift_the_picture_against_its_mask(clean_params, downscale, enlarge):
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, 240:] = 200
    result = degrade(image, replace(clean_params, downscale=downscale, enlarge=enlarge))
    edge = 256 - result[128, :, 0].sum(dtype=float) / 200
    assert edge == pytest.approx(240, abs=0.15)


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
        stages = data.stages(index)
        shown = recompressed(stages["image"], quality=95)  # as `segment` shows its views
        assert np.array_equal(sample["image"].numpy().transpose(1, 2, 0), shown)


def test_the_mask_tells_what_the_marks_changed(make_dataset):
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


@pytest.mark.parametrize("kind", [None, *MARKS])
@pytest.mark.parametrize(
    "table, name", [(table, name) for table, names in TABLES.items() for name in names]
)
def test_every_alternative_can_be_forced_alone(make_dataset, table, name, kind):
    """Whatever place, colours and look a kind mostly has."""
    kinds = {"kinds": {kind: 1}} if kind and table != "kinds" else {}
    data = make_dataset(length=20, clean_probability=0.0, **kinds, **{table: {name: 1}})
    chosen = {getattr(mark, table[:-1]) for i in range(20) for mark in data.params(i).marks}
    assert chosen == {name}


@pytest.mark.parametrize(
    "table, name", [(table, name) for table, names in TABLES.items() for name in names]
)
def test_every_alternative_shows(make_dataset, table, name):
    data = make_dataset(
        length=8, clean_probability=0.0, opacity_range=(1.0, 1.0), **{table: {name: 1}}
    )
    assert any((data.stages(index)["mask"] == 1).sum() >= MIN_MARK_PIXELS for index in range(8))


def marks_of(data):
    return [mark for index in range(len(data)) for mark in data.params(index).marks]


def test_the_usual_look_is_white_plain_and_half_transparent(make_dataset):
    always = dict(clean_probability=0.0, usual_look_probability=1.0)
    for mark in marks_of(make_dataset(40, **always, usual_opacity_range=(0.4, 0.5))):
        assert mark.color == "white" or mark.kind == "squares"  # those have colours of their own
        assert mark.blend_mode == "normal"
        assert mark.effect in ("none", "shadow") and 0.4 <= mark.opacity <= 0.5
    never = make_dataset(40, clean_probability=0.0, usual_look_probability=0.0)
    assert len({mark.color for mark in marks_of(never)}) >= 6


@pytest.mark.parametrize(
    "setting, value", [("colors", {"black": 1}), ("effects", {"border": 1}),
                       ("blend_modes", {"screen": 1}), ("opacity_range", (0.1, 0.2)),
                       ("opacity_range", (0.9, 0.95))],
)  # fmt: skip
def test_the_usual_look_keeps_to_what_is_set(make_dataset, setting, value):
    data = make_dataset(20, clean_probability=0, usual_look_probability=1, **{setting: value})
    for mark in marks_of(data):
        if setting == "opacity_range":
            assert value[0] <= mark.opacity <= value[1]
        else:
            assert getattr(mark, setting[:-1]) in value


def test_marks_can_be_enlarged_all_at_once(make_dataset):
    plain, large = (
        marks_of(make_dataset(20, clean_probability=0, mark_scale=scale)) for scale in (1.0, 1.5)
    )
    assert [mark.scale for mark in large] == pytest.approx([1.5 * mark.scale for mark in plain])


def test_the_highest_opacity_can_be_asked_for_more_often(make_dataset):
    def opacities(probability):
        data = make_dataset(
            length=200, clean_probability=0.0, opacity_range=(0.2, 0.6), several_probability=0.0,
            usual_look_probability=0.0, highest_opacity_probability=probability,
        )  # fmt: skip
        return [data.params(index).marks[0].opacity for index in range(200)]

    assert min(opacities(0.0)) >= 0.2 and max(opacities(0.0)) < 0.6
    assert 70 <= opacities(0.5).count(0.6) <= 130
    assert set(opacities(1.0)) == {0.6}


def test_only_plain_logos_are_stretched_far(make_dataset):
    data = make_dataset(
        length=200, clean_probability=0.0, stretch_range=(0.8, 1.25), logo_stretch_range=(2.0, 4.0)
    )
    marks = [mark for index in range(200) for mark in data.params(index).marks]
    assert {mark.kind for mark in marks if mark.stretch >= 2} == {"logo"}
    for mark in marks:
        low, high = (2, 4) if mark.kind == "logo" else (0.8, 1.25)
        assert low <= mark.stretch <= high


def test_some_kinds_have_a_place_of_their_own(make_dataset):
    places = {"signature": {"centre": 1}}
    data = make_dataset(length=60, clean_probability=0.0, layouts={"grid": 1}, kind_layouts=places)
    places = {(m.kind, m.layout) for index in range(60) for m in data.params(index).marks}
    assert places >= {("signature", "centre"), ("logo", "grid"), ("text", "grid")}
    assert all((kind == "signature") == (layout == "centre") for kind, layout in places)


@pytest.mark.parametrize("effect", ["outline", "shadow", "emboss"])
def test_effects_and_colours_show_in_the_layer(make_mark, effect):
    plain = make_layer(make_mark(color="grey", tint=(120, 120, 120)), (64, 64))
    layer = make_layer(make_mark(color="grey", tint=(120, 120, 120), effect=effect), (64, 64))
    white = make_layer(make_mark(color="white"), (64, 64)).rgba
    assert layer.rgba.shape != plain.rgba.shape or not np.array_equal(layer.rgba, plain.rgba)
    assert np.array_equal(white[..., 0], white[..., 3]) and white.any()


def test_mark_fills_the_fraction_of_the_image_that_scale_says(make_mark, logos):
    layer = make_layer(make_mark(logo=logos[4].path, scale=0.75), (64, 64))  # wider than high
    columns = np.flatnonzero(layer.rgba[..., 3].max(axis=0))
    assert columns[-1] - columns[0] + 1 == pytest.approx(48, abs=2)


def test_a_band_is_mask_over_the_full_width(make_mark, make_dataset):
    mark = make_mark(color="white", layout="band", opacity=0.4, center=(0.5, 1.0), scale=0.3)
    params = replace(make_dataset().params(0), marks=(mark,))
    mask = add_watermark(np.full((64, 96, 3), 128, np.uint8), params)["mask"]
    assert (mask[-1] == 1).all() and (mask.any(axis=1) == mask.all(axis=1)).all()
    assert 3 <= mask.any(axis=1).sum() <= 13


def test_same_params_render_the_same_sample(make_dataset):
    params, photo = make_dataset().params(3), paint_photo(0, 70, 90)
    first, second = (render_sample(params, photo, 96) for _ in range(2))
    assert first.keys() == {"photo", "composite", "image", "coverage", "mask"}
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert first["image"].shape == (96, 96, 3)


# --- Datasets and loaders -----------------------------------------------------------------------


def images_of(data, indices):
    return [data[index]["image"].numpy().tobytes() for index in indices]


def test_same_seed_same_samples_another_seed_others(make_dataset):
    once, again, other = (images_of(make_dataset(seed=s), range(8)) for s in (0, 0, 1))
    assert once == again
    assert not set(once) & set(other)


def test_epochs_differ_and_epoch_0_is_the_plain_index(make_dataset):
    data = make_dataset()
    plain = images_of(data, range(8))
    assert images_of(data, [(0, index) for index in range(8)]) == plain
    assert not set(images_of(data, [(1, index) for index in range(8)])) & set(plain)


@pytest.mark.parametrize("index", [-1, 16, (0, 16)])
def test_indices_out_of_range_are_refused(make_dataset, index):
    with pytest.raises(IndexError, match=r"out of range 0\.\.15"):
        make_dataset()[index]


def test_length_is_one_sample_for_each_photo_by_default(photos, logos, fonts):
    assert len(WatermarkDataset(photos, logos, fonts=fonts)) == len(photos)


def test_datasets_without_photos_or_needed_logos_are_refused(photos, logos, fonts):
    with pytest.raises(ValueError, match="Got 0 photos"):
        WatermarkDataset([], logos, fonts=fonts)
    with pytest.raises(ValueError, match="0 logos"):
        WatermarkDataset(photos, [], fonts=fonts)
    text_only = WatermarkSettings(image_size=64, kinds={"text": 1}, clean_probability=0.0)
    assert WatermarkDataset(photos, [], text_only, fonts=fonts)[0]["mask"].any()


def test_workers_give_the_same_samples_and_no_duplicates(make_dataset):
    data = make_dataset(length=12)
    alone, shared = (list(make_loader(data, 4, workers, train=True)) for workers in (0, 2))
    assert len(alone) == len(shared) == 3
    for batch, other in zip(alone, shared):
        assert all(torch.equal(batch[key], other[key]) for key in batch)
        assert len({image.numpy().tobytes() for image in batch["image"]}) == 4


def test_train_loader_is_fresh_each_epoch_and_val_loader_is_not(make_dataset):
    train, val = (make_loader(make_dataset(length=8), 4, train=train) for train in (True, False))
    first = torch.cat([batch["image"] for batch in train])
    train.sampler.set_epoch(1)
    second = torch.cat([batch["image"] for batch in train])
    assert all(not torch.equal(one, other) for one, other in zip(first, second))
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(val, val))


def test_fresh_sampler_counts_pairs_of_epoch_and_index():
    sampler = FreshSampler(2)
    sampler.set_epoch(5)
    assert (len(sampler), list(sampler)) == (2, [(5, 0), (5, 1)])


def test_train_loader_drops_the_rest_and_val_loader_keeps_it(make_dataset):
    data = make_dataset(length=7)
    sizes = [[len(b["label"]) for b in make_loader(data, 4, train=t)] for t in (True, False)]
    assert sizes == [[4], [4, 3]]


def test_train_and_val_share_no_photo_and_no_logo(photo_folder, logo_folder, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "photos")
    for path in list((tmp_path / "photos").iterdir()):
        shutil.copy(path, path.with_name(f"copy_of_{path.name}"))
    settings = WatermarkSettings(image_size=32)
    train, val = make_datasets(
        tmp_path / "photos", logo_folder, None, settings, 5, 3, val_fraction=0.4, seed=1
    )
    assert (len(train), len(val)) == (5, 3)
    for one, other, count in ((train.photos, val.photos, 16), (train.logos, val.logos, 6)):
        assert one and other and len(one) + len(other) == count
        assert not {file.sha256 for file in one} & {file.sha256 for file in other}
    assert train[0]["image"].shape == (3, 32, 32)


def test_logo_folder_without_logos_is_refused(photo_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"No usable image below {tmp_path}"):
        make_datasets(photo_folder, tmp_path)


def test_repository_comes_with_logos_to_train_on():
    train, val = make_datasets(settings=WatermarkSettings(image_size=32), val_length=4)
    assert len(train.logos) + len(val.logos) >= 2
    assert len(val) == 4


def test_processes_share_the_samples_out(make_dataset, monkeypatch):
    data = make_dataset(length=10)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(loading, "_rank", lambda rank=rank: (rank, 3))
        shares.append([index for _, index in FreshSampler(len(data))])
    assert {len(share) for share in shares} == {3}
    assert len({index for share in shares for index in share}) == 9


@pytest.mark.parametrize("length, processes", [(7, 1), (6, 3), (7, 3), (2, 3), (1, 4)])
def test_processes_validate_each_sample_once(make_dataset, monkeypatch, length, processes):
    """All have equally many batches; what fills them up has no weight."""
    data, seen, batches = make_dataset(length=length), [], set()
    for rank in range(processes):
        monkeypatch.setattr(loading, "_rank", lambda rank=rank: (rank, processes))
        loader = make_loader(data, 2)
        batches.add(len(list(loader)))
        for image, mask, label in (s for b in loader for s in zip(*b.values())):
            if (mask != IGNORE).any():
                seen.append(image.numpy().tobytes())
            else:
                assert label == IGNORE
    assert len(batches) == 1
    assert sorted(seen) == sorted(data[i]["image"].numpy().tobytes() for i in range(length))


def test_labelled_undecidable_pixels_follow_the_coverage(make_dataset):
    loose = make_dataset(
        ignore_undecidable=False, opacity_range=(0.05, 0.2), usual_look_probability=0.0
    )
    for index in range(6):
        expected = loose.stages(index)["coverage"] >= 128
        assert np.array_equal(loose[index]["mask"][0].numpy(), expected)


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
    drawn = [data.params(index) for index in range(8)]
    drawn = [mark for params in drawn for mark in params.marks] if field == "gap" else drawn
    assert {getattr(item, field) for item in drawn} == {value}


def test_too_few_samples_for_all_processes_are_refused(make_dataset, monkeypatch):
    monkeypatch.setattr(loading, "_rank", lambda: (0, 3))
    with pytest.raises(ValueError, match="10 training samples, 1 for each crop, do not fill"):
        make_loader(make_dataset(length=10), 4, train=True)


def test_another_photo_can_shine_through(make_dataset):
    settings = dict(clean_probability=1.0, jpeg_probability=0, noise_probability=0,
                    blur_probability=0, downscale_probability=0, flip_probability=0,
                    enlarge_probability=0)  # fmt: skip
    data = make_dataset(double_exposure_probability=1.0, **settings)
    params = data.params(3)
    photos = [data.photos[item.photo].read() for item in (params, params.exposure)]
    one = crop_photo(photos[0], params.crop, False, 64).astype(float)
    other = crop_photo(photos[1], params.exposure.crop, True, 64).astype(float)
    share = params.exposure.share
    expected = (1 - share) * one + share * other
    assert 0.3 <= share <= 0.7
    assert np.abs(data.stages(3)["image"] - expected).max() <= 1
    halves = [reduced(photo, 0.5) for photo in photos]  # of which both are shrunk, if one is
    shrunk = replace(params, reduce=0.5)
    expected = photo_square(params, halves[0], 64, halves[1])
    assert np.array_equal(photo_square(shrunk, photos[0], 64, photos[1]), expected)
    assert make_dataset(**settings).params(3).exposure is None


# --- Several marks on one crop ------------------------------------------------------------------


def test_neighbours_share_the_crop_and_have_marks_of_their_own(photos, logos, fonts):
    settings = WatermarkSettings(image_size=64, clean_probability=0)
    data = WatermarkDataset(photos, logos, settings, 12, 0, fonts, marks_per_crop=3)
    drawn = [data.params(index) for index in range(12)]
    for first in range(0, 12, 3):
        trio = drawn[first : first + 3]
        assert len({(p.photo, p.crop, p.flip) for p in trio}) == 1
        assert len({p.marks for p in trio}) == 3
        stages = [data.stages(first + view) for view in range(3)]
        assert all(np.array_equal(s["photo"], stages[0]["photo"]) for s in stages)
    assert len({p.crop for p in drawn}) == 4
    assert data.params((1, 1)).crop == data.params((1, 0)).crop != data.params(1).crop
    for length, marks_per_crop in ((12, 0), (0, 3)):
        message = f"length {length}, marks_per_crop {marks_per_crop}; use 1 or more"
        with pytest.raises(ValueError, match=message):
            WatermarkDataset(photos, logos, settings, length, 0, fonts, marks_per_crop)


def test_texts_are_written_by_fonts_that_can(photos, logos, fonts):
    arrow = WatermarkSettings(image_size=64, texts=("to → ∞",), kinds={"text": 1})
    data = WatermarkDataset(photos, logos, arrow, 12, 0, fonts)
    lacking = {font.path for font in fonts if not {0x2192, 0x221E} <= glyph_names(font.path).keys()}
    assert lacking and {f.path for f in data.fonts} == {f.path for f in fonts} - lacking
    with pytest.raises(ValueError, match=r"cannot write 京.*into the folder of fonts"):
        WatermarkDataset(photos, logos, replace(arrow, texts=("東京",)), 12, 0, fonts)


@pytest.mark.parametrize("exposure, reads", [(0, 4), (1, 8)])
def test_a_crop_is_decoded_once_for_all_its_marks(
    photos, logos, fonts, monkeypatch, exposure, reads
):
    read, real = [], ImageFile.read

    def note(self, zoom):
        read.append(self.path)
        return real(self, zoom)

    monkeypatch.setattr(ImageFile, "read", note)
    settings = WatermarkSettings(image_size=64, double_exposure_probability=exposure)
    data = WatermarkDataset(photos, logos, settings, 8, 0, fonts, marks_per_crop=2)
    for index in range(8):
        data[index]
    assert 0 < len(read) <= reads


@pytest.mark.parametrize("length, each", [(16, 8), (19, 8), (15, 6)])
def test_processes_share_crops_out_whole(monkeypatch, length, each):
    taken = []
    for rank in range(2):
        monkeypatch.setattr("samples.loading._rank", lambda rank=rank: (rank, 2))
        sampler = FreshSampler(length, marks_per_crop=2)
        indices = [index for _, index in sampler]
        assert len(indices) == len(sampler) == each
        assert all(b == a + 1 and a % 2 == 0 for a, b in zip(indices[::2], indices[1::2]))
        taken += indices
    assert sorted(taken) == list(range(2 * each))


def test_crops_that_do_not_fill_a_batch_are_refused(photos, logos, fonts):
    data = WatermarkDataset(photos, logos, None, 5, 0, fonts, marks_per_crop=2)
    assert len(make_loader(data, 4, train=True)) == 1
    with pytest.raises(ValueError, match=r"5 training samples, 2 for each crop, do not fill one"):
        make_loader(data, 5, train=True)


def test_training_repeats_crops_and_validation_does_not(photo_folder, logo_folder):
    folders = dict(photos=[photo_folder, photo_folder], logos=logo_folder, held_out=None)
    train, val = make_datasets(**folders, marks_per_crop=2, val_fraction=0.3)
    assert (train.marks_per_crop, val.marks_per_crop) == (2, 1)
    alone = make_datasets(**(folders | dict(photos=photo_folder)), val_fraction=0.3)
    for several, one in zip((train, val), alone):
        assert [p.path for p in several.photos] == [p.path for p in one.photos] * 2


def test_validation_does_not_follow_the_settings(photo_folder, logo_folder):
    """So that the numbers of two settings can be compared."""
    files = dict(photos=photo_folder, logos=logo_folder, val_length=3, val_fraction=0.3)
    plain = WatermarkSettings(image_size=64)
    edited = replace(plain, colors={"black": 1}, opacity_range=(0.9, 1.0), clean_probability=0)
    first, second = (make_datasets(**files, settings=one)[1] for one in (plain, edited))
    assert images_of(first, range(3)) == images_of(second, range(3))
    own = make_datasets(**files, settings=plain, val_settings=edited)[1]
    assert own.settings == edited


def test_a_single_logo_serves_both_sides_and_text_needs_none(photo_folder, logo_folder, tmp_path):
    shutil.copy(logo_folder / "logo0.png", tmp_path)
    settings = WatermarkSettings(image_size=64)
    for data in make_datasets(photo_folder, tmp_path, settings=settings, val_fraction=0.3):
        assert [logo.path.name for logo in data.logos] == ["logo0.png"]
    text = replace(settings, kinds={"text": 1})
    train, val = make_datasets(photo_folder, None, settings=text, val_fraction=0.3)
    assert not train.logos and not any(val.settings.kinds.get(kind) for kind in LOGO_KINDS)
    with pytest.raises(ValueError, match="0 logos"):
        make_datasets(photo_folder, None, settings=settings, val_fraction=0.3)


# --- Which photo is shown, and how much of it ----------------------------------------------------


def test_an_epoch_of_all_photos_shows_each_once(make_dataset, photos):
    data = make_dataset(length=len(photos))
    for epoch in range(3):
        shown = [data.params((epoch, index)).photo for index in range(len(photos))]
        assert sorted(shown) == list(range(len(photos)))
    orders = {tuple(data.params((e, i)).photo for i in range(len(photos))) for e in range(3)}
    assert len(orders) > 1


@pytest.mark.parametrize("marks_per_crop, length", [(1, 5), (2, 5), (2, 4)])
def test_decks_go_on_from_epoch_to_epoch(photos, logos, fonts, marks_per_crop, length):
    settings = WatermarkSettings(image_size=64)
    data = WatermarkDataset(photos, logos, settings, length, 0, fonts, marks_per_crop)
    crops = [(e, i) for e in range(8) for i in range(0, length, marks_per_crop)]
    shown = [data.params(crop).photo for crop in crops][: len(photos)]
    assert sorted(shown) == list(range(len(photos)))
    assert [data.params(crop).photo for crop in crops[::-1]][-len(photos) :] == shown[::-1]


def test_a_deck_holds_photos_by_weight():
    counts = np.zeros(3)
    for number in range(200):
        deck = draw_deck([3, 1, 0.5], str(number))
        assert deck.count(0) == 3 or len(deck) == 4
        counts += np.bincount(deck, minlength=3)
    assert counts / counts.sum() == pytest.approx(np.array([3, 1, 0.5]) / 4.5, abs=0.02)
    assert draw_deck([1] * 50, "a") != draw_deck([1] * 50, "b")


def test_photos_come_from_weighted_folders_and_lists(photo_folder, photos, tmp_path):
    (tmp_path / "hard.txt").write_text(f"{photos[2].path}\n\n{photos[5].path}\n")
    found = find_photos({str(photo_folder): 1, tmp_path / "hard.txt": 2.5})
    assert [photo.path for photo in found] == [p.path for p in [*photos, photos[2], photos[5]]]
    assert [photo.weight for photo in found] == [1] * 8 + [2.5] * 2
    with pytest.raises(ValueError, match=r"weight of the photos in .* is 0; give one above 0"):
        find_photos({photo_folder: 0})


def test_large_photos_are_shown_in_detail(logos, fonts, tmp_path):
    Image.fromarray(paint_photo(0, 640, 900)).save(tmp_path / "large.jpg")
    photos = find_photos(tmp_path)
    settings = WatermarkSettings(image_size=64, native_probability=1, native_range=(1, 2))
    data = WatermarkDataset(photos, logos, settings, 20, 0, fonts)
    sides = [data.params(index).crop[0] * 640 / 64 for index in range(20)]
    assert 1 <= min(sides) < 1.2 and 1.8 < max(sides) <= 2
    far = replace(settings, native_probability=0)
    data = WatermarkDataset(photos, logos, far, 20, 0, fonts)
    assert min(data.params(index).crop[0] for index in range(20)) >= 0.5


def test_a_photo_is_decoded_no_larger_than_needed(logos, fonts, tmp_path):
    Image.fromarray(paint_photo(0, 640, 900)).save(tmp_path / "large.jpg", quality=95)
    (photo,) = find_photos(tmp_path)
    assert photo.short_px == 640
    assert [jpeg_reduction(zoom) for zoom in (2, 1, 0.51, 0.5, 0.2, 0.1)] == [1, 1, 1, 2, 4, 8]
    full, small = photo.read(), photo.read(0.2)
    assert full.shape == (640, 900, 3) and small.shape == (160, 225, 3)
    assert np.abs(reduced(full, 0.25).astype(int) - small).max() < 6
    settings = WatermarkSettings(**PLAIN | dict(crop_range=(1, 1), clean_probability=1))
    data = WatermarkDataset([photo], logos, settings, 4, 0, fonts)
    whole = WatermarkDataset([replace(photo, short_px=0)], logos, settings, 4, 0, fonts)
    for index in range(4):
        images = [d.stages(index)["photo"].astype(int) for d in (data, whole)]
        assert np.abs(images[0] - images[1]).mean() < 4


def test_a_sound_file_is_not_opened_again_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.fromarray(paint_photo(0, 60, 90)).save(path)
    (first,) = find_photos(tmp_path)
    opened, real = [], files.open_photo
    monkeypatch.setattr(files, "open_photo", lambda source: opened.append(1) or real(source))
    assert find_photos(tmp_path) == [first] and not opened
    Image.fromarray(paint_photo(1, 64, 90)).save(path)
    assert find_photos(tmp_path)[0].sha256 != first.sha256 and opened


def test_a_grid_shows_what_a_change_did(make_dataset, tmp_path):
    write_grid(make_dataset(clean_probability=1), tmp_path / "old.png")
    write_grid(make_dataset(clean_probability=0), tmp_path / "new.png", tmp_path / "old.png")
    old, new = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("old", "new"))
    side = old.shape[1]
    assert new.shape[1] > 2 * side and np.array_equal(new[:, :side], old)
    assert not np.array_equal(new[:, -side:], old)
    with pytest.raises(ValueError, match=r"none.png is no grid. Draw one first"):
        write_grid(make_dataset(), tmp_path / "x.png", tmp_path / "none.png")


def test_validation_draws_other_marks_than_the_first_epoch(photo_folder, logo_folder):
    lengths = dict(train_length=40, val_length=40)
    train, val = make_datasets(photo_folder, logo_folder, val_fraction=0.3, **lengths)
    ours, theirs = ([data.params(index).marks for index in range(40)] for data in (train, val))
    places = ({mark.center for marks in side for mark in marks} for side in (ours, theirs))
    assert not set.intersection(*places)


def test_a_blend_mode_that_leaves_its_range_is_clipped(monkeypatch):
    monkeypatch.setitem(BLEND_MODES, "add", lambda base, color: base + color)
    layer = Layer(solid(4, 4), 0, 0)
    after = composite(np.full((4, 4, 3), 200, np.uint8), layer, 0.5, "add")
    assert (after == 228).all()  # halfway from 200 to white


def test_changing_one_table_changes_no_other_settings():
    changed = WatermarkSettings()
    changed.kinds["logo"] = changed.layouts["corner"] = -3
    assert WatermarkSettings().kinds["logo"] > 0 and WatermarkSettings().layouts["corner"] > 0


@pytest.mark.parametrize("texts", ["SAMPLE", ("",), ("PREVIEW", " ")])
def test_texts_are_a_tuple_of_words(texts):
    with pytest.raises(ValueError, match="give a tuple of texts, none of them empty"):
        WatermarkSettings(texts=texts)
