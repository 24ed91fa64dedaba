"""The split of files into training, validation and test, and manifests."""

import json
import shutil
from dataclasses import replace

import pytest

from samples.files import find_images
from samples.splits import (
    leave_out,
    make_manifest,
    merge_manifests,
    read_manifest,
    split_by_hash,
    write_manifest,
)


@pytest.mark.parametrize(
    "places, val_fraction, expected",
    [  # hashes as fractions of their range
        ((0.1, 0.3, 0.9), 0.2, [0.1]),
        ((0.1, 0.3, 0.9), 0.5, [0.1, 0.3]),
        ((0.4, 0.5, 0.6), 0.1, [0.4]),  # neither side is empty
        ((0.4, 0.5, 0.6), 0.9, [0.4, 0.5]),
        ((0.05, 0.8, 0.15, 0.25), 0.2, [0.05, 0.15]),
        ((0.01, 0.05, 0.8, 0.15, 0.25, 0.99), 0.2, [0.01, 0.05, 0.15]),  # more files
    ],
)
def test_a_split_follows_the_hash(photos, places, val_fraction, expected):
    hashes = {place: f"{0:08x}{int(place * 2**32):08x}{0:048x}" for place in places}
    files = {place: replace(photos[0], sha256=hashed) for place, hashed in hashes.items()}
    train, val = split_by_hash(list(files.values()), val_fraction)
    assert val == [files[place] for place in expected]
    assert train == [file for place, file in files.items() if place not in expected]


def test_copies_fall_on_the_same_side(photos, tmp_path):
    for file in photos:
        for name in ("first_", "second_"):
            shutil.copy(file.path, tmp_path / f"{name}{file.path.name}")
    train, val = split_by_hash(find_images(tmp_path), 0.5)
    assert len(train) + len(val) == 2 * len(photos)
    assert not {file.sha256 for file in train} & {file.sha256 for file in val}


def test_impossible_splits_are_refused(photos):
    for val_fraction in (0, 1, -0.5, 20):
        with pytest.raises(ValueError, match=r"val_fraction is .* between 0 and 1"):
            split_by_hash(photos, val_fraction)
    with pytest.raises(ValueError, match=r"1 different logos .* add at least one more"):
        split_by_hash([photos[0], photos[0]], 0.2, "logos")


@pytest.fixture
def manifest_of(tmp_path):
    def write(**files):
        write_manifest(make_manifest(**files), tmp_path / "manifest.json")
        return tmp_path / "manifest.json"

    return write


def test_manifests_survive_writing_and_reading_and_can_be_merged(photos, logos, fonts, manifest_of):
    manifest = make_manifest(photos=photos, logos=logos, fonts=fonts)
    assert read_manifest(manifest_of(photos=photos, logos=logos, fonts=fonts)) == manifest
    assert [len(hashes) for hashes in manifest.values()] == [len(photos), len(logos), len(fonts)]
    first, second = make_manifest(photos=photos[:3]), make_manifest(photos=photos[2:])
    assert merge_manifests(first, second) == make_manifest(photos=photos)


def test_listed_files_are_left_out_and_counted(photos, logos, manifest_of, capsys):
    kept = leave_out({"photos": photos, "logos": logos}, manifest_of(photos=photos[:3]))
    assert kept == {"photos": photos[3:], "logos": logos}
    assert "3 photos, 0 logos" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"manifest\.json lists all 8 photos"):
        leave_out({"photos": photos}, manifest_of(photos=photos))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"format": "other", "photos": [], "logos": []})]
)
def test_broken_manifest_is_named(tmp_path, content):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ValueError, match=r"m\.json is no manifest"):
        read_manifest(tmp_path / "m.json")
    with pytest.raises(FileNotFoundError, match="No manifest at"):
        read_manifest(tmp_path / "other.json")
