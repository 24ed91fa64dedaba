"""Which file goes to training, validation or the benchmark, and the manifests that say so."""

import json
import shutil
from dataclasses import replace

import pytest

from samples.files import find_images
from samples.splits import (
    check_disjoint,
    leave_out,
    make_manifest,
    merge_manifests,
    pick_listed,
    read_manifest,
    split_by_hash,
    write_manifest,
)


def _files_at(photos, *places):
    """Files whose hashes lie at these fractions of the range."""
    return [
        replace(photos[0], sha256=f"{0:08x}{int(place * 2**32):08x}{0:048x}") for place in places
    ]


def test_split_follows_the_hash(photos):
    low, middle, high = files = _files_at(photos, 0.1, 0.3, 0.9)
    assert split_by_hash(files, 0.2) == ([middle, high], [low])
    assert split_by_hash(files, 0.5) == ([high], [low, middle])


def test_no_side_of_a_split_is_empty(photos):
    low, middle, high = files = _files_at(photos, 0.4, 0.5, 0.6)
    assert split_by_hash(files, 0.1) == ([middle, high], [low])
    assert split_by_hash(files, 0.9) == ([high], [low, middle])


def test_copies_fall_on_the_same_side(photos, tmp_path):
    for file in photos:
        for name in ("first_", "second_"):
            shutil.copy(file.path, tmp_path / f"{name}{file.path.name}")
    train, val = split_by_hash(find_images(tmp_path), 0.5)
    assert len(train) + len(val) == 2 * len(photos)
    assert not {file.sha256 for file in train} & {file.sha256 for file in val}


def test_new_files_do_not_move_the_others(photos):
    old = _files_at(photos, 0.05, 0.15, 0.25, 0.8)
    new = _files_at(photos, 0.01, 0.1, 0.5, 0.99)
    train, val = split_by_hash(old, 0.2)
    grown_train, grown_val = split_by_hash(new + old, 0.2)
    assert set(train) <= set(grown_train)
    assert set(val) <= set(grown_val)


@pytest.mark.parametrize("val_fraction", [0, 1, -0.5, 20])
def test_split_refuses_fractions_outside_0_to_1(photos, val_fraction):
    with pytest.raises(ValueError, match=r"val_fraction is .* between 0 and 1"):
        split_by_hash(photos, val_fraction)


def test_split_needs_two_different_contents(photos):
    with pytest.raises(ValueError, match=r"1 different logos .* add at least one more"):
        split_by_hash([photos[0], photos[0]], 0.2, "logos")


# --- Manifests ----------------------------------------------------------------------------------


def test_manifest_survives_writing_and_reading(photos, logos, fonts, tmp_path):
    manifest = make_manifest(photos=photos, logos=logos, fonts=fonts)
    write_manifest(manifest, tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json") == manifest
    assert len(manifest["photos"]) == len(photos) and len(manifest["fonts"]) == len(fonts)


def test_merged_manifest_lists_both(photos):
    first, second = make_manifest(photos=photos[:3]), make_manifest(photos=photos[2:])
    assert merge_manifests(first, second) == make_manifest(photos=photos)


@pytest.fixture
def manifest_of(tmp_path):
    def write(**files):
        write_manifest(make_manifest(**files), tmp_path / "manifest.json")
        return tmp_path / "manifest.json"

    return write


def test_listed_files_are_left_out_and_counted(photos, logos, manifest_of, capsys):
    path = manifest_of(photos=photos[:3])
    kept = leave_out({"photos": photos, "logos": logos}, path)
    assert kept == {"photos": photos[3:], "logos": logos}
    assert "3 photos, 0 logos" in capsys.readouterr().out


def test_nothing_left_to_train_on_is_an_error(photos, manifest_of):
    with pytest.raises(ValueError, match=r"All 8 photos are held out .*manifest\.json"):
        leave_out({"photos": photos}, manifest_of(photos=photos))


def test_listed_files_are_picked_in_the_lists_order(photos):
    listed = make_manifest(photos=photos[:3])["photos"]
    picked = pick_listed(photos, listed, "photos")
    assert [file.sha256[:16] for file in picked] == listed


def test_hashes_as_sha256sum_prints_them_are_understood(photos, manifest_of):
    path = manifest_of()
    content = json.loads(path.read_text()) | {"photos": [photos[0].sha256.upper()]}
    path.write_text(json.dumps(content))
    assert leave_out({"photos": photos}, path)["photos"] == photos[1:]
    path.write_text(json.dumps(content | {"photos": [photos[0].sha256[:8]]}))
    with pytest.raises(ValueError, match="16 or more hexadecimal digits"):
        read_manifest(path)


def test_missing_listed_files_are_counted(photos):
    listed = make_manifest(photos=photos)["photos"]
    with pytest.raises(FileNotFoundError, match="6 of the manifest's 8 photos are not in"):
        pick_listed(photos[:2], listed, "photos")


def test_files_trained_on_cannot_be_tested_with(photos, logos):
    train = make_manifest(photos=photos[:5], logos=logos)
    check_disjoint(make_manifest(photos=photos[5:]), train, "weights")
    with pytest.raises(ValueError, match="2 of 5 photos to test with were trained on, by weights"):
        check_disjoint(make_manifest(photos=photos[3:]), train, "weights")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"format": "other", "photos": [], "logos": []})]
)
def test_broken_manifest_is_named(tmp_path, content):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ValueError, match=r"m\.json is no manifest"):
        read_manifest(tmp_path / "m.json")
    with pytest.raises(FileNotFoundError, match="No manifest at"):
        read_manifest(tmp_path / "other.json")
