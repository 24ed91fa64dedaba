"""Folders on this machine and behind URLs: one way to read and write, files whole or not at all.

PyArrow opens local paths, s3:// and gs:// by itself; any other scheme is fsspec's.
"""

import copy
import os
import posixpath
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import fsspec
import pyarrow as pa
from pyarrow import fs

from batch.files import OutputError
from batch.inputs import UsageError

PARTIAL = ".partial"  # folder of files that are being written
SHOWN_ONCE_WHOLE = ("s3", "gcs", "abfs")  # PyArrow's names of stores that need no second name
URL_SIGNS = ":/?#[]@!$&'()*+,;=%~"  # they mean something in a URL; all others are written %XX
BUFFER_BYTES = 1 << 23  # of one read, which is a request of its own to an object store
IN_MEMORY_BYTES = 1 << 26  # of an upload; what is longer waits in a temporary file


class Store:
    """A folder and its file system; names of files are paths below it, with "/"."""

    def __init__(self, url: str):
        """
        Raises:
            UsageError: no installed package opens such a URL.
        """
        self.url = url
        self.filesystem, path = open_filesystem(url)
        self.path = path.rstrip("/") or "/"
        self.partial = self.full(PARTIAL)

    @property
    def address(self) -> str:
        """What opens it from any working directory: the URL, or the whole path."""
        return self.url if "://" in self.url else self.path

    def below(self, name: str) -> "Store":
        """A folder in this one."""
        below = copy.copy(self)
        below.url, below.path = posixpath.join(self.url, name), self.full(name)
        return below

    def full(self, name: str) -> str:
        return posixpath.join(self.path, name) if name else self.path

    def info(self, name: str = "") -> fs.FileInfo:
        return self.filesystem.get_file_info(self.full(name))

    def files(self, name: str = "") -> dict[str, fs.FileInfo]:
        """Name to info of all files below a folder, sorted by name; none if it does not exist."""
        selector = fs.FileSelector(self.full(name), allow_not_found=True, recursive=True)
        found = [i for i in self.filesystem.get_file_info(selector) if i.is_file]
        skipped = len(self.path.rstrip("/")) + 1
        return {info.path[skipped:]: info for info in sorted(found, key=lambda info: info.path)}

    def stream(self, name: str) -> pa.NativeFile:
        """For reading from begin to end."""
        return self.filesystem.open_input_stream(self.full(name), buffer_size=BUFFER_BYTES)

    def file(self, name: str) -> pa.NativeFile:
        """For reading at any place."""
        return self.filesystem.open_input_file(self.full(name))

    def read(self, name: str) -> bytes:
        with self.stream(name) as stream:
            return stream.read()

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A new file that is there, under its name, once the block has ended without an error.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            direct = self.filesystem.type_name in SHOWN_ONCE_WHOLE
            with (self._uploading if direct else self._renaming)(name) as stream:
                yield stream
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            reason = error.strerror or error
            raise OutputError(f"{name} in {self.url} cannot be written: {reason}") from error

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as stream:
            stream.write(data)

    @contextmanager
    def _uploading(self, name: str) -> Iterator[BinaryIO]:
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as whole:
            yield whole
            whole.seek(0)
            with self.filesystem.open_output_stream(self.full(name)) as stream:
                shutil.copyfileobj(whole, stream, BUFFER_BYTES)

    @contextmanager
    def _renaming(self, name: str) -> Iterator[BinaryIO]:
        temporary = posixpath.join(self.partial, secrets.token_hex(8))
        for path in (temporary, self.full(name)):
            self.filesystem.create_dir(posixpath.dirname(path), recursive=True)
        try:
            with self.filesystem.open_output_stream(temporary) as stream:
                yield stream
            self.filesystem.move(temporary, self.full(name))
        except BaseException:
            with suppress(OSError):
                self.filesystem.delete_file(temporary)
            raise

    def clear_partial(self) -> None:
        """Deletes what writers that were killed have left."""
        if self.info(PARTIAL).type == fs.FileType.Directory:
            self.filesystem.delete_dir(self.partial)


def open_filesystem(url: str) -> tuple[fs.FileSystem, str]:
    """File system and path of a local path or URL; see `Store`."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return fs.LocalFileSystem(), Path(os.path.abspath(url)).as_posix()
    try:
        return fs.FileSystem.from_uri(quote(url, safe=URL_SIGNS))
    except pa.ArrowInvalid:  # a scheme that PyArrow does not have
        pass
    except OSError as error:
        raise UsageError(f"{url} cannot be opened: {error}.") from error
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"No installed package opens {scheme}:// URLs, as in {url}: {error}. Give a local "
            "path, s3:// or gs://, or install the package that fsspec has for this scheme."
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path
