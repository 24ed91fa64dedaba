"""Decides which files go to training, to validation and to the test set, by their content.

A manifest is a JSON file that lists photos, logos and fonts by the first DIGITS hexadecimal digits
of the SHA-256 of their bytes. There are two. `held_out.json` lists the files of the test set, which
training leaves out. `trained_on.json`, beside the weights of a model, lists the files of its
training, which `evaluate.py` refuses.
"""

import json
import re
from pathlib import Path

import numpy as np

from samples.files import ImageFile, find_images, find_photos
from samples.marks import check_logo
from samples.text import find_fonts

TRAINED_ON = "trained_on.json"  # beside the weights
FORMAT = "watermark-segmentation files"
KINDS = ("photos", "logos", "fonts")
TEST_PHOTOS = ("photos", "large", "print")  # kinds of photos in the test set
DIGITS = 16
HASH = rf"[0-9a-fA-F]{{{DIGITS},64}}"
Manifest = dict[str, list[str]]  # kind to sorted hashes


def split_by_hash(files: list[ImageFile], val_fraction: float, what="images"):
    """Training and validation files, with all copies of a file on the same side.

    The hash of a file decides its side, so it keeps its side when other files come or go. If a
    side would be empty, it gets the file whose hash is nearest to the threshold.

    Returns:
        (train, val), two non-empty lists in the given order.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; it must lie between 0 and 1.")
    # The first digits are used up: the files of the test set were chosen by them.
    place = {file.sha256: int(file.sha256[8:16], 16) / 2**32 for file in files}
    if len(place) < 2:
        raise ValueError(
            f"{len(place)} different {what} cannot be split into train and validation; "
            "add at least one more."
        )
    low, *_, high = sorted(place.values())
    threshold = min(max(val_fraction, np.nextafter(low, 1)), high)
    val = [file for file in files if place[file.sha256] < threshold]
    train = [file for file in files if place[file.sha256] >= threshold]
    return train, val


def find_sides(photos, logos, fonts, val_fraction: float, held_out):
    """(photos, logos) of training, (photos, logos) of validation, and the fonts of both.

    The arguments are those of `dataset.make_datasets`.
    """
    logos = find_images(logos, check_logo) if logos else []
    files = dict(photos=find_photos(photos), logos=logos, fonts=find_fonts(fonts))
    if held_out is not None:
        files = leave_out(files, held_out)
    photo_sides = split_by_hash(files["photos"], val_fraction, "photos")
    logo_sides = files["logos"], files["logos"]
    if len({logo.sha256 for logo in files["logos"]}) > 1:  # a single one serves both sides
        logo_sides = split_by_hash(files["logos"], val_fraction, "logos")
    return *zip(photo_sides, logo_sides), files["fonts"]


def make_manifest(**files) -> Manifest:
    """A manifest of files: `photos` and `logos` (ImageFile), `fonts` (Font).

    The manifest of a test set also has the other kinds of TEST_PHOTOS.
    """
    kinds = dict.fromkeys([*KINDS, *files])
    return {kind: sorted({f.sha256[:DIGITS] for f in files.get(kind, ())}) for kind in kinds}


def write_manifest(manifest: Manifest, path) -> None:
    """Writes a manifest with one hash in each line."""
    Path(path).write_text(json.dumps({"format": FORMAT, **manifest}, indent=0) + "\n")


def read_manifest(path) -> Manifest:
    """Reads a manifest. FileNotFoundError if there is no file, ValueError if it is damaged."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"No manifest at {path}. Check the path.")
    try:
        content = json.loads(Path(path).read_text())
        if content.pop("format") != FORMAT or not set(KINDS) <= content.keys():
            raise ValueError(f"its entries must be format ({FORMAT!r}), {', '.join(KINDS)}")
        if any(not re.fullmatch(HASH, listed) for hashes in content.values() for listed in hashes):
            raise ValueError(f"its hashes must be {DIGITS} or more hexadecimal digits")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no manifest of files: {error}.") from error
    return {kind: sorted({one[:DIGITS].lower() for one in content[kind]}) for kind in content}


def merge_manifests(first: Manifest, second: Manifest) -> Manifest:
    """A manifest of the files that are in one of two manifests or in both."""
    return {kind: sorted({*first[kind], *second[kind]}) for kind in KINDS}


def leave_out(files: dict[str, list], manifest) -> dict[str, list]:
    """Files by kind, without those that a manifest lists. Prints how many it leaves out.

    Raises:
        ValueError: all files of a kind are listed.
    """
    listed = {hash_ for hashes in read_manifest(manifest).values() for hash_ in hashes}
    kept = {kind: [file for file in given if file.sha256[:DIGITS] not in listed]
            for kind, given in files.items()}  # fmt: skip
    for kind, given in files.items():
        if given and not kept[kind]:
            raise ValueError(
                f"{manifest} lists all {len(given)} {kind}, so none is left for training. Add "
                "other files, or set held_out to null."
            )
    if kept != files:
        counts = [f"{len(files[kind]) - len(kept[kind])} {kind}" for kind in files]
        print(f"Left out, because {manifest} lists them: {', '.join(counts)}")
    return kept


def pick_listed(files, hashes, what: str) -> list:
    """One file for each hash, in the order of the hashes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: there are no hashes.
    """
    by_hash = {file.sha256[:DIGITS]: file for file in files}
    missing = [listed for listed in hashes if listed not in by_hash]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(hashes)} {what} in the manifest are not in the given folder. "
            f"The first has SHA-256 {missing[0]}... Get the same files (weights/README.md names "
            "the sources), or leave out --manifest to use the files of the folder."
        )
    if not hashes:
        raise ValueError(f"The manifest lists no {what} to test with.")
    return [by_hash[listed] for listed in hashes]


def check_disjoint(test: Manifest, trained_on: Manifest, where: str) -> None:
    """Raises ValueError if a file of the test is also a file of the training."""
    for kind in KINDS:
        both = sorted(set(test[kind]) & set(trained_on[kind]))
        if both:
            raise ValueError(
                f"{len(both)} of {len(test[kind])} {kind} to test with were trained on, as {where} "
                f"says. The first has SHA-256 {both[0]}... Move them out of the folder. For photos "
                "and logos you can also give --manifest held_out.json."
            )
