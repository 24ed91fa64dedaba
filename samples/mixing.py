"""Training data for your own mark: photos with painted masks, and mixtures of datasets."""

from collections.abc import Sequence
from random import Random

import numpy as np
from torch.utils.data import Dataset

from samples import IGNORE
from samples.loading import split_index, to_tensors
from samples.own_mark import OwnMark
from samples.pairs import Pair
from samples.photos import crop_photo, draw_crop
from samples.splits import KINDS, split_by_hash


class PairDataset(Dataset):
    """Random crops of photos with painted masks, as samples like those of `WatermarkDataset`."""

    def __init__(self, pairs: list[Pair], settings, length: int, seed: int | str = 0):
        """Only image_size and crop_range of the `WatermarkSettings` are used."""
        self.pairs, self.settings, self.length, self.seed = pairs, settings, length, seed

    def __len__(self) -> int:
        return self.length

    @property
    def files(self) -> dict[str, list]:
        return dict(photos=self.pairs)

    def stages(self, index) -> dict[str, np.ndarray]:
        """image: uint8, S x S x 3, RGB; mask: uint8, S x S, 1, 0 or IGNORE."""
        epoch, index = split_index(index, self.length)
        rng, size = Random(f"{self.seed} {epoch} {index}"), self.settings.image_size
        case = rng.choice(self.pairs).read()
        crop = draw_crop(self.settings.crop_range, rng)
        pictures = case.image, np.uint8(255) * (case.mask == 1), np.uint8(255) * (case.mask != 0)
        image, marked, drawn = (crop_photo(one, crop, False, size) for one in pictures)
        mask = np.where(marked >= 128, 1, np.where(drawn > 0, IGNORE, 0)).astype(np.uint8)
        return dict(image=image, mask=mask)

    def __getitem__(self, index):
        return to_tensors(**self.stages(index))


class MixedDataset(Dataset):
    """Takes each sample from one of several datasets, chosen at random by weight."""

    def __init__(self, parts: Sequence[tuple[Dataset, float]], length: int, seed=0):
        """
        Args:
            parts: pairs of a dataset, at least `length` long, and its weight.
            seed: decides which dataset each sample comes from.
        """
        self.datasets, self.weights = zip(*parts)
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    @property
    def files(self) -> dict[str, list]:
        parts = [part.files for part in self.datasets]
        return {kind: [f for part in parts for f in part.get(kind, ())] for kind in KINDS}

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of all its datasets."""
        return [pair for part in self.datasets for pair in getattr(part, "pairs", ())]

    def _part(self, index) -> Dataset:
        epoch, index = split_index(index, self.length)
        rng = Random(f"mixed {self.seed} {epoch} {index}")
        return rng.choices(self.datasets, self.weights)[0]

    def stages(self, index) -> dict[str, np.ndarray]:
        return self._part(index).stages(index)

    def __getitem__(self, index):
        return self._part(index)[index]


def mix_in(
    general: tuple[Dataset, Dataset], share: float, mark: OwnMark | None = None,
    pairs: list[Pair] | None = None, settings=None, val_fraction: float = 0.1,
) -> tuple[MixedDataset, MixedDataset]:  # fmt: skip
    """Training and validation data with your own mark, your own pairs, or both.

    Args:
        general: from `dataset.make_datasets`. Your own mark is drawn on the same photos.
        share: share of own samples in training, above 0, up to 1. With both a mark and pairs, each
            gets half of it. Validation has own samples only.
        settings: of the samples with your own mark, by default those of `general`. Their `kinds`
            and `texts` are replaced by those of the mark.
        val_fraction: share of the pairs that goes to validation.
    """
    if general[0].marks_per_crop > 1:
        raise ValueError(
            f"marks_per_crop is {general[0].marks_per_crop}, but samples of your own mark and "
            "general samples cannot share a crop: give a marks_per_crop of 1."
        )
    if not 0 < share <= 1:
        raise ValueError(f"own_share is {share}; it must lie above 0 and not above 1.")
    settings = settings or general[0].settings
    size_px, general_px = settings.image_size, general[0].settings.image_size
    if size_px != general_px:
        raise ValueError(
            f"Own samples have {size_px} px, general ones {general_px} px, but a batch holds both: "
            "give own_settings and settings the same image_size."
        )
    pair_sides = split_by_hash(pairs, val_fraction, "pairs") if pairs else (None, None)
    sides = []
    for data, side, rest in zip(general, pair_sides, (1 - share, 0)):
        own = [data.with_mark(mark, settings)] if mark else []
        if side:
            own.append(PairDataset(side, settings, len(data), data.seed))
        parts = [(part, (1 - rest) / len(own)) for part in own] + [(data, rest)] * bool(rest)
        sides.append(MixedDataset(parts, len(data), data.seed))
    return tuple(sides)
