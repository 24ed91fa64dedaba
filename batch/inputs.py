"""Finds the images and clips to segment and chooses the names of their outputs.

Inputs are images, folders and .txt lists of paths. An output has the relative path of its image, so
the folder of masks mirrors the folder of photos. No two outputs share a name.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from batch.files import PROGRESS, UsageError
from inference.clips import VIDEO_SUFFIXES, is_clip
from inference.reading import IMAGE_SUFFIXES

SUFFIXES = tuple(sorted({*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}))  # of the files to take from folders
JOURNAL = f"{PROGRESS}jsonl"  # the journal, which marks an output folder
# Path, path relative to its folder (None: the user named the file itself), error
Entry = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Input:
    """One image or clip to segment."""

    path: str
    name: str  # of its outputs: relative to the output folder, with "/", without ending
    error: str | None = None  # found before the file is opened
    is_clip: bool = False


def list_inputs(sources, output: Path, endings=(".png",)) -> list[Input]:
    """All images and clips of the sources, in the order of the sources; folders sorted by path.

    The output of an image in a folder has the path relative to that folder. Any other image keeps
    its relative path as given. Paths that are absolute or contain ".." become relative to their
    common parent folder. If two images would get the same output name (upper and lower case count
    as equal), both keep their endings (`a.jpg.png`, `a.png.png`). Names that are still equal get
    a number.

    Args:
        sources: a path or several. In folders, hidden files and the outputs of earlier runs are
            skipped. Links to folders are followed, but each folder is read once. A list is UTF-8
            and has one path in each line, relative to the current folder.
        output: folder of the outputs, in which no inputs are searched.
        endings: of the outputs of each image.

    Raises:
        UsageError: a source does not exist, there is no image, or a list is not text.
    """
    sources = [sources] if isinstance(sources, (str, os.PathLike)) else [*sources]
    if not sources:
        raise UsageError("Got no image, folder or list of paths: give at least one.")
    entries = [entry for source in sources for entry in _expand(os.fspath(source), output)]
    if not entries:
        raise UsageError(
            f"No image in {', '.join(map(str, sources))}. Files must end in "
            f"{', '.join(SUFFIXES)}. Folders with masks of an earlier run are skipped."
        )
    names = _free_names(_relative_paths(entries), endings)
    return [
        Input(path, name, error, os.path.isfile(path) and is_clip(path))
        for (path, _, error), name in zip(entries, names)
    ]


def _expand(source: str, output: Path) -> Iterator[Entry]:
    if os.path.realpath(source) == os.path.realpath(output):
        raise UsageError(f"{output} is both input and output. Give another folder for the masks.")
    if os.path.isdir(source):
        yield from _walk(source, output)
    elif source.lower().endswith(".txt") and os.path.isfile(source):
        for path in _lines_of(source):
            yield from _walk(path, output) if os.path.isdir(path) else [(path, None, None)]
    else:
        try:
            os.lstat(source)
        except OSError as error:
            raise UsageError(
                f"{source} cannot be read: {error.strerror}. Give images, folders, or a .txt file "
                "of paths."
            ) from error
        yield source, None, None


def _lines_of(path: str) -> list[str]:
    try:
        data = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
        if b"\0" in data:
            raise UsageError(f"The list {path} is not UTF-8. Save it as UTF-8.")
        return [os.fsdecode(line) for line in map(bytes.strip, data.split(b"\n")) if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The list {path} cannot be read: {error}.") from error


def _walk(folder: str, output: Path) -> list[Entry]:
    """The images in a folder, sorted. A folder that cannot be read is an entry with an error."""
    root, paths = Path(folder).resolve(), []
    seen = {root, *root.parents, output.resolve()}  # links to parent folders are not followed

    def failed(error: OSError):
        paths.append((error.filename, f"folder cannot be read: {error.strerror}"))

    def is_new(path: Path) -> bool:
        return path not in seen and not seen.add(path)

    for here, folders, files in os.walk(folder, onerror=failed, followlinks=True):
        visible = [name for name in sorted(folders) if not name.startswith(".")]
        folders[:] = [name for name in visible if is_new(Path(here, name).resolve())]
        if JOURNAL in files:  # the folder holds masks of an earlier run
            folders.clear()
            continue
        images = (n for n in files if n.lower().endswith(SUFFIXES) and not n.startswith("."))
        paths += [(os.path.join(here, name), None) for name in images]
    paths.sort(key=lambda item: Path(item[0]).parts)
    return [(path, os.path.relpath(path, folder), error) for path, error in paths]


def _relative_paths(entries: list[Entry]) -> list[PurePosixPath]:
    """The path of each image relative to the output folder, with its own ending."""

    def leads_out(path: str) -> bool:
        return Path(path).is_absolute() or ".." in Path(path).parts

    outside = [os.path.abspath(p) for p, relative, _ in entries if not relative and leads_out(p)]
    try:
        common = os.path.commonpath(map(os.path.dirname, outside)) if outside else ""
    except ValueError:  # the paths are on several drives
        common = None
    paths = []
    for path, relative, _ in entries:
        if not relative and leads_out(path):
            path = os.path.abspath(path)
            relative = os.path.relpath(path, common) if common else os.path.basename(path)
        paths.append(PurePosixPath(Path(relative or path).as_posix()))
    return paths


def _free_names(paths: list[PurePosixPath], endings) -> list[str]:
    """A name without ending for each relative path. Name and ending together are unique."""
    stems = [str(path.with_suffix("")) if path.name else "folder" for path in paths]
    wanted = Counter(stem.lower() for stem in stems)
    used = {str(parent).lower() for path in paths for parent in path.parents}  # names of folders
    names, tries = [], Counter()
    for path, stem in zip(paths, stems):
        stem = str(path) if wanted[stem.lower()] > 1 else stem
        while True:
            tries[stem.lower()] += 1
            number = tries[stem.lower()]
            name = stem if number == 1 else f"{stem}~{number}"
            outputs = {(name + ending).lower() for ending in endings}
            if used.isdisjoint(outputs):
                break
        used |= outputs
        names.append(name)
    return names
