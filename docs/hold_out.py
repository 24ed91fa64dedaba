"""How held_out.json was made: `python docs/hold_out.py PHOTOS LOGOS FONTS`, from the top folder.

The benchmark gets the photos and logos whose hash begins in the lowest tenth, and every font of a
folder of its own. Left out again, because near-copies are in the training material: frames of
videos (camvid), and logos whose name begins like that of a training logo (android, android-icon).
"""

import re
import sys
from pathlib import Path

TOP = Path(__file__).parents[1]
sys.path.insert(0, str(TOP))
from samples.files import find_images  # noqa: E402
from samples.marks import check_logo  # noqa: E402
from samples.splits import make_manifest, write_manifest  # noqa: E402
from samples.text import find_fonts  # noqa: E402

FRACTION = 0.1
MIN_LETTERS = 4  # shorter names begin like too many others


def is_low(file) -> bool:
    return int(file.sha256[:8], 16) / 2**32 < FRACTION


def brand(file) -> str:
    """The name without the source's prefix: "gilbarbara_Vue-Icon.png" gives "vue-icon"."""
    return file.path.stem.split("_", 1)[-1].lower()


def letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name)


def is_near(name: str, others: list[str]) -> bool:
    """Whether one of the other names begins with the same word, or with this whole name."""
    word, joined = re.split("[-_.]", name)[0], letters(name)
    return any(
        word == re.split("[-_.]", other)[0]
        or (len(letters(other)) >= MIN_LETTERS and joined.startswith(letters(other)))
        or (len(joined) >= MIN_LETTERS and letters(other).startswith(joined))
        for other in others
    )


def main(photos, logos, fonts) -> None:
    photos, logos = find_images(photos), find_images(logos, check_logo)
    trained = [brand(file) for file in logos if not is_low(file)]
    manifest = make_manifest(
        photos=[f for f in photos if is_low(f) and not f.path.name.startswith("camvid")],
        logos=[f for f in logos if is_low(f) and not is_near(brand(f), trained)],
        fonts=find_fonts(fonts, shipped=False),
    )
    write_manifest(manifest, TOP / "held_out.json")
    print({kind: len(hashes) for kind, hashes in manifest.items()})


if __name__ == "__main__":
    main(*sys.argv[1:4])
