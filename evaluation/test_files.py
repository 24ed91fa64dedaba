"""Which files to test with, and the test images made of them."""

from functools import partial
from pathlib import Path

from evaluation.accuracy import TestImage
from evaluation.testset import MARKED, SLICES, render_case
from samples.files import find_images, find_photos
from samples.marks import check_logo
from samples.pairs import pair_files
from samples.splits import (
    TEST_PHOTOS,
    TRAINED_ON,
    check_disjoint,
    make_manifest,
    pick_listed,
    read_manifest,
)
from samples.text import find_fonts


def find_test_files(
    photos=None, logos=None, fonts=None, manifest=None, weights=None, **sources
) -> dict[str, list]:
    """Photos, logos and fonts to test with, by kind; without the kinds of photos not given.

    Args:
        photos: a folder or several.
        sources: `large` and `print`, folders of photos for the slices of those names.
        logos, fonts: folders; by default matplotlib's fonts.
        manifest: use the photos, logos and, of `fonts`, the fonts that it lists, and no other.
        weights: folder of the network to test; see `refuse_trained`.

    Raises:
        FileNotFoundError: a folder, or a file that the manifest lists, is missing.
        ValueError: the network was trained on one of the files.
    """
    folders = {"photos": photos, **sources}
    files = {kind: find_photos(folder) for kind, folder in folders.items() if folder}
    files["logos"] = find_images(logos, check_logo)
    files["fonts"] = find_fonts(fonts, shipped=fonts is None)
    if manifest:
        listed = read_manifest(manifest)
        for kind in [kind for kind in files if fonts or kind != "fonts"]:
            what = f"{kind} photos" if kind in ("large", "print") else kind
            files[kind] = pick_listed(files[kind], listed.get(kind, []), what)
    if weights:
        refuse_trained(files, weights)
    return files


def refuse_trained(files: dict[str, list], weights) -> None:
    """Raises ValueError if the network in a weights folder was trained on a photo or logo.

    Fonts that were trained on only make a note: without --fonts there are no others.
    """
    path = Path(weights) / TRAINED_ON
    if not path.exists():
        print(f"No {path}: nobody can tell whether these files were trained on.")
        return
    photos = [photo for kind in TEST_PHOTOS for photo in files.get(kind, [])]
    trained_on, tested = read_manifest(path), make_manifest(**{**files, "photos": photos})
    check_disjoint({**tested, "fonts": []}, trained_on, path)
    if known := len(set(tested["fonts"]) & set(trained_on["fonts"])):
        print(f"{known} of {len(tested['fonts'])} fonts were trained on; --fonts takes others.")


def synthetic_slices(names, count: int, seed: int, files: dict[str, list]) -> dict:
    """Slice name to its images: `count` of each, on one photo after the other.

    Clean photos that are not edited do not repeat: their slices may have fewer images. Slices whose
    photos are not there are left out, which is said.
    """
    slices, left_out = {}, {}
    for name in names:
        kind = SLICES[name]
        if kind.source not in files:
            left_out.setdefault(kind.source, []).append(name)
            continue
        own = {"photos": files[kind.source], "logos": files["logos"], "fonts": files["fonts"]}
        n_photos = len(own["photos"])
        repeats = name in MARKED or kind.edits
        slices[name] = [
            TestImage(f"{kind.source} {i % n_photos}", partial(render_case, name, i, seed, **own))
            for i in range(count if repeats else min(count, n_photos))
        ]
    for kind, without in left_out.items():
        print(f"Left out, because they need --{kind}: {', '.join(without)}.")
    if not slices:
        raise ValueError("No slice can be made of the photos given. Give the folder they need.")
    return slices


def real_pairs(images, masks, weights=None) -> dict[str, list[TestImage]]:
    """As `synthetic_slices`, of pairs in two folders.

    Args:
        weights: folder of the network to test; see `refuse_trained`.

    Raises:
        FileNotFoundError, ValueError: see `pairs.pair_files`; the network was trained on a pair.
    """
    pairs = pair_files(images, masks)
    for pair in pairs:
        pair.check_sizes()
    if weights:
        refuse_trained({"photos": pairs}, weights)
    return {"pairs": [TestImage(pair.name, pair.read) for pair in pairs]}
