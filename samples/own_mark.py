"""Reads your own mark from a folder.

The folder has logos (PNG or WebP with transparency), .txt files with one text mark in each line, or
both, and may have a font (.ttf, .otf, .ttc). Without a font, texts are written in DejaVu Sans.
"""

from dataclasses import dataclass, replace

from inference.reading import IMAGE_SUFFIXES
from samples.files import ImageFile, list_paths, read_lines, sort_out
from samples.marks import check_logo
from samples.text import FONT_SUFFIXES, Font, fonts_that_write, shipped_folder

DEFAULT_FONT = "DejaVuSans.ttf"  # matplotlib ships it
MAX_TEXTS = 10  # a folder with more lines has other texts, too, such as a licence


@dataclass(frozen=True)
class OwnMark:
    """Your own mark: one or more logos, one or more texts, or both."""

    logos: list[ImageFile]
    texts: tuple[str, ...]
    fonts: list[Font]  # each has all letters of the texts

    def __str__(self) -> str:
        logos = [logo.path.name for logo in self.logos]
        return ", ".join([*logos, *(f'"{text}"' for text in self.texts)])

    def settings(self, settings):
        """The settings, but with this mark alone. Its logos are stretched as little as texts."""
        kinds = dict(logo=len(self.logos), text=len(self.texts))
        stretch = settings.stretch_range
        return replace(settings, kinds=kinds, texts=self.texts, logo_stretch_range=stretch)


def find_mark(folder) -> OwnMark:
    """The mark that a folder describes.

    Raises:
        FileNotFoundError: the folder does not exist, or has neither a logo nor a text.
        ValueError: a logo, a text or a font cannot be used.
    """
    logos, bad = sort_out(list_paths(folder, IMAGE_SUFFIXES), check_logo)
    if bad:
        raise ValueError(f"{len(bad)} logos cannot be used: {'; '.join(bad)}.")
    texts = tuple(line for path in list_paths(folder, (".txt",)) for line in read_lines(path))
    if len(texts) > MAX_TEXTS:
        raise ValueError(
            f"The .txt files in {folder} have {len(texts)} lines. Each line is a text mark, and at "
            f"most {MAX_TEXTS} are allowed. Move other texts, such as a licence, out of the folder."
        )
    if not logos and not texts:
        raise FileNotFoundError(
            f"No mark in {folder}. Put in one or more logos (PNG or WebP with transparency), or a "
            ".txt file with a line of text, and its font (.ttf, .otf, .ttc) if you have it."
        )
    paths = list_paths(folder, FONT_SUFFIXES) or [shipped_folder() / DEFAULT_FONT]
    fonts = fonts_that_write("".join(texts), [Font(path, {}) for path in paths], "the mark")
    return OwnMark(logos, texts, fonts)
