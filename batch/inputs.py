"""Which images and clips to segment, and what their outputs are called.

Inputs are images, folders and .txt lists of paths. An output has its image's relative path, so that
a folder of masks mirrors the folder of photos; no two outputs share a name.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from batch.files import PROGRESS, UsageError
from inference.clips import VIDEO_SUFFIXES, is_clip
from inference.reading import IMAGE_SUFFIXES

SUFFIXES = tuple(sorted({*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}))  # looked for in folders
NOTES = f"{PROGRESS}jsonl"  # what a folder of masks has
# Path, path below its folder (None: it was named by itself), error
Found = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Input:
    """One image or clip to segment."""

    path: str  # as found
    name: str  # of its outputs: path relative to the output folder, with "/", without ending
    error: str | None = None  # known before it is opened
    is_clip: bool = False


def list_inputs(sources, output: Path, endings=(".png",)) -> list[Input]:
    """The images that images, folders and .txt lists name, in that order; folders sorted by path.

    An image in a folder keeps its path below the folder, any other its relative path as given, or,
    where paths are absolute or go up, its path below the folder that all of these share. Two
    images that would get the same output names, case aside, keep their endings too (`a.jpg.png`,
    `a.png.png`); a number tells apart what is still equal.

    Args:
        sources: a path or several. In folders, hidden files and the outputs of earlier runs are
            passed over; links to folders are followed, each folder is taken once. A list has a
            path in each line, UTF-8; relative ones start from the current folder.
        output: folder of the outputs; not searched for inputs.
        endings: of the outputs of each image.

    Raises:
        UsageError: a source does not exist, there is no image at all, or a list is no text.
    """
    sources = [sources] if isinstance(sources, (str, os.PathLike)) else [*sources]
    if not sources:
        raise UsageError("Got no image, folder or list of paths: give at least one.")
    found = [item for source in sources for item in _expand(os.fspath(source), output)]
    if not found:
        raise UsageError(
            f"No image in {', '.join(map(str, sources))}: looked for files ending in "
            f"{', '.join(SUFFIXES)}, but not among the masks of an earlier run."
        )
    names = _free_names(_relative_paths(found), endings)
    return [
        Input(path, name, error, os.path.isfile(path) and is_clip(path))
        for (path, _, error), name in zip(found, names)
    ]


def _expand(source: str, output: Path) -> Iterator[Found]:
    if os.path.realpath(source) == os.path.realpath(output):
        raise UsageError(
            f"{output} is both input and output. Give the masks a folder of their own."
        )
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
            raise UsageError(f"The list {path} is not UTF-8. Save it so.")
        return [os.fsdecode(line) for line in map(bytes.strip, data.split(b"\n")) if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The list {path} cannot be read: {error}.") from error


def _walk(folder: str, output: Path) -> list[Found]:
    """The images below a folder, sorted; a folder that cannot be read is an entry with an error."""
    root, found = Path(folder).resolve(), []
    seen = {root, *root.parents, output.resolve()}  # a link upwards is not followed

    def failed(error: OSError):
        found.append((error.filename, f"folder cannot be read: {error.strerror}"))

    def is_new(path: Path) -> bool:
        return path not in seen and not seen.add(path)

    for here, folders, files in os.walk(folder, onerror=failed, followlinks=True):
        shown = [name for name in sorted(folders) if not name.startswith(".")]
        folders[:] = [name for name in shown if is_new(Path(here, name).resolve())]
        if NOTES in files:  # masks of an earlier run
            folders.clear()
            continue
        images = (n for n in files if n.lower().endswith(SUFFIXES) and not n.startswith("."))
        found += [(os.path.join(here, name), None) for name in images]
    found.sort(key=lambda item: Path(item[0]).parts)
    return [(path, os.path.relpath(path, folder), error) for path, error in found]


def _relative_paths(found: list[Found]) -> list[PurePosixPath]:
    """Where the outputs of each image go, with its ending."""

    def goes_out(path: str) -> bool:
        return Path(path).is_absolute() or ".." in Path(path).parts

    outside = [os.path.abspath(path) for path, below, _ in found if not below and goes_out(path)]
    try:
        common = os.path.commonpath(map(os.path.dirname, outside)) if outside else ""
    except ValueError:  # on several drives
        common = None
    paths = []
    for path, below, _ in found:
        if not below and goes_out(path):
            path = os.path.abspath(path)
            below = os.path.relpath(path, common) if common else os.path.basename(path)
        paths.append(PurePosixPath(Path(below or path).as_posix()))
    return paths


def _free_names(paths: list[PurePosixPath], endings) -> list[str]:
    """A name for each relative path, such that no name with an ending is taken twice."""
    stems = [str(path.with_suffix("")) if path.name else "folder" for path in paths]
    wanted = Counter(stem.lower() for stem in stems)
    used = {str(parent).lower() for path in paths for parent in path.parents}  # folders
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
