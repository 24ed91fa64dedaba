"""Who sees which file: training, validation, or the benchmark; decided by content, never by name.

A manifest is a JSON file that lists photos, logos and fonts by the first DIGITS hexadecimal digits
of the SHA-256 of their bytes. Two are in use: `held_out.json` names the benchmark's files, which
training leaves out, and `trained_on.json` beside a model's weights names the files that it was
trained on, which `evaluate.py` refuses.
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
TEST_PHOTOS = ("photos", "large", "print")  # kinds of photos that a benchmark lists apart
DIGITS = 16
HASH = rf"[0-9a-fA-F]{{{DIGITS},64}}"
Manifest = dict[str, list[str]]  # kind to sorted hashes


def split_by_hash(files: list[ImageFile], val_fraction: float, what="images"):
    """Train and validation files that share no content.

    A file's side follows from its bytes alone, so it stays when other files come or go, and
    copies under other names fall on the same side. Only if a side would be empty does it get
    the one content that lies nearest to it.

    Returns:
        (train, val), each a non-empty list in the given order.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; it must lie between 0 and 1.")
    # Not the first digits: by those the benchmark's files were chosen.
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
    """Photos and logos to train with, those to validate with, and fonts for both.

    Its arguments are those of `dataset.make_datasets`.
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
    """The hashes of files by kind: `photos`, `logos` (ImageFile) and `fonts` (Font).

    A benchmark's manifest also has the other kinds of TEST_PHOTOS.
    """
    kinds = dict.fromkeys([*KINDS, *files])
    return {kind: sorted({f.sha256[:DIGITS] for f in files.get(kind, ())}) for kind in kinds}


def write_manifest(manifest: Manifest, path) -> None:
    """Writes a manifest, one hash per line."""
    Path(path).write_text(json.dumps({"format": FORMAT, **manifest}, indent=0) + "\n")


def read_manifest(path) -> Manifest:
    """A manifest as `write_manifest` left it; FileNotFoundError or ValueError if there is none."""
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
    """The files of either."""
    return {kind: sorted({*first[kind], *second[kind]}) for kind in KINDS}


def leave_out(files: dict[str, list], manifest) -> dict[str, list]:
    """Kind to files, without those that a manifest lists; says how many those were.

    Raises:
        ValueError: nothing is left of a kind.
    """
    listed = {hash_ for hashes in read_manifest(manifest).values() for hash_ in hashes}
    kept = {kind: [file for file in found if file.sha256[:DIGITS] not in listed]
            for kind, found in files.items()}  # fmt: skip
    for kind, found in files.items():
        if found and not kept[kind]:
            raise ValueError(
                f"All {len(found)} {kind} are held out for the benchmark, by {manifest}: nothing "
                "is left to train on. Add other files, or set held_out to null."
            )
    counts = [f"{len(files[kind]) - len(kept[kind])} {kind}" for kind in files]
    if kept != files:
        print(f"Left out for the benchmark ({manifest}): {', '.join(counts)}")
    return kept


def pick_listed(files, hashes, what: str) -> list:
    """One file for each listed hash, in the list's order.

    Raises:
        FileNotFoundError: some are not among the files; the message counts them.
        ValueError: none is listed.
    """
    found = {file.sha256[:DIGITS]: file for file in files}
    missing = [listed for listed in hashes if listed not in found]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the manifest's {len(hashes)} {what} are not in the folder given; "
            f"the first has SHA-256 {missing[0]}... Gather the same files (weights/README.md says "
            "from where), or leave --manifest out to use what is there."
        )
    if not hashes:
        raise ValueError(f"The manifest lists no {what} to test with.")
    return [found[listed] for listed in hashes]


def check_disjoint(test: Manifest, trained_on: Manifest, where: str) -> None:
    """Raises ValueError if a file to test with has been trained on."""
    for kind in KINDS:
        both = sorted(set(test[kind]) & set(trained_on[kind]))
        if both:
            raise ValueError(
                f"{len(both)} of {len(test[kind])} {kind} to test with were trained on, by "
                f"{where}; the first has SHA-256 {both[0]}... Take them out of the folder, or, for "
                "photos and logos, give --manifest held_out.json: files that training leaves out."
            )
