"""Samples out of shards, and the chosen ones into new shards of the same format.

A new format is one class and an entry in FORMATS, and its ending in shards.py. Ray Data reads such
files, too, but loses a whole shard for one damaged member, and passes over links, names that begin
with "__" and samples without a suffix without a word; here each of them has a row.
"""

import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa
from pyarrow import parquet

from batch.look import WINDOW, Sample
from batch.rows import valid_text
from batch.shards import SIDE_SUFFIXES, Shard
from batch.stores import BUFFER_BYTES, Store
from inference.reading import IMAGE_SUFFIXES

SAMPLE_BYTES = 256_000_000  # of one sample, encoded, that are read
FLUSH_BYTES = 1 << 24  # of rows that are collected before they are written
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes", "content")
SIDES = tuple(suffix.removeprefix(".") for suffix in SIDE_SUFFIXES)
LINK = "is a link inside the archive: pack the file itself (tar --dereference --hard-dereference)"
TOO_LARGE = f"is beyond the {SAMPLE_BYTES // 10**6} MB of a sample that are read"
SIDE_SCHEMA = pa.schema([(side, pa.string()) for side in SIDES])


class SourceError(ValueError):
    """A shard cannot be read; what is done of it is dropped."""


@dataclass(frozen=True)
class Origin:
    """What a shard tells of a sample."""

    keys: list[str | None]  # of its images
    told: pa.Table | dict  # the source's own columns: a row for each image, or one for all
    kept: object = field(default=None, repr=False)  # what is written again of samples to keep
    odd: str | None = None  # what is wrong with the sample beside its images


Keep = Callable[[Sample, list[bool]], None]  # writes a sample of whose images these are to be kept


def lost(reason: str, told=None) -> Sample:
    """In place of samples that cannot be read."""
    return Sample([ValueError(reason)], Origin([None], {} if told is None else told))


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

    def samples(self) -> Iterator[Sample]:
        """Raises OSError if the store fails."""
        problem, broken = "no image in it", []
        with self.store.stream(self.shard.source) as stream:
            members = self._members(stream, broken)
            for key, sample in groupby(members, key=lambda member: split_key(member[0].name)[0]):
                problem = None
                yield self._sample(valid_text(key), list(sample))
        if broken or problem:
            yield lost(f"the rest cannot be read: {broken[0]}" if broken else problem)

    def _members(self, stream, broken: list) -> Iterator[tuple[tarfile.TarInfo, bytes | Exception]]:
        """The files of the archive, with their content or why there is none, up to its damage."""
        key, left = None, 0
        try:
            with tarfile.open(
                fileobj=stream, mode="r|", tarinfo=Member, bufsize=BUFFER_BYTES
            ) as archive:
                for info in archive:
                    archive.members = []  # it would remember all of them
                    if info.isdir() or posixpath.basename(info.name).startswith("."):
                        continue
                    if split_key(info.name)[0] != key:
                        key, left = split_key(info.name)[0], SAMPLE_BYTES
                    if not info.isfile():
                        yield info, ValueError(LINK)
                    elif info.size > left:
                        yield info, ValueError(TOO_LARGE)
                    else:
                        left -= info.size
                        yield info, archive.extractfile(info).read()
        except (BrokenTar, tarfile.TarError) as error:
            broken.append(error)

    def _sample(self, key: str, members: list) -> Sample:
        endings = [valid_text(split_key(info.name)[1]) for info, _ in members]
        images, told, odd, size = {}, {}, None, 0
        for number, (ending, (info, data)) in enumerate(zip(endings, members)):
            if info.name.lower().endswith(IMAGE_SUFFIXES):
                images[number] = data
            elif isinstance(data, Exception):
                odd = f".{ending} {data}"
            elif ending in SIDES:
                told[ending] = text_of(data)
            size += 0 if isinstance(data, Exception) else len(data)
        keys = [key if len(images) == 1 else f"{key}.{endings[number]}" for number in images]
        found = [*images.values()]
        if not images:
            names = ", ".join("." + ending for ending in endings)
            keys, found = [key], [ValueError(f"no image, only {names}")]
        return Sample(found, Origin(keys, told, members, odd), size)

    @contextmanager
    def keeping(self, kept: Store) -> Iterator[Keep]:
        """Writes the samples of which all images are to be kept, with all their files."""
        with (
            kept.writing(f"{self.shard.name}.tar") as stream,
            tarfile.open(fileobj=stream, mode="w|", bufsize=BUFFER_BYTES) as archive,
        ):

            def keep(sample: Sample, chosen: list[bool]) -> None:
                for info, data in sample.origin.kept if all(chosen) else ():
                    archive.addfile(plain(info, len(data)), io.BytesIO(data))
                archive.members = []  # it would remember all of them

            yield keep


