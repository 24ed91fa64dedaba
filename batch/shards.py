"""Shards of a source: which there are, the samples in them, and the chosen ones written again.

Ray Data reads such files, too, but loses a whole shard for one damaged member, and passes over
links, names that begin with "__" and samples without a suffix without a word; here each of them has
a row. A new format is one class and an entry in FORMATS.
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
from batch.look import WINDOW, Sample
from batch.rows import valid_text
from inference.reading import IMAGE_SUFFIXES

MANIFEST = "scan.json"  # in an output folder, which is no source
BUFFER_BYTES = 1 << 23  # of one read, which is a request of its own to an object store
SAMPLE_BYTES = 256_000_000  # of one sample, encoded, that are read
FLUSH_BYTES = 1 << 24  # of kept rows that are collected before they are written
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes", "content")
VERSIONS = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "blob_id")
SIDES = ("json", "txt")  # endings of files beside an image, which tell of it
SIDE_SCHEMA = pa.schema([(side, pa.string()) for side in SIDES])
LINK = "is a link inside the archive: pack the file itself (tar --dereference --hard-dereference)"
TOO_LARGE = f"is beyond the {SAMPLE_BYTES // 10**6} MB of a sample that are read"


class SourceError(ValueError):
    """A shard cannot be read; what is done of it is dropped."""


def open_folder(url: str) -> DirFileSystem:
    """A folder by local path or URL, whatever fsspec opens; UsageError if it does not."""
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{url} cannot be opened: {error}. Install the package for it.") from error
    return DirFileSystem(path, filesystem)


@contextmanager
def writing(folder: DirFileSystem, name: str) -> Iterator[BinaryIO]:
    """A new file that is there, under its name, once the block has ended without an error."""
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
    """The folder of a source, and name to stamp of all shards in it, sorted.

    A Parquet file beside a .tar file of the same name only tells of it (img2dataset writes such)
    and is no shard. Hidden files and the outputs of earlier scans are passed over.

    Raises:
        UsageError: there is no shard.
    """
    source = open_folder(url)
    if source.isfile("") and posixpath.splitext(source.path)[1] in FORMATS:
        parent, name = posixpath.split(source.path)
        return DirFileSystem(parent, source.fs), {name: stamp_of(source.info(""))}
    files = source.find("", detail=True)
    outputs = {posixpath.dirname(name) for name in files if posixpath.basename(name) == MANIFEST}
    hidden = tuple(posixpath.join(folder, "") for folder in outputs)
    names = [name for name in files if not name.startswith((*hidden, ".")) and "/." not in name]
    stems = {
        suffix: {n.removesuffix(suffix) for n in names if n.endswith(suffix)} for suffix in FORMATS
    }
    stems[".parquet"] -= stems[".tar"]
    found = sorted(stem + suffix for suffix in FORMATS for stem in stems[suffix])
    if not found:
        if not source.exists(""):
            raise UsageError(f"{url} does not exist. Give a shard or a folder of shards.")
        raise UsageError(
            f"{url} holds no .tar or .parquet file to scan. Give images to segment.py, or pack "
            "them: tar --sort=name -cf photos.tar photos/"
        )
    links = (name for name in found if files[name].get("islink") and source.exists(name))
    files |= {name: source.info(name) for name in links}  # a listing tells of the link itself
    return source, {name: stamp_of(files[name]) for name in found}


def stamp_of(info: dict) -> str:
    """What a listing tells of a file's content: it tells whether the file is still the same."""
    return repr([info["size"], *(str(info[name]) for name in VERSIONS if name in info)])


@dataclass(frozen=True)
class Origin:
    """What a shard tells of a sample."""

    keys: list[str | None]  # of its images
    told: pa.Table  # the source's own columns, a row for each image
    kept: object = field(default=None, repr=False)  # what is written again of samples to keep
    odd: str | None = None  # what is wrong with the sample beside its images


Keep = Callable[[Sample, list[bool]], None]  # writes a sample of whose images these are to be kept


