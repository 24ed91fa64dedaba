"""Photos out of shards, a few at a time, and the chosen ones into new shards of the same format.

A new format is one class and an entry in FORMATS, and its ending in shards.py.
"""

import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import parquet

from batch.files import UsageError
from batch.rows import valid_text
from batch.shards import SIDE_SUFFIXES, Shard
from batch.stores import BUFFER_BYTES, Store
from inference.reading import IMAGE_SUFFIXES

WINDOW = 8  # photos of one shard that are decoded together
FLUSH_BYTES = 1 << 24  # of rows that are collected before they are written
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes", "content")
SIDES = tuple(suffix.removeprefix(".") for suffix in SIDE_SUFFIXES)
LINK = "is a link inside the archive: pack the file itself (tar --dereference --hard-dereference)"
SIDE_SCHEMA = pa.schema([(side, pa.string()) for side in SIDES])


class SourceError(Exception):
    """A shard cannot be read now; what is done of it is dropped."""


@dataclass(frozen=True)
class Window:
    """Some photos of one shard, in its order."""

    keys: list[str | None]
    images: list[bytes | str]  # encoded; or in words why there is none
    told: pa.Table  # the source's own columns, a row for each photo
    origin: object = field(default=None, repr=False)  # what is written again of photos to keep


Keep = Callable[[Window, list[bool]], None]  # writes the photos of a window that are to be kept


def lost(reason: str, schema: pa.Schema) -> Window:
    """In place of photos that cannot be read."""
    return Window([None], [reason], pa.Table.from_pylist([{}], schema))


class BrokenTar(Exception):  # noqa: N818
    """From here on a .tar file cannot be read."""


class Member(tarfile.TarInfo):
    """A header that is cut off or damaged is an error, which tarfile takes for the end."""

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise BrokenTar(f"damaged or cut off: {error}") from error


class TarShard:
    """WebDataset: consecutive files with the same name up to the first dot are one sample."""

    def __init__(self, store: Store, shard: Shard):
        self.store, self.shard, self.schema = store, shard, SIDE_SCHEMA

    def windows(self) -> Iterator[Window]:
        """Raises OSError if the store fails."""
        samples, count = [], 0
        with self.store.stream(self.shard.source) as stream:
            try:
                for sample in self._samples(stream):
                    samples, count = [*samples, sample], count + 1
                    if len(samples) == WINDOW:
                        yield self._window(samples)
                        samples = []
                problem = None if count else "no image in it"
            except (BrokenTar, tarfile.TarError) as error:
                problem = f"the rest cannot be read: {error}"
            if samples:
                yield self._window(samples)
            if problem:
                yield lost(problem, self.schema)

    def _samples(self, stream) -> Iterator[list[tuple[tarfile.TarInfo, bytes | str]]]:
        with tarfile.open(
            fileobj=stream, mode="r|", tarinfo=Member, bufsize=BUFFER_BYTES
        ) as archive:
            sample = []
            try:
                for info in archive:
                    archive.members = []  # it would remember all of them
                    is_lost = _is_image_link(info)
                    if not (info.isfile() or is_lost) or _hidden(info.name):
                        continue
                    if sample and split_key(info.name)[0] != split_key(sample[0][0].name)[0]:
                        yield sample
                        sample = []
                    sample.append((info, LINK if is_lost else archive.extractfile(info).read()))
            except (BrokenTar, tarfile.TarError):
                if sample:
                    yield sample  # its other files may be lost
                raise
            if sample:
                yield sample

    def _window(self, samples) -> Window:
        keys, images, told = [], [], []
        for sample in samples:
            parts = {split_key(info.name)[1]: data for info, data in sample}
            endings = [ending for ending in parts if f".{ending.lower()}" in IMAGE_SUFFIXES]
            keys.append(valid_text(split_key(sample[0][0].name)[0]))
            names = ", ".join("." + valid_text(ending) for ending in parts)
            images.append(parts[endings[0]] if endings else f"no image, only {names}")
            told.append({side: text_of(parts[side]) for side in SIDES if side in parts})
        return Window(keys, images, pa.Table.from_pylist(told, self.schema), samples)

    @contextmanager
    def keeping(self, kept: Store) -> Iterator[Keep]:
        """Writes the kept samples with all their files, as `Store.writing` does."""
        with (
            kept.writing(f"{self.shard.name}.tar") as stream,
            tarfile.open(fileobj=stream, mode="w|", bufsize=BUFFER_BYTES) as archive,
        ):

            def keep(window: Window, chosen: list[bool]) -> None:
                for sample, wanted in zip(window.origin or (), chosen):
                    for info, data in sample if wanted else ():
                        archive.addfile(info, io.BytesIO(data))
                archive.members = []  # it would remember all of them

            yield keep


def split_key(name: str) -> tuple[str, str]:
    """Key and ending of a file in a .tar: "a/b.seg.png" is ("a/b", "seg.png")."""
    folder, name = posixpath.split(name)
    stem, _, ending = name.partition(".")
    return posixpath.join(folder, stem), ending


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _is_image_link(info: tarfile.TarInfo) -> bool:
    return (info.islnk() or info.issym()) and info.name.lower().endswith(IMAGE_SUFFIXES)


def _hidden(name: str) -> bool:
    return posixpath.basename(name).startswith((".", "__"))  # of macOS; of WebDataset's index


