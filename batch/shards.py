"""Finds the shards of a source, reads their samples and writes the chosen samples again.

Ray Data can read such files too. But one damaged member costs it the whole shard, and it skips
links, names that begin with "__" and samples without a suffix without a message. Here each of them
gets a row. A new format needs one class and an entry in FORMATS.
"""

import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import BinaryIO

import fsspec
import pyarrow as pa
from fsspec.implementations.dirfs import DirFileSystem
from pyarrow import parquet

from batch.files import UsageError
from batch.predict import CHUNK_IMAGES, Sample
from batch.rows import valid_text
from inference.reading import IMAGE_SUFFIXES

MANIFEST = "scan.json"  # marks an output folder, in which no shards are searched
BUFFER_BYTES = 1 << 23  # of one read; each is a separate request to an object store
SAMPLE_BYTES = 256_000_000  # limit of the files of one sample
FLUSH_BYTES = 1 << 24  # of kept rows that are collected before they are written
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes", "content")
VERSIONS = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "blob_id")
TEXTS = ("json", "txt")  # endings of text files beside an image, which become columns
TEXT_SCHEMA = pa.schema([(ending, pa.string()) for ending in TEXTS])
LINK = "is a link inside the archive: pack the file itself (tar --dereference --hard-dereference)"
TOO_LARGE = f"exceeds the limit of {SAMPLE_BYTES // 10**6} MB for the files of a sample"


class SourceError(ValueError):
    """A shard cannot be read. Nothing is written for it."""


def open_folder(url: str) -> DirFileSystem:
    """The folder at a local path or a URL that fsspec supports; else UsageError."""
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{url} cannot be opened: {error}. Install the package for it.") from error
    return DirFileSystem(path, filesystem)


@contextmanager
def writing(folder: DirFileSystem, name: str) -> Iterator[BinaryIO]:
    """A stream to a new file. The file gets its name if the block ends without an error."""
    parent, file = posixpath.split(name)
    temporary = posixpath.join(parent, f".{file}.partial")
    folder.makedirs(parent, exist_ok=True)
    try:
        with folder.open(temporary, "wb") as stream:
            yield stream
        folder.mv(temporary, name)
    except BaseException:
        with suppress(OSError):
            folder.rm(temporary)
        raise


def find_shards(url: str) -> tuple[DirFileSystem, dict[str, str]]:
    """The folder of a source, and a dict from the name of each shard to its stamp, sorted.

    A Parquet file with the name of a .tar file is not a shard: img2dataset writes metadata there.
    Hidden files and the outputs of earlier scans are skipped.

    Raises:
        UsageError: there is no shard.
    """
    source = open_folder(url)
    if source.isfile("") and posixpath.splitext(source.path)[1] in FORMATS:
        parent, name = posixpath.split(source.path)
        return DirFileSystem(parent, source.fs), {name: stamp_of(source.info(""))}
    files = source.find("", detail=True)
    outputs = {posixpath.dirname(name) for name in files if posixpath.basename(name) == MANIFEST}
    skipped = (".", *(posixpath.join(folder, "") for folder in outputs))
    names = [name for name in files if not name.startswith(skipped) and "/." not in name]
    stems = {
        suffix: {n.removesuffix(suffix) for n in names if n.endswith(suffix)} for suffix in FORMATS
    }
    stems[".parquet"] -= stems[".tar"]
    shards = sorted(stem + suffix for suffix in FORMATS for stem in stems[suffix])
    if not shards:
        if not source.exists(""):
            raise UsageError(f"{url} does not exist. Give a shard or a folder of shards.")
        raise UsageError(
            f"{url} has no .tar or .parquet file to scan. Use segment.py for images, or pack them: "
            "tar --sort=name -cf photos.tar photos/"
        )
    links = (name for name in shards if files[name].get("islink") and source.exists(name))
    files |= {name: source.info(name) for name in links}  # the listing describes the link itself
    return source, {name: stamp_of(files[name]) for name in shards}


def stamp_of(info: dict) -> str:
    """Size, time or version of a file as text. It changes when the file changes."""
    return repr([info["size"], *(str(info[name]) for name in VERSIONS if name in info)])


@dataclass(frozen=True)
class Origin:
    """What a shard says about a sample."""

    keys: list[str | None]  # of its images
    columns: pa.Table  # the source's own columns, a row for each image
    content: object = field(default=None, repr=False)  # what to write if the sample is kept
    problem: str | None = None  # what is wrong with the sample besides its images


Keep = Callable[[Sample, list[bool]], None]  # (sample, which images to keep); writes what is kept


def failed_sample(reason: str, schema: pa.Schema) -> Sample:
    """A sample that stands for the part of a shard that cannot be read."""
    return Sample([ValueError(reason)], Origin([None], pa.Table.from_pylist([{}], schema)))


class BrokenTar(Exception):  # noqa: N818
    """The rest of a .tar file cannot be read."""


class Member(tarfile.TarInfo):
    """A header. If it is cut off or damaged, it raises; tarfile would take it for the end."""

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise BrokenTar(f"damaged or cut off: {error}") from error


