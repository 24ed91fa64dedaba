"""What is found out about files, kept from run to run until they change."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pooch
from tqdm import tqdm

from inference.reading import DECODE_ERRORS

VERSION = 2  # raise it when what is found out about files changes


def inspect_all(paths: Sequence[Path], look: Callable, name: str, threads=None) -> list:
    """What `look(path)` finds out about each file (JSON types), or the DECODE_ERROR that it raises.

    The table `name` in $WATERMARK_CACHE, by default in the user's cache folder, keeps what was
    found, with the size of each file and the time of its last change. Several processes may write
    it: the last one wins.
    """
    folder = Path(os.environ.get("WATERMARK_CACHE") or pooch.os_cache("watermark-segmentation"))
    table, kept, changed = folder / f"{name}-{VERSION}.json", {}, {}
    with contextlib.suppress(OSError, ValueError):  # none yet, or damaged: all is looked at
        kept = json.loads(table.read_text())

    def look_at(path):
        try:
            status, key = path.stat(), os.path.abspath(path)
            state = [status.st_size, status.st_mtime_ns]
            if key not in kept or kept[key][0] != state:
                kept[key] = changed[key] = [state, look(path)]
            return kept[key][1]
        except DECODE_ERRORS as error:
            return error

    progress = dict(desc="Checking files", delay=2, leave=False, disable=None)
    with ThreadPoolExecutor(threads) as pool:  # Pillow decodes without the lock
        found = list(tqdm(pool.map(look_at, paths), total=len(paths), **progress))
    if changed:
        with contextlib.suppress(OSError):  # no write access: the next run looks again
            folder.mkdir(parents=True, exist_ok=True)
            temporary = table.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(kept))
            temporary.replace(table)
    return found
