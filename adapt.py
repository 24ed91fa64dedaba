"""Training data for a mark of one's own: its files, painted pairs, mixed with general data.

A folder describes the mark: logos (PNG or WebP with transparency), .txt files (each line a text
mark), and the font of the text (.ttf, .otf, .ttc). Photos that already carry a mark, each with the
mask that somebody painted, are the other way to say what to find.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch.utils.data import Dataset

from dataset import WatermarkDataset, WatermarkSettings, crop_photo, draw_crop, to_tensors
from images import IGNORE, ImageFile, list_image_paths, sort_out
from marks import check_logo
from splits import KINDS, split_by_hash
from testset import Case, pair_files, read_pair
from text import Font, code_points, find_fonts, list_font_paths

MAX_TEXTS = 10  # lines of one mark; more are hardly a mark


@dataclass(frozen=True)
class OwnMark:
    """A mark of one's own: one or more logos, text lines, or both."""

    logos: list[ImageFile]
    texts: tuple[str, ...]
    fonts: list[Font]  # each can write every text

    def __str__(self) -> str:
        logos = [logo.path.name for logo in self.logos]
        return ", ".join([*logos, *(f'"{text}"' for text in self.texts)])

    def settings(self, settings: WatermarkSettings | None = None) -> WatermarkSettings:
        """The settings with this mark for logo and text."""
        kinds = dict(logo=len(self.logos), text=len(self.texts))
        return replace(settings or WatermarkSettings(), kinds=kinds, texts=self.texts)


def find_mark(folder) -> OwnMark:
    """The mark that a folder describes.

    Raises:
        FileNotFoundError: there is no such folder, or neither a logo nor a text in it.
        ValueError: a logo, text or font in it cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder of a mark at {folder}. Check the path.")
    logos, bad = sort_out(list_image_paths(folder), check_logo)
    if bad:
        raise ValueError(f"{len(bad)} logos cannot be used: {'; '.join(bad)}.")
    texts = tuple(line for path in sorted(folder.rglob("*.txt")) for line in _read_lines(path))
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
    return OwnMark(logos, texts, _fonts_for("".join(texts), list_font_paths(folder)))


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text; save it as UTF-8.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _fonts_for(text: str, paths: list[Path]) -> list[Font]:
    """Fonts with all letters of a text; matplotlib's where no paths are given."""
    fonts = [Font(path, {}) for path in paths] or find_fonts()
    missing = {font.path: set(map(ord, text)) - code_points(font.path) for font in fonts}
    able = [font for font in fonts if not missing[font.path]]
    if not able or (paths and len(able) < len(fonts)):
        path, lacks = max(missing.items(), key=lambda item: len(item[1]))
        raise ValueError(
            f"The font {path.name} cannot write {' '.join(map(chr, sorted(lacks)[:10]))}. Put a "
            "font that has all letters of the text into the folder of the mark."
        )
    return able


@dataclass(frozen=True)
class Pair:
    """A photo with its painted mask, and the hash that decides its side."""

    name: str
    image: Path
    mask: Path

    @functools.cached_property
    def sha256(self) -> str:  # of the image's bytes
        return hashlib.sha256(self.image.read_bytes()).hexdigest()

    def read(self) -> Case:
        """See `testset.read_pair`."""
        return read_pair(self.name, self.image, self.mask)


def find_pairs(images, masks) -> list[Pair]:
    """The pairs of two folders, each looked at: sizes equal, and the mask one that can be read.

    Raises:
        FileNotFoundError, ValueError: see `testset.pair_files` and `testset.read_pair`.
    """
    pairs = [Pair(*found) for found in pair_files(images, masks)]
    marked = [(pair.read().mask == 1).any() for pair in pairs]
    if not any(marked):
        raise ValueError(f"All {len(pairs)} masks in {masks} are empty: paint the marks white.")
    return pairs


