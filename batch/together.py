"""Groups image files of equal size, which may share a mark, for `segment.py --together`.

`inference.pooling` finds the shared mark. This module skips files that are damaged.
"""

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from batch.files import file_stamp
from batch.inputs import Input
from inference.pooling import MIN_IMAGES, SharedMark, find_shared, spread
from inference.reading import read_image, upright_size
from inference.segmenter import Predict


@dataclass(frozen=True)
class Group:
    """Images of one size that may share a mark."""

    size: tuple[int, int]  # width, height
    items: list[Input]

    @property
    def consensus(self) -> str:
        """File name of the shared mask."""
        return f"consensus-{self.size[0]}x{self.size[1]}.png"

    @cached_property
    def digest(self) -> str:
        """Hash of the paths, sizes and times of the files."""
        stamps = [(os.path.abspath(item.path), file_stamp(item.path)) for item in self.items]
        return hashlib.sha256("".join(map(repr, stamps)).encode()).hexdigest()[:16]

    def find_shared_mark(self, predict: Predict) -> SharedMark | None:
        chosen = {number: self.items[number].path for number in spread(len(self.items))}
        sound = [number for number, path in chosen.items() if self._can_be_read(path)]
        return find_shared(predict, lambda number: read_image(chosen[number]), sound)

    def _can_be_read(self, path: str) -> bool:
        try:
            return read_image(path).shape[1::-1] == self.size
        except Exception:  # see `find_groups`
            return False


def find_groups(inputs: list[Input]) -> list[Group]:
    """The groups of images of equal size that have enough images to share a mark."""
    by_size = defaultdict(list)
    for item in inputs:
        if not os.path.isfile(item.path):  # opening a pipe would block
            continue
        try:
            by_size[upright_size(item.path)].append(item)
        except Exception:  # for damaged files Pillow raises any type; the run reports them
            continue
    return [Group(size, items) for size, items in by_size.items() if len(items) >= MIN_IMAGES]