def lost(reason: str, schema: pa.Schema) -> Sample:
    """In place of samples that cannot be read."""
    return Sample([ValueError(reason)], Origin([None], pa.Table.from_pylist([{}], schema)))


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

    def __init__(self, source: DirFileSystem, name: str):
        self.source, self.name, self.schema = source, name, SIDE_SCHEMA

    def samples(self) -> Iterator[Sample]:
        """Raises OSError if the store fails."""
        problem, broken = "no image in it", []
        with self.source.open(self.name, "rb") as stream:
            members = self._members(stream, broken)
            for key, sample in groupby(members, key=lambda member: split_key(member[0].name)[0]):
                problem = None
                yield self._sample(valid_text(key), list(sample))
        if broken or problem:
            reason = f"the rest cannot be read: {broken[0]}" if broken else problem
            yield lost(reason, self.schema)

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
        images, told, odd = {}, {}, None
        endings = [valid_text(split_key(info.name)[1]) for info, _ in members]
        for ending, (info, data) in zip(endings, members):
            if info.name.lower().endswith(IMAGE_SUFFIXES):
                images[f"{key}.{ending}", len(images)] = data
            elif isinstance(data, Exception):
                odd = f".{ending} {data}"
            elif ending in SIDES:
                told[ending] = data.decode("utf-8", "backslashreplace")
        size = sum(len(data) for _, data in members if isinstance(data, bytes))
        keys = [key] if len(images) < 2 else [name for name, _ in images]
        names = ", ".join(f".{ending}" for ending in endings)
        found = [*images.values()] or [ValueError(f"no image, only {names}")]
        told = pa.Table.from_pylist([told] * len(found), self.schema)
        return Sample(found, Origin(keys, told, members, odd), size)

    @contextmanager
    def keeping(self, stream) -> Iterator[Keep]:
        """Writes the samples of which all images are to be kept, with all their files."""
        with tarfile.open(fileobj=stream, mode="w|", bufsize=BUFFER_BYTES) as archive:

            def keep(sample: Sample, chosen: list[bool]) -> None:
                for info, data in sample.origin.kept or () if all(chosen) else ():
                    whole = tarfile.TarInfo(info.name)  # a sparse one would not read back
                    whole.size, whole.mtime, whole.mode = len(data), info.mtime, info.mode
                    archive.addfile(whole, io.BytesIO(data))
                archive.members = []  # it would remember all of them

            yield keep


def split_key(name: str) -> tuple[str, str]:
    """Key and ending of a file in a .tar: "a/b.seg.png" is ("a/b", "seg.png")."""
    folder, name = posixpath.split(name)
    stem, _, ending = name.partition(".")
    return posixpath.join(folder, stem), ending


class ParquetShard:
    """A table with a column of image files, bytes or HuggingFace's struct of bytes and path."""

    def __init__(self, source: DirFileSystem, name: str):
        """Raises SourceError: no column of images, or several; pa.ArrowException: no Parquet."""
        self.file = parquet.ParquetFile(source.open(name, "rb"), pre_buffer=False)
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
            yield lost("no image in it", self.schema)

    @contextmanager
    def keeping(self, stream) -> Iterator[Keep]:
        """Writes the kept rows with all their columns."""
        waiting = [self.whole.empty_table()]

        def keep(sample: Sample, chosen: list[bool]) -> None:
            if sample.origin.kept is not None:
                waiting.append(sample.origin.kept.filter(pa.array(chosen)))
            if sum(table.nbytes for table in waiting) >= FLUSH_BYTES:
                flush()

        def flush() -> None:
            writer.write_table(pa.concat_tables(waiting))
            waiting[:] = [self.whole.empty_table()]  # may be all that is left for the end

        with parquet.ParquetWriter(stream, self.whole) as writer:
            yield keep
            flush()


def find_image_column(schema: pa.Schema) -> str:
    """The column with images, a known name before the only one with bytes; else SourceError."""
    found = [field.name for field in schema if _holds_bytes(field.type)]
    known = [name for name in IMAGE_COLUMNS if name in found]
    if known or len(found) == 1:
        return (known or found)[0]
    columns = ", ".join(f"{f.name} ({f.type})" for f in schema) or "none"
    raise SourceError(
        f"has {len(found)} columns of bytes, among {columns}. Call the one with the image files, "
        f"bytes or a struct with bytes and path, {IMAGE_COLUMNS[0]}."
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def image_bytes(value) -> bytes | Exception:
    """The image file in a cell of an image column; or why there is none."""
    if isinstance(value, dict):
        path, value = value.get("path"), value["bytes"]
        if value is None and path:
            return ValueError(f"no bytes, only the path {path}")
    return ValueError("no bytes") if value is None else value


FORMATS = {".tar": TarShard, ".parquet": ParquetShard}
