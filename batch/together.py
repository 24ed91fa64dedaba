"""Files of equal size that may share a mark: a pass before the run, of `segment.py --together`.

`inference.pooling` finds the shared mark; here its images are files, some of which may be damaged.
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
    """Images of one size that decide together."""

    size: tuple[int, int]  # width, height
    items: list[Input]

    @property
    def consensus(self) -> str:
        """Name of the mask that they share."""
        return f"consensus-{self.size[0]}x{self.size[1]}.png"

    @cached_property
    def digest(self) -> str:
        """Changes with the files of the group."""
        told = [(os.path.abspath(item.path), file_stamp(item.path)) for item in self.items]
        return hashlib.sha256("".join(map(repr, told)).encode()).hexdigest()[:16]

    def find_shared_mark(self, predict: Predict) -> SharedMark | None:
        chosen = {number: self.items[number].path for number in spread(len(self.items))}
        sound = [number for number, path in chosen.items() if self._can_be_read(path)]
        return find_shared(predict, lambda number: read_image(chosen[number]), sound)

    def _can_be_read(self, path: str) -> bool:
        try:
            return read_image(path).shape[1::-1] == self.size
        except Exception:  # as in `find_groups`
            return False


def find_groups(inputs: list[Input]) -> list[Group]:
    """The groups that are large enough to share a mark, from the headers of all images."""
    items = defaultdict(list)
    for item in inputs:
        if not os.path.isfile(item.path):  # to open a pipe would be to wait for ever
            continue
        try:
            items[upright_size(item.path)].append(item)
        except Exception:  # damaged files make Pillow's plugins raise anything; the run says what
            continue
    return [Group(size, found) for size, found in items.items() if len(found) >= MIN_IMAGES]
