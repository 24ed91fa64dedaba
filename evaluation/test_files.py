"""Which files to test with, and the test images made of them."""

from functools import partial
from pathlib import Path

from evaluation.testset import render_case
from samples.files import find_images, find_photos
from samples.marks import check_logo
from samples.pairs import pair_files
from samples.splits import (
    TRAINED_ON,
    check_disjoint,
    make_manifest,
    pick_listed,
    read_manifest,
)
from samples.text import find_fonts


def find_test_files(photos, logos, fonts=None, manifest=None, weights=None) -> dict[str, list]:
    """Photos, logos and fonts to test with, by kind.

    Fonts that were trained on only make a note: without `fonts` there are no others.

    Args:
        photos: a folder or several.
        logos, fonts: folders; by default matplotlib's fonts.
        manifest: use the photos, logos and, of `fonts`, the fonts that it lists, and no other.
        weights: folder of the network to test.

    Raises:
        FileNotFoundError: a folder, or a file that the manifest lists, is missing.
        ValueError: the network was trained on one of the files.
    """
    files = {
        "photos": find_photos(photos),
        "logos": find_images(logos, check_logo),
        "fonts": find_fonts(fonts, shipped=fonts is None),
    }
    if manifest:
        listed = read_manifest(manifest)
        for kind in ("photos", "logos", "fonts") if fonts else ("photos", "logos"):
            files[kind] = pick_listed(files[kind], listed[kind], kind)
    if weights:
        refuse_trained(files, weights)
    return files


def refuse_trained(files: dict[str, list], weights) -> None:
    """Raises ValueError if the network in a weights folder was trained on a photo or logo."""
    path = Path(weights) / TRAINED_ON
    if not path.exists():
        print(f"No {path}: nobody can tell whether these files were trained on.")
        return
    trained_on, tested = read_manifest(path), make_manifest(**files)
    check_disjoint({**tested, "fonts": []}, trained_on, path)
    known = set(tested["fonts"]) & set(trained_on["fonts"])
    if known:
        print(
            f"{len(known)} of {len(tested['fonts'])} fonts were trained on; --fonts takes others."
        )


def synthetic_slices(names, count: int, seed: int, files: dict[str, list]) -> dict[str, list]:
    """Slice name to one function for each of its images, which makes it."""
    return {
        name: [partial(render_case, name, i, seed, **files) for i in range(count)] for name in names
    }


def real_pairs(images, masks, weights=None) -> dict[str, list]:
    """As `synthetic_slices`, of pairs in two folders.

    Args:
        weights: folder of the network to test.

    Raises:
        FileNotFoundError, ValueError: see `pairs.pair_files`; the network was trained on a pair.
    """
    pairs = pair_files(images, masks)
    for pair in pairs:
        pair.check_sizes()
    if weights:
        refuse_trained({"photos": pairs}, weights)
    return {"pairs": [pair.read for pair in pairs]}
