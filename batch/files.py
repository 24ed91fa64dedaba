"""The output folder: a lock against a second run, atomic writes, and hashes of files."""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PROGRESS = ".progress."  # prefix of the files that a run keeps for itself in the output folder
FATAL = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)  # all further writes would fail too


class UsageError(ValueError):
    """The call cannot work. No result was written."""


class OutputError(OSError):
    """The output folder cannot be written. Results that are already there stay."""


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Creates the output folder and locks it against other runs; UsageError if this fails."""
    if output.exists() and not output.is_dir():
        raise UsageError(f"The output {output} is a file. Give a folder.")
    lock = FileLock(output / f"{PROGRESS}lock", timeout=0)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(f"Another run is writing to {output}. Wait until it ends.") from None
    except OSError as error:
        raise UsageError(f"The output folder {output} cannot be written: {error}.") from error
    try:
        yield
    finally:
        lock.release()


def write_whole(data: bytes, name: str, output: Path, needed: bool = False) -> None:
    """Writes a file in the output folder atomically: under a temporary name, then renamed.

    Args:
        needed: the run cannot go on without this file.

    Raises:
        OutputError: the disk is full or read-only, or a needed file cannot be written.
        OSError: only this file cannot be written.
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
    """Hash of a file's content; None if there is no file, or an empty one as a crash leaves it."""
    try:
        data = path.read_bytes()
        return digest_of(data) if data else None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def file_stamp(path) -> list[int] | None:
    """[size in bytes, time of the last change in ns] of a file; None if it cannot be read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]
