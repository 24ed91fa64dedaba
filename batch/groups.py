"""Files of equal size that are segmented together: which they are, and what they share.

`pooling.py` finds the shared mark; here its images are files, some of which may be damaged.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from batch.inputs import CONSENSUS, Input
from batch.journal import file_stamp
from batch.report import write_whole
from inference.pictures import encode, mask_bytes
from inference.pooling import MIN_IMAGES, SharedMark, find_shared, spread
from inference.reading import read_image, upright_size
from inference.segmenter import Predict

Groups = dict[tuple[int, int], list[Input]]  # width and height to images


def group_inputs(inputs: list[Input]) -> list[Input]:
    """The inputs, with number, size and group; without size those whose header cannot be read."""
    members: Groups = defaultdict(list)
    for number, item in enumerate(inputs):
        size = _size(item)
        members[size].append(replace(item, number=number, size=size))
    grouped = {}
    for size, items in members.items():
        digest = hashlib.sha256()
        for item in items:
            digest.update(repr((os.path.abspath(item.path), file_stamp(item.path))).encode())
        group = digest.hexdigest()[:16] if size else ""
        grouped |= {item.number: replace(item, group=group) for item in items}
    return [grouped[number] for number in range(len(inputs))]


def _size(item: Input) -> tuple[int, int] | None:
    try:
        return None if item.error else upright_size(item.path)
    except Exception:  # damaged files make Pillow's plugins raise anything; `process` says what
        return None


def by_size(inputs: Iterable[Input]) -> Groups:
    """The groups that are large enough to share a mark."""
    groups: Groups = defaultdict(list)
    for item in inputs:
        groups[item.size].append(item)
    return {size: items for size, items in groups.items() if size and len(items) >= MIN_IMAGES}


def consensus_name(size: tuple[int, int]) -> str:
    """Of the mask that a group shares."""
    return f"{CONSENSUS}{size[0]}x{size[1]}.png"


def find_shared_mark(predict: Predict, items: list[Input], output: Path) -> SharedMark | None:
    """The mark that a group of files shares; its mask goes to the output folder.

    Raises:
        OutputError: see `report.write_whole`.
    """
    chosen = [items[i] for i in spread(len(items))]
    paths = {item.number: item.path for item in chosen if _can_be_read(item)}
    shared = find_shared(predict, lambda number: read_image(paths[number]), list(paths))
    name = consensus_name(items[0].size)
    if shared is None:
        (output / name).unlink(missing_ok=True)  # of an earlier run with other images
    else:
        write_whole(encode(mask_bytes(shared.mask), ".png"), name, output, needed=True)
    return shared


def _can_be_read(item: Input) -> bool:
    try:
        return read_image(item.path).shape[1::-1] == item.size
    except Exception:  # as in `_size`
        return False
