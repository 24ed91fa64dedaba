"""How held_out.json was made: `python docs/hold_out.py PHOTOS LOGOS FONTS`, from the top folder.

The benchmark gets the photos and logos whose hash begins in the lowest tenth, and every font of a
folder of its own. Left out again, because near-copies are in the training material: frames of
videos (camvid), and logos whose name begins like that of a training logo (android, android-icon);
and photos that came with a mark of their own, which the truth would call clean.
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
# Credits, shop marks, a "SAMPLE" and a caption: seen by eye among the 184 photos of low hash
OWN_MARKS = (
    "01fcbe4091dd5e5c",
    "02ebcd17b785eeef",
    "046496bdbe29d2b1",
    "083b84cb94036281",
    "087adc0c392600c3",
    "0a3ee2004040f979",
    "0e63bbabd62150f1",
    "12ab9a89d1f59042",
    "14563150cc64da0a",
)


def is_low(file) -> bool:
    return int(file.sha256[:8], 16) / 2**32 < FRACTION


def is_left_out(photo) -> bool:
    return photo.path.name.startswith("camvid") or photo.sha256[:16] in OWN_MARKS


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
        photos=[f for f in photos if is_low(f) and not is_left_out(f)],
        logos=[f for f in logos if is_low(f) and not is_near(brand(f), trained)],
        fonts=find_fonts(fonts, shipped=False),
    )
    write_manifest(manifest, TOP / "held_out.json")
    print({kind: len(hashes) for kind, hashes in manifest.items()})


if __name__ == "__main__":
    main(*sys.argv[1:4])