class ParquetShard:
    """A table with a column of image files, bytes or HuggingFace's struct of bytes and path."""

    def __init__(self, store: Store, shard: Shard):
        """
        Raises:
            SourceError: the file is no Parquet.
            UsageError: it has no column of images, or several.
        """
        self.shard = shard
        try:
            self.file = parquet.ParquetFile(
                store.file(shard.source), buffer_size=BUFFER_BYTES, pre_buffer=False
            )
        except pa.ArrowInvalid as error:
            raise SourceError(f"is no Parquet file: {error}") from error
        self.whole = self.file.schema_arrow
        self.image = find_image_column(self.whole, shard.source or shard.name)
        self.others = [name for name in self.whole.names if name not in (self.image, "key")]
        self.schema = pa.schema([self.whole.field(name) for name in self.others])

    def windows(self) -> Iterator[Window]:
        """Raises OSError if the store fails or the file is damaged: both read the same."""
        first = 0
        for batch in self.file.iter_batches(WINDOW):
            table = pa.Table.from_batches([batch])
            keys = [f"{first + row:09}" for row in range(len(table))]
            if "key" in self.whole.names:
                own = table["key"].to_pylist()
                keys = [k if key is None else valid_text(str(key)) for k, key in zip(keys, own)]
            images = [image_bytes(value) for value in table[self.image].to_pylist()]
            yield Window(keys, images, table.select(self.others), table)
            first += len(table)
        if not first:
            yield lost("no image in it", self.schema)

    @contextmanager
    def keeping(self, kept: Store) -> Iterator[Keep]:
        """Writes the kept rows with all their columns, as `Store.writing` does."""
        with (
            kept.writing(f"{self.shard.name}.parquet") as stream,
            TableWriter(stream, self.whole) as writer,
        ):

            def keep(window: Window, chosen: list[bool]) -> None:
                if window.origin is not None:
                    writer.add(window.origin.filter(pa.array(chosen)))

            yield keep


def find_image_column(schema: pa.Schema, source: str) -> str:
    """The column with images, a known name before the only one with bytes; else UsageError."""
    found = [f.name for f in schema if _is_bytes(f.type) or _is_bytes_struct(f.type)]
    known = [name for name in IMAGE_COLUMNS if name in found]
    if known or len(found) == 1:
        return (known or found)[0]
    columns = ", ".join(f"{f.name} ({f.type})" for f in schema) or "none"
    if found:
        raise UsageError(
            f"{source} has several columns of bytes: {', '.join(found)}. Call the one with the "
            f"images {IMAGE_COLUMNS[0]}."
        )
    raise UsageError(
        f"{source} has no column of images, only {columns}. Give one of image files as bytes, or "
        "as struct with bytes and path."
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_bytes_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(f.name == "bytes" and _is_bytes(f.type) for f in kind)


def image_bytes(value) -> bytes | str:
    """The image file in a cell of an image column; or why there is none."""
    if isinstance(value, dict):
        path, value = value.get("path"), value["bytes"]
        if value is None and path:
            return f"no bytes, only the path {path}"
    return "no bytes" if value is None else value


class TableWriter:
    """A Parquet file that tables are added to; closed it is whole."""

    def __init__(self, stream, schema: pa.Schema):
        self.writer, self.waiting, self.waiting_bytes = parquet.ParquetWriter(stream, schema), [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._flush()
        self.writer.close()

    def add(self, table: pa.Table) -> None:
        self.waiting.append(table)
        self.waiting_bytes += table.nbytes
        if self.waiting_bytes >= FLUSH_BYTES:
            self._flush()

    def note(self, name: str, text: str) -> None:
        """Puts a note to the file's schema."""
        self.writer.add_key_value_metadata({name: text})

    def _flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting))
        self.waiting, self.waiting_bytes = [], 0


class FolderShard:
    """A portion of the images in a folder, with the .json and .txt files beside them."""

    def __init__(self, store: Store, shard: Shard):
        self.store, self.shard, self.schema = store, shard, SIDE_SCHEMA

    def windows(self) -> Iterator[Window]:
        """Raises OSError if the store fails."""
        members = self.shard.members
        for start in range(0, len(members), WINDOW):
            names = members[start : start + WINDOW]
            files = [[self._read(name) for name in sample] for sample in names]
            told = [
                {posixpath.splitext(side)[1][1:]: _side(data) for side, data in zip(sides, read)}
                for (_, *sides), (_, *read) in zip(names, files)
            ]
            keys = [valid_text(name) for name, *_ in names]
            images = [image for image, *_ in files]
            yield Window(keys, images, pa.Table.from_pylist(told, self.schema), (names, files))

    def _read(self, name: str) -> bytes | str:
        try:
            return self.store.read(posixpath.join(self.shard.source, name))
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            return str(error.strerror)

    @contextmanager
    def keeping(self, kept: Store) -> Iterator[Keep]:
        """Copies the kept images and what tells of them, each as `Store.writing` does."""

        def keep(window: Window, chosen: list[bool]) -> None:
            for names, files, wanted in zip(*window.origin, chosen):
                for name, data in zip(names, files) if wanted else ():
                    if isinstance(data, bytes):
                        kept.write(posixpath.join(self.shard.source, name), data)

        yield keep


def _side(data: bytes | str) -> str | None:
    return text_of(data) if isinstance(data, bytes) else None


FORMATS = {"tar": TarShard, "parquet": ParquetShard, "folder": FolderShard}
