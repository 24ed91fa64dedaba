"""A mark of one's own: the files of a folder that describe it.

The folder holds logos (PNG or WebP with transparency), .txt files (each line a text mark), and the
font of the text (.ttf, .otf, .ttc). Without a font the text is written in DejaVu Sans.
"""

from dataclasses import dataclass, replace

from inference.reading import IMAGE_SUFFIXES
from samples.files import ImageFile, list_paths, read_lines, sort_out
from samples.marks import check_logo
from samples.text import FONT_SUFFIXES, Font, fonts_that_write, shipped_folder

DEFAULT_FONT = "DejaVuSans.ttf"  # matplotlib ships it
MAX_TEXTS = 10  # lines of one mark; more are hardly a mark


@dataclass(frozen=True)
class OwnMark:
    """A mark of one's own: one or more logos, text lines, or both."""

    logos: list[ImageFile]
    texts: tuple[str, ...]
    fonts: list[Font]  # they can write every text

    def __str__(self) -> str:
        logos = [logo.path.name for logo in self.logos]
        return ", ".join([*logos, *(f'"{text}"' for text in self.texts)])

    def settings(self, settings):
        """`dataset.WatermarkSettings` with this mark for logo and text, stretched like text."""
        kinds = dict(logo=len(self.logos), text=len(self.texts))
        stretch = settings.stretch_range
        return replace(settings, kinds=kinds, texts=self.texts, logo_stretch_range=stretch)


def find_mark(folder) -> OwnMark:
    """The mark that a folder describes.

    Raises:
        FileNotFoundError: there is no such folder, or neither a logo nor a text in it.
        ValueError: a logo, text or font in it cannot be used.
    """
    logos, bad = sort_out(list_paths(folder, IMAGE_SUFFIXES), check_logo)
    if bad:
        raise ValueError(f"{len(bad)} logos cannot be used: {'; '.join(bad)}.")
    texts = tuple(line for path in list_paths(folder, (".txt",)) for line in read_lines(path))
    if len(texts) > MAX_TEXTS:
        raise ValueError(
            f"The .txt files in {folder} have {len(texts)} lines; each is a text mark, and at most "
            f"{MAX_TEXTS} are taken. Move other texts, such as a font's licence, out of the folder."
        )
    if not logos and not texts:
        raise FileNotFoundError(
            f"No mark in {folder}. Put in one or more logos (PNG or WebP with transparency), or a "
            ".txt file with a line of text and, if it has one, its font (.ttf, .otf, .ttc)."
        )
    paths = list_paths(folder, FONT_SUFFIXES) or [shipped_folder() / DEFAULT_FONT]
    fonts = fonts_that_write("".join(texts), [Font(path, {}) for path in paths], "the mark")
    return OwnMark(logos, texts, fonts)