def plain(info: tarfile.TarInfo, size: int) -> tarfile.TarInfo:
    """Of a file with its whole content, which a sparse one has not."""
    new = tarfile.TarInfo(info.name)
    for name in ("mode", "mtime", "uid", "gid", "uname", "gname"):
        setattr(new, name, getattr(info, name))
    new.size = size
    return new


def split_key(name: str) -> tuple[str, str]:
    """Key and ending of a file in a .tar: "a/b.seg.png" is ("a/b", "seg.png")."""
    folder, name = posixpath.split(name)
    stem, _, ending = name.partition(".")
    return posixpath.join(folder, stem), ending


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


class ParquetShard:
    """A table with a column of image files, bytes or HuggingFace's struct of bytes and path."""

    def __init__(self, store: Store, shard: Shard):
        """Raises SourceError: it is no Parquet file, or has no column of images, or several."""
        self.shard = shard
        try:
            self.file = parquet.ParquetFile(
                store.file(shard.source), buffer_size=BUFFER_BYTES, pre_buffer=False
            )
        except pa.ArrowException as error:
            raise SourceError(f"is no Parquet file: {error}") from error
        self.whole = self.file.schema_arrow
        self.image = find_image_column(self.whole)
        self.others = [name for name in self.whole.names if name not in (self.image, "key")]
        self.schema = pa.schema([self.whole.field(name) for name in self.others])

    def samples(self) -> Iterator[Sample]:
        """A few rows are one sample; raises OSError, pa.ArrowException if the file is damaged."""
        first = 0
        for batch in self.file.iter_batches(WINDOW):
            table = pa.Table.from_batches([batch])
            keys = [f"{first + row:09}" for row in range(len(table))]
            if "key" in self.whole.names:
                own = table["key"].to_pylist()
                keys = [k if key is None else valid_text(str(key)) for k, key in zip(keys, own)]
            images = [image_bytes(value) for value in table[self.image].to_pylist()]
            yield Sample(images, Origin(keys, table.select(self.others), table), table.nbytes)
            first += len(table)
        if not first:
            yield lost("no image in it", pa.Table.from_pylist([{}], self.schema))

    @contextmanager
    def keeping(self, kept: Store) -> Iterator[Keep]:
        """Writes the kept rows with all their columns."""
        with (
            kept.writing(f"{self.shard.name}.parquet") as stream,
            TableWriter(stream, self.whole) as writer,
        ):

            def keep(sample: Sample, chosen: list[bool]) -> None:
                if sample.origin.kept is not None:
                    writer.add(sample.origin.kept.filter(pa.array(chosen)))

            yield keep


def find_image_column(schema: pa.Schema) -> str:
    """The column with images, a known name before the only one with bytes; else SourceError."""
    found = [f.name for f in schema if _is_bytes(f.type) or _is_bytes_struct(f.type)]
    known = [name for name in IMAGE_COLUMNS if name in found]
    if known or len(found) == 1:
        return (known or found)[0]
    if found:
        raise SourceError(
            f"has several columns of bytes: {', '.join(found)}. Call the one with the images "
            f"{IMAGE_COLUMNS[0]}."
        )
    columns = ", ".join(f"{f.name} ({f.type})" for f in schema) or "none"
    raise SourceError(
        f"has no column of images, only {columns}. Give one of image files as bytes, or as struct "
        "with bytes and path."
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_bytes_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(f.name == "bytes" and _is_bytes(f.type) for f in kind)


def image_bytes(value) -> bytes | Exception:
    """The image file in a cell of an image column; or why there is none."""
    if isinstance(value, dict):
        path, value = value.get("path"), value["bytes"]
        if value is None and path:
            return ValueError(f"no bytes, only the path {path}")
    return ValueError("no bytes") if value is None else value


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

    def samples(self) -> Iterator[Sample]:
        """Raises OSError if the store fails."""
        for names in self.shard.members:
            image, *sides = files = [self._read(name) for name in names]
            told = {
                posixpath.splitext(name)[1][1:]: text_of(data)
                for name, data in zip(names[1:], sides)
                if isinstance(data, bytes)
            }
            size = sum(len(data) for data in files if isinstance(data, bytes))
            yield Sample([image], Origin([valid_text(names[0])], told, (names, files)), size)

    def _read(self, name: str) -> bytes | Exception:
        try:
            with self.store.stream(posixpath.join(self.shard.source, name)) as stream:
                data = stream.read(SAMPLE_BYTES + 1)
            return data if len(data) <= SAMPLE_BYTES else ValueError(TOO_LARGE)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            return error

    @contextmanager
    def keeping(self, kept: Store) -> Iterator[Keep]:
        """Copies the kept images and what tells of them."""

        def keep(sample: Sample, chosen: list[bool]) -> None:
            for name, data in zip(*sample.origin.kept) if all(chosen) else ():
                if isinstance(data, bytes):
                    with kept.writing(posixpath.join(self.shard.source, name)) as stream:
                        stream.write(data)

        yield keep


FORMATS = {"tar": TarShard, "parquet": ParquetShard, "folder": FolderShard}
