"""A cache on disk of facts about files, such as their hash."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pooch
from tqdm import tqdm

from inference.reading import DECODE_ERRORS

VERSION = 2  # raise it when the `inspect` functions return something else


def inspect_all(paths: Sequence[Path], inspect: Callable, name: str, threads=None) -> list:
    """The result of `inspect(path)` for each file, or the DECODE_ERROR that it raises.

    Results are JSON types. They are kept in the file `name` in $WATERMARK_CACHE, by default in the
    user's cache folder, until the size or the modification time of the inspected file changes.
    """
    folder = Path(os.environ.get("WATERMARK_CACHE") or pooch.os_cache("watermark-segmentation"))
    table, kept, changed = folder / f"{name}-{VERSION}.json", {}, False
    with contextlib.suppress(OSError, ValueError):  # missing or damaged: inspect every file
        kept = json.loads(table.read_text())

    def inspect_if_changed(path):
        nonlocal changed
        try:
            status, key = path.stat(), os.path.abspath(path)
            state = [status.st_size, status.st_mtime_ns]
            if key not in kept or kept[key][0] != state:
                kept[key], changed = [state, inspect(path)], True
            return kept[key][1]
        except DECODE_ERRORS as error:
            return error

    progress = dict(desc="Checking files", delay=2, leave=False, disable=None)
    with ThreadPoolExecutor(threads) as pool:  # Pillow releases the GIL while it decodes
        results = list(tqdm(pool.map(inspect_if_changed, paths), total=len(paths), **progress))
    if changed:
        with contextlib.suppress(OSError):  # no write access: the next run inspects again
            folder.mkdir(parents=True, exist_ok=True)
            temporary = table.with_suffix(f".{os.getpid()}")  # other processes may write it, too
            temporary.write_text(json.dumps(kept))
            temporary.replace(table)
    return results
