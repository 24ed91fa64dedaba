"""Fonts, the scripts they cover, and what text watermarks say."""

import functools
import hashlib
import importlib.util
import logging
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from random import Random

from fontTools.ttLib import TTFont, TTLibError
from PIL import ImageFont

SCRIPTS = {  # first and last code point
    "cyrillic": (0x0410, 0x044F),
    "greek": (0x03B1, 0x03C9),
    "arabic": (0x0627, 0x064A),
    "hebrew": (0x05D0, 0x05EA),
    "devanagari": (0x0905, 0x0939),
    "thai": (0x0E01, 0x0E2E),
    "kana": (0x3042, 0x3093),
    "han": (0x4E00, 0x9FA5),
    "hangul": (0xAC00, 0xD7A3),
}
FONT_SUFFIXES = (".ttf", ".otf", ".ttc")
LATIN = string.ascii_letters + string.digits
PROBE_PX = (10, 40)  # some fonts fail at small sizes only, some at large ones
STOCK_WORDS = """
    SAMPLE PREVIEW PROOF DRAFT COPYRIGHT CONFIDENTIAL stock photo images studio gallery media press
    archive design creative art lens light pixel free trial demo watermark do not copy
""".split()
NAMES = """
    Anna Ben Carla David Elena Felix Grace Hugo Iris Jonas Kira Leo Maria Nils Olga Paul Quinn Rosa
    Sam Tara Uwe Vera Will Yara Zoe Smith Meyer Rossi Novak Silva Chen Khan Sato Dubois
""".split()


@dataclass(frozen=True)
class Font:
    """A font file and the letters of each script that it covers."""

    path: Path
    letters: Mapping[str, str] = field(hash=False)

    @functools.cached_property
    def sha256(self) -> str:  # of the file's bytes
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def code_points(path: Path) -> frozenset[int]:
    """The characters that a font file can write; none if it is broken."""
    log = logging.getLogger("fontTools")
    level = log.level
    log.setLevel(logging.ERROR)  # hundreds of fonts have harmless flaws, each worth a warning
    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            return frozenset(font.getBestCmap() or ())
    except (TTLibError, OSError):
        return frozenset()
    finally:
        log.setLevel(level)


def can_draw(path: Path) -> bool:
    """Whether Pillow draws the Latin letters: some fonts' instructions make FreeType give up."""
    try:
        for size_px in PROBE_PX:
            ImageFont.truetype(str(path), size_px).getmask(LATIN)
    except OSError:  # "invalid opcode", "execution context too long"
        return False
    return True


@functools.cache
def read_font(path: Path) -> "Font | None":
    """The font, or None if it is broken or lacks Latin letters and digits."""
    covered = code_points(path)
    if not all(ord(letter) in covered for letter in LATIN) or not can_draw(path):
        return None
    letters = {name: [chr(c) for c in range(low, high + 1) if c in covered]
               for name, (low, high) in SCRIPTS.items()}  # fmt: skip
    letters = {name: "".join(chars) for name, chars in letters.items() if len(chars) >= 20}
    extra = "".join(c for c in " ©®@™.,-/&|·" if ord(c) in covered)
    return Font(path, {"latin": LATIN + extra, **letters})


def list_font_paths(folder) -> list[Path]:
    """Paths of all font files below a folder, sorted."""
    return sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in FONT_SUFFIXES)


def find_fonts(folder=None, shipped: bool = True) -> list[Font]:
    """Fonts that cover Latin letters and digits, sorted by path.

    Args:
        folder: searched for FONT_SUFFIXES.
        shipped: take those that matplotlib ships, too.

    Raises:
        FileNotFoundError: there is no such folder, or no usable font at all.
    """
    paths = []
    if shipped:
        own = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data/fonts/ttf"
        paths += sorted(p for p in own.glob("*.ttf") if not p.name.startswith("LastResort"))
    if folder is not None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"No folder of fonts at {folder}. Check the path.")
        paths += list_font_paths(folder)
    fonts = [font for font in map(read_font, paths) if font is not None]
    if not fonts:
        raise FileNotFoundError(
            f"No usable font below {folder}: looked for {', '.join(FONT_SUFFIXES)} files with "
            f"Latin letters and digits among {len(paths)} files."
        )
    return fonts


def _word(rng, letters: str) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(2, 8)))


def _name(rng) -> str:
    return rng.choice(NAMES) if rng.random() < 0.5 else _word(rng, string.ascii_lowercase).title()


def _words(rng) -> str:
    return " ".join(rng.choice(STOCK_WORDS) for _ in range(rng.randint(1, 3)))


def _domain(rng) -> str:
    ending = rng.choice(("com", "net", "org", "io", "photo", "de", "co.uk"))
    return f"{rng.choice(('', 'www.'))}{_name(rng)}{_name(rng)}.{ending}".lower()


def _date(rng) -> str:
    style = rng.choice(("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%y %H:%M", "%d %b %Y"))
    return datetime.fromtimestamp(rng.getrandbits(31), timezone.utc).strftime(style)


def _letters(rng) -> str:
    """Letter by letter, s a m p l e, or a single one: tiled, they lie far apart."""
    if rng.random() < 0.4:
        return rng.choice(LATIN)
    word = rng.choice((rng.choice(STOCK_WORDS), _name(rng), _word(rng, LATIN)))
    return (" " * rng.randint(1, 4)).join(word)


TEXTS = {
    "words": _words,
    "name": lambda rng: f"{_name(rng)} {_name(rng)}",
    "domain": _domain,
    "handle": lambda rng: f"@{_name(rng)}{_name(rng)}".lower(),
    "copyright": lambda rng: f"© {rng.randint(1990, 2030)} {_name(rng)} {_name(rng)}",
    "date": _date,
    "code": lambda rng: _word(rng, LATIN),
    "letters": _letters,
}


def draw_line(font: Font, rng: Random, styles: Sequence[str] = tuple(TEXTS)) -> str:
    """One line in one script that the font covers; in Latin letters it has one of the styles."""
    script = rng.choice(list(font.letters)) if rng.random() < 0.5 else "latin"
    letters = font.letters[script]
    if script != "latin":
        return " ".join(_word(rng, letters) for _ in range(rng.randint(1, 3)))
    text = TEXTS[rng.choice(styles)](rng)
    text = rng.choice((text, text.upper(), text.title()))
    return "".join(letter for letter in text if letter in letters) or "Sample"


def draw_text(font: Font, rng: Random, styles: Sequence[str] = tuple(TEXTS)) -> str:
    """What one text mark says: up to three lines of `draw_line`."""
    n_lines = 1 + (rng.random() < 0.15) + (rng.random() < 0.1)
    return "\n".join(draw_line(font, rng, styles) for _ in range(n_lines))
