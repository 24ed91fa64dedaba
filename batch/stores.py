"""Folders on this machine and behind URLs: one way to read and write, files whole or not at all."""

import copy
import os
import posixpath
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from batch.files import OutputError, UsageError

PARTIAL = ".partial"  # ends the names of files that are being written
URL_SIGNS = ":/?#[]@!$&'()*+,;=%~"  # they mean something in a URL; all others are written %XX
BUFFER_BYTES = 1 << 23  # of one read, which is a request of its own to an object store


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

    @property
    def address(self) -> str:
        """What opens it from any working directory, and tells it from other stores."""
        local = isinstance(self.filesystem, fs.LocalFileSystem)
        return self.path if local else self.url.rstrip("/")

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

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A new file that is there, under its name, once the block has ended without an error.

        Raises:
            OutputError: it cannot be written.
        """
        folder = posixpath.dirname(self.full(name))
        temporary = posixpath.join(folder, f".{secrets.token_hex(8)}{PARTIAL}")
        try:
            self.filesystem.create_dir(folder, recursive=True)
            with self.filesystem.open_output_stream(temporary) as stream:
                yield stream
            self.filesystem.move(temporary, self.full(name))
        except BaseException as error:
            with suppress(OSError):
                self.filesystem.delete_file(temporary)
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                reason = error.strerror or error
                raise OutputError(f"{name} in {self.url} cannot be written: {reason}") from error
            raise

    def whole_files(self, name: str) -> list[str]:
        """Names of all files below a folder; deletes those that a killed writer has left there."""
        whole = []
        for file in self.files(name):
            if posixpath.basename(file).startswith(".") and file.endswith(PARTIAL):
                self.filesystem.delete_file(self.full(file))
            else:
                whole.append(file)
        return whole


def open_filesystem(url: str) -> tuple[fs.FileSystem, str]:
    """File system and path of a local path or URL: PyArrow's own, or one of fsspec."""
    if "://" not in url:
        return fs.LocalFileSystem(), Path(os.path.abspath(url)).as_posix()
    quoted = quote(url, safe=URL_SIGNS).replace("local://", "file://", 1)
    try:
        try:
            return fs.FileSystem.from_uri(quoted)
        except pa.ArrowInvalid:  # a scheme that PyArrow does not have
            return fs.FileSystem.from_uri(f"fsspec+{quoted}")
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(
            f"No installed package opens {url}: {error}. Give a local path, s3:// or gs://, or "
            "install the package that fsspec has for this scheme."
        ) from error
