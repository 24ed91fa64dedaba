"""Which shards a source has: .tar and Parquet files, and folders of images in portions."""

import hashlib
import posixpath
from collections import defaultdict
from dataclasses import dataclass

from pyarrow import fs

from batch.files import UsageError
from batch.stores import Store
from inference.reading import IMAGE_SUFFIXES

MANIFEST = "scan.json"  # in an output folder, which is no source
FOLDER_IMAGES = 1000  # of one shard; a larger folder is several
SIDE_SUFFIXES = (".json", ".txt")  # of files beside an image, which tell of it


@dataclass(frozen=True)
class Shard:
    """A part of the source that is worked through by one process and has one file of rows."""

    kind: str  # a name in formats.FORMATS
    source: str  # file or folder, below the source; "" for the source itself
    name: str  # of its outputs, without ending
    stamp: str  # changes with its files
    members: tuple[tuple[str, ...], ...] = ()  # of a folder: names of an image and what tells of it


def list_shards(store: Store) -> list[Shard]:
    """All shards of a source, sorted by name.

    A Parquet file beside a .tar file or folder of the same name only tells of it (img2dataset
    writes such) and is no shard. Hidden files and the outputs of earlier scans are passed over.

    Raises:
        UsageError: there is no such source, no shard in it, or two shards' rows would have the
            same name.
    """
    try:
        info = store.info()
        found = _in_folder(store) if info.type == fs.FileType.Directory else _one_file(store, info)
    except OSError as error:
        raise UsageError(f"{store.url} cannot be listed: {error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"A name in {store.url} is no UTF-8: {error.object!r}. Rename that file, or give its "
            "folder to segment.py."
        ) from error
    if not found:
        raise UsageError(
            f"No shard in {store.url}: looked for .tar and .parquet files, and for images ending "
            f"in {', '.join(IMAGE_SUFFIXES)}."
        )
    names = defaultdict(list)
    for shard in found:
        names[shard.name].append(shard.source)
    for name, sources in names.items():
        if len(sources) > 1:
            raise UsageError(
                f"{' and '.join(source or store.url for source in sources)} would both have the "
                f"rows {name}.parquet. Rename one of {', '.join(filter(None, sources))}."
            )
    return sorted(found, key=lambda shard: shard.name)


def _one_file(store: Store, info: fs.FileInfo) -> list[Shard]:
    if info.type == fs.FileType.NotFound:
        raise UsageError(f"{store.url} does not exist. Give a .tar or .parquet file, or a folder.")
    name = posixpath.basename(store.path)
    shard = _of_file("", name, info)
    if shard is None:
        raise UsageError(f"{store.url} is no shard. Give a .tar or .parquet file, or a folder.")
    return [shard]


def _of_file(source: str, name: str, info: fs.FileInfo) -> Shard | None:
    stem, suffix = posixpath.splitext(name)
    kind = {".tar": "tar", ".parquet": "parquet"}.get(suffix.lower())
    return kind and Shard(kind, source, stem, _stamp([(name, info)]))


def _stamp(files) -> str:
    told = [(name, info.size, info.mtime_ns) for name, info in files]
    return hashlib.sha256(repr(told).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _in_folder(store: Store) -> list[Shard]:
    files = {name: info for name, info in store.files().items() if not _is_hidden(name)}
    outputs = [posixpath.dirname(n) + "/" for n in files if posixpath.basename(n) == MANIFEST]
    if "/" in outputs:
        raise UsageError(f"{store.url} is the output of a scan. Give what was scanned.")
    files = {n: info for n, info in files.items() if not n.startswith(tuple(outputs))}
    folders = _image_folders(files)
    shards = [_of_file(name, name, info) for name, info in files.items()]
    shards = [shard for shard in shards if shard]
    told_of = {*folders, *(shard.name for shard in shards if shard.kind == "tar")}
    shards = [s for s in shards if s.kind == "tar" or s.name not in told_of]
    for folder, members in folders.items():
        shards += _portions(store, folder, members, files)
    return shards


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _image_folders(files) -> dict[str, list[tuple[str, ...]]]:
    """Folder to its images, each with the names of what tells of it."""
    folders = defaultdict(list)
    for path in files:
        folder, name = posixpath.split(path)
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() in IMAGE_SUFFIXES:
            beside = (stem + side for side in SIDE_SUFFIXES)
            beside = [side for side in beside if posixpath.join(folder, side) in files]
            folders[folder].append((name, *beside))
    return folders


def _portions(store: Store, folder: str, members, files) -> list[Shard]:
    stem, shards = folder or posixpath.basename(store.path), []
    for start in range(0, len(members), FOLDER_IMAGES):
        portion = tuple(members[start : start + FOLDER_IMAGES])
        paths = [posixpath.join(folder, name) for names in portion for name in names]
        stamp = _stamp((path, files[path]) for path in paths)
        number = start // FOLDER_IMAGES
        shards.append(Shard("folder", folder, f"{stem}-{number:05}", stamp, portion))
    return shards
