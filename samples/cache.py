"""What earlier runs found out about files, kept by path, size and time of the last change."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pooch

VERSION = 1  # raise it when what is found out about files changes


def cache_folder() -> Path:
    """The folder in $WATERMARK_CACHE, by default one in the user's cache folder."""
    return Path(os.environ.get("WATERMARK_CACHE") or pooch.os_cache("watermark-segmentation"))


class FileCache(contextlib.AbstractContextManager):
    """A table of one kind of findings: `with FileCache("fonts") as known: known.get(path, read)`.

    Leaving the block writes what is new. Several processes may do so: the last one wins.
    """

    def __init__(self, name: str):
        self.path, self.changed, self.entries = cache_folder() / f"{name}-{VERSION}.json", False, {}
        with contextlib.suppress(OSError, ValueError):  # none yet, or damaged: all is looked at
            self.entries = json.loads(self.path.read_text())

    def get(self, path: Path, look: Callable):
        """What `look(path)` gives (JSON types), from the table if the file has not changed."""
        status, key = path.stat(), os.path.abspath(path)
        state = [status.st_size, status.st_mtime_ns]
        known = self.entries.get(key)
        if not known or known[0] != state:
            known = self.entries[key] = [state, look(path)]
            self.changed = True
        return known[1]

    def __exit__(self, *error):
        if not self.changed:
            return
        with contextlib.suppress(OSError):  # no write access: the next run looks again
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(self.entries))
            temporary.replace(self.path)
