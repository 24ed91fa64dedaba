"""A folder of outputs: one run at a time, and files whole or not at all."""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PROGRESS = ".progress."  # begins the names of what a run keeps for itself in an output folder
FATAL = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)  # no further file will fare better


class UsageError(ValueError):
    """The call cannot work at all: no result was written."""


class OutputError(OSError):
    """The output folder no longer takes files; what is done so far stays."""


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Makes the output folder, and keeps other runs out of it; UsageError where that fails."""
    if output.exists() and not output.is_dir():
        raise UsageError(f"The output {output} is a file. Give a folder.")
    lock = FileLock(output / f"{PROGRESS}lock", timeout=0)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(f"Another run is writing to {output}. Wait for its end.") from None
    except OSError as error:
        raise UsageError(f"The output folder {output} cannot be written: {error}.") from error
    try:
        yield
    finally:
        lock.release()


def write_whole(data: bytes, name: str, output: Path, needed: bool = False) -> None:
    """Writes a file below the output folder: under a temporary name, then renamed.

    Args:
        needed: the file is one of the whole run, which is worth nothing without it.

    Raises:
        OutputError: the disk is full or read-only, or a file that is needed cannot be written.
        OSError: this file cannot be written.
    """
    temporary = output / f"{PROGRESS}{secrets.token_hex(8)}.partial"
    try:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, output / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kind = OutputError if needed or error.errno in FATAL else OSError
        raise kind(f"{output / name} cannot be written: {error.strerror}") from None


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def digest_at(path: Path) -> str | None:
    """Of a file's content; None if there is none, or only the empty file that a crash leaves."""
    try:
        data = path.read_bytes()
        return digest_of(data) if data else None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def file_stamp(path) -> list[int] | None:
    """[bytes, time of change in ns], which tells whether a file is still the same."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]