class TarShard:
    """A WebDataset. Consecutive files with the same name up to the first dot are one sample."""

    def __init__(self, source: DirFileSystem, name: str):
        self.source, self.name, self.schema = source, name, TEXT_SCHEMA

    def samples(self) -> Iterator[Sample]:
        """All samples; OSError if the source cannot be read."""
        problem, broken = "no image in it", []
        with self.source.open(self.name, "rb") as stream:
            members = self._members(stream, broken)
            for key, sample in groupby(members, key=lambda member: split_key(member[0].name)[0]):
                problem = None
                yield self._sample(valid_text(key), list(sample))
        if broken or problem:
            reason = f"the rest cannot be read: {broken[0]}" if broken else problem
            yield failed_sample(reason, self.schema)

    def _members(self, stream, broken: list) -> Iterator[tuple[tarfile.TarInfo, bytes | Exception]]:
        """Each file with its content or an error. Damage to the archive is added to `broken`."""
        key, left = None, 0
        try:
            with tarfile.open(
                fileobj=stream, mode="r|", tarinfo=Member, bufsize=BUFFER_BYTES
            ) as archive:
                for info in archive:
                    archive.members = []  # else it keeps every header in memory
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
        images, texts, problem = {}, {}, None
        endings = [valid_text(split_key(info.name)[1]) for info, _ in members]
        for ending, (info, data) in zip(endings, members):
            if info.name.lower().endswith(IMAGE_SUFFIXES):
                images[f"{key}.{ending}", len(images)] = data
            elif isinstance(data, Exception):
                problem = f".{ending} {data}"
            elif ending in TEXTS:
                texts[ending] = data.decode("utf-8", "backslashreplace")
        size = sum(len(data) for _, data in members if isinstance(data, bytes))
        keys = [key] if len(images) < 2 else [name for name, _ in images]
        names = ", ".join(f".{ending}" for ending in endings)
        images = [*images.values()] or [ValueError(f"no image, only {names}")]
        columns = pa.Table.from_pylist([texts] * len(images), self.schema)
        return Sample(images, Origin(keys, columns, members, problem), size)

    @contextmanager
    def keeping(self, stream) -> Iterator[Keep]:
        """A function that writes a sample, with all files, if all its images are to be kept."""
        with tarfile.open(fileobj=stream, mode="w|", bufsize=BUFFER_BYTES) as archive:

            def keep(sample: Sample, chosen: list[bool]) -> None:
                for info, data in sample.origin.content or () if all(chosen) else ():
                    whole = tarfile.TarInfo(info.name)  # a sparse member could not be read back
                    whole.size, whole.mtime, whole.mode = len(data), info.mtime, info.mode
                    archive.addfile(whole, io.BytesIO(data))
                archive.members = []  # else it keeps every header in memory

            yield keep


def split_key(name: str) -> tuple[str, str]:
    """Key and ending of a file in a .tar: "a/b.seg.png" is ("a/b", "seg.png")."""
    folder, name = posixpath.split(name)
    stem, _, ending = name.partition(".")
    return posixpath.join(folder, stem), ending


class ParquetShard:
    """A table with a column of images: bytes, or HuggingFace's struct of bytes and path."""

    def __init__(self, source: DirFileSystem, name: str):
        """SourceError if not one column has images; pa.ArrowException if it is not Parquet."""
        self.file = parquet.ParquetFile(source.open(name, "rb"), pre_buffer=False)
        self.whole = self.file.schema_arrow
        self.image = find_image_column(self.whole)
        self.others = [name for name in self.whole.names if name not in (self.image, "key")]
        self.schema = pa.schema([self.whole.field(name) for name in self.others])

    def samples(self) -> Iterator[Sample]:
        """All rows, a few in a sample; OSError or pa.ArrowException if the file is damaged."""
        first = 0
        for batch in self.file.iter_batches(CHUNK_IMAGES):
            table = pa.Table.from_batches([batch])
            keys = [f"{first + row:09}" for row in range(len(table))]
            if "key" in self.whole.names:
                named = table["key"].to_pylist()
                keys = [k if key is None else valid_text(str(key)) for k, key in zip(keys, named)]
            images = [image_bytes(value) for value in table[self.image].to_pylist()]
            yield Sample(images, Origin(keys, table.select(self.others), table), table.nbytes)
            first += len(table)
        if not first:
            yield failed_sample("no image in it", self.schema)

    @contextmanager
    def keeping(self, stream) -> Iterator[Keep]:
        """A function that writes the rows to keep, with all their columns."""
        waiting = [self.whole.empty_table()]

        def keep(sample: Sample, chosen: list[bool]) -> None:
            if sample.origin.content is not None:
                waiting.append(sample.origin.content.filter(pa.array(chosen)))
            if sum(table.nbytes for table in waiting) >= FLUSH_BYTES:
                flush()

        def flush() -> None:
            writer.write_table(pa.concat_tables(waiting))
            waiting[:] = [self.whole.empty_table()]  # the last flush may have no rows

        with parquet.ParquetWriter(stream, self.whole) as writer:
            yield keep
            flush()


def find_image_column(schema: pa.Schema) -> str:
    """The column with a known name, or the only one with bytes; else SourceError."""
    binary = [field.name for field in schema if _holds_bytes(field.type)]
    known = [name for name in IMAGE_COLUMNS if name in binary]
    if known or len(binary) == 1:
        return (known or binary)[0]
    columns = ", ".join(f"{f.name} ({f.type})" for f in schema) or "none"
    raise SourceError(
        f"has {len(binary)} columns of bytes, among {columns}. Name the column with the images "
        f"(bytes, or a struct with bytes and path) {IMAGE_COLUMNS[0]}."
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def image_bytes(value) -> bytes | Exception:
    """The image file in a cell of an image column, or an error if the cell has none."""
    if isinstance(value, dict):
        path, value = value.get("path"), value["bytes"]
        if value is None and path:
            return ValueError(f"no bytes, only the path {path}")
    return ValueError("no bytes") if value is None else value


FORMATS = {".tar": TarShard, ".parquet": ParquetShard}