class PairDataset(Dataset):
    """Random squares of photos with painted masks; samples as those of `WatermarkDataset`."""

    def __init__(self, pairs: list[Pair], settings: WatermarkSettings, length: int, seed: int = 0):
        """
        Args:
            pairs: from `find_pairs`.
            settings: image_size and crop_range count.
        """
        self.pairs, self.settings, self.length, self.seed = pairs, settings, length, seed

    def __len__(self) -> int:
        return self.length

    @property
    def files(self) -> dict[str, list]:
        return dict(photos=self.pairs)

    def stages(self, index) -> dict[str, np.ndarray]:
        """image: uint8, S x S x 3, RGB; mask: uint8, S x S, 1, 0 or IGNORE."""
        rng, size = Random(f"{self.seed} {index}"), self.settings.image_size
        case = rng.choice(self.pairs).read()
        crop = draw_crop(self.settings, rng)
        marked, drawn = (
            crop_photo(np.uint8(255) * truth, crop, False, size)
            for truth in (case.mask == 1, case.mask != 0)
        )
        mask = np.where(marked >= 128, 1, np.where(drawn > 0, IGNORE, 0)).astype(np.uint8)
        return dict(image=crop_photo(case.image, crop, False, size), mask=mask)

    def __getitem__(self, index):
        return to_tensors(**self.stages(index))


class MixedDataset(Dataset):
    """Samples of several datasets, drawn by weight; which one, depends on (seed, index) alone."""

    def __init__(
        self,
        parts: Sequence[tuple[Dataset, float]],
        length: int,
        seed: int = 0,
        general: Dataset | None = None,
    ):
        """
        Args:
            parts: datasets of at least this length, and their weights.
            seed: of the choice among them.
            general: the one of them whose samples have "general" set, for `keep_weight`.
        """
        self.datasets, self.weights = zip(*parts)
        self.length, self.seed, self.general = length, seed, general

    def __len__(self) -> int:
        return self.length

    @property
    def files(self) -> dict[str, list]:
        parts = [part.files for part in self.datasets]
        return {kind: [f for part in parts for f in part.get(kind, ())] for kind in KINDS}

    @property
    def pairs(self) -> list[Pair]:
        """Those of its parts."""
        return [pair for part in self.datasets for pair in getattr(part, "pairs", ())]

    def _part(self, index) -> Dataset:
        return Random(f"mixed {self.seed} {index}").choices(self.datasets, self.weights)[0]

    def stages(self, index) -> dict[str, np.ndarray]:
        return self._part(index).stages(index)

    def __getitem__(self, index):
        part = self._part(index)
        return {**part[index], "general": torch.tensor(part is self.general)}


def mix_in(
    general: tuple[WatermarkDataset, WatermarkDataset],
    share: float,
    mark: OwnMark | None = None,
    pairs: list[Pair] | None = None,
    settings: WatermarkSettings | None = None,
    val_fraction: float = 0.1,
) -> tuple[MixedDataset, MixedDataset]:
    """Train and validation data with a mark of one's own, pairs, or both.

    Args:
        general: from `make_datasets`; its photos carry the own mark, too.
        share: of the training samples that are not general, 0..1. Mark and pairs halve it.
            Validation has nothing general.
        settings: what photos with the own mark look like, by default the general ones; the mark's
            kinds and texts are set.
        val_fraction: share of the pairs kept for validation.
    """
    if not 0 < share <= 1:
        raise ValueError(f"own_share is {share}; it must lie above 0 and not above 1.")
    settings = settings or general[0].settings
    sizes = [settings.image_size, general[0].settings.image_size]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"Own samples have {sizes[0]} px, general ones {sizes[1]} px; they share batches: give "
            "own_settings and settings the same image_size."
        )
    pair_sides = split_by_hash(pairs, val_fraction, "pairs") if pairs else (None, None)
    sides = []
    for data, side, rest in zip(general, pair_sides, (1 - share, 0)):
        own, length, seed = [], len(data), data.seed
        if mark:
            own_settings = mark.settings(settings)
            own.append(
                WatermarkDataset(data.photos, mark.logos, own_settings, length, seed, mark.fonts)
            )
        if side:
            own.append(PairDataset(side, settings, length, seed))
        parts = [(part, (1 - rest) / len(own)) for part in own]
        if rest:
            parts.append((data, rest))
        sides.append(MixedDataset(parts, length, seed, general=data))
    return tuple(sides)
