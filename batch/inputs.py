"""Which images and clips to segment, and what their outputs are called.

Inputs are images, folders and .txt lists of paths. An output has its image's relative path, so that
a folder of masks mirrors the folder of photos; no two outputs share a name, and none is an input.
"""

import codecs
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from batch.files import PROGRESS, UsageError
from inference.clips import VIDEO_SUFFIXES, is_clip
from inference.reading import IMAGE_SUFFIXES

SUFFIXES = tuple(sorted({*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}))  # looked for in folders
MAX_NAME_BYTES = 255  # of one file name, on every usual file system
LIST_SUFFIX = ".txt"  # of a list of paths
NOTES = f"{PROGRESS}jsonl"  # what a folder of masks has
EARLIER = "folders with masks of an earlier run"  # among what is passed over
# Path, relative path of its outputs (None: the path goes up or is absolute), error
Found = tuple[str, PurePosixPath | None, str | None]


@dataclass(frozen=True)
class Input:
    """One image or clip to segment."""

    path: str  # as found
    name: str  # of its outputs: path relative to the output folder, with "/", without ending
    error: str | None = None  # known before it is opened
    is_clip: bool = False


def list_inputs(
    sources, output: Path, endings=(".png",), passed_over: Counter | None = None
) -> list[Input]:
    """The images that images, folders and .txt lists name, in that order; folders sorted by path.

    An image in a folder keeps its path below the folder, any other its relative path as given, or,
    where paths are absolute or go up, its path below the folder that all of these share. Two
    images that would get the same output names, case aside, keep their endings too (`a.jpg.png`,
    `a.png.png`); a number tells apart what is still equal.

    Args:
        sources: paths. In folders, hidden files and the outputs of earlier runs are passed over;
            links to folders are followed, each folder is taken once. Relative paths in a list
            start from the current folder or, where nothing is there, from the list's.
        output: folder of the outputs; not searched for inputs.
        endings: of the outputs of each image.
        passed_over: counts the endings of files in folders that are none of an image, and under
            EARLIER the folders that an earlier run wrote to.

    Raises:
        UsageError: a source does not exist, there is no image at all, or an output would replace
            an input.
    """
    others = Counter() if passed_over is None else passed_over
    found = [item for source in sources for item in _expand(os.fspath(source), output, others)]
    if not found:
        raise UsageError(
            f"No image in {', '.join(map(str, sources))}: looked for files ending in "
            f"{', '.join(SUFFIXES)}."
        )
    names = _free_names(_below_common_folder(found), endings)
    inputs = [
        Input(path, name, error, not error and is_clip(path))
        for (path, _, error), name in zip(found, names)
    ]
    _protect(inputs, output, endings)
    return inputs


def _expand(source: str, output: Path, others: Counter) -> Iterator[Found]:
    if os.path.isdir(source):
        if os.path.realpath(source) == os.path.realpath(output):
            raise UsageError(
                f"{output} is both input and output. Give the masks a folder of their own."
            )
        yield from _walk(source, output, others)
    elif source.lower().endswith(LIST_SUFFIX) and os.path.isfile(source):
        yield from _read_list(Path(source), output, others)
    elif os.path.lexists(source):
        yield source, _given_path(source), None
    else:
        raise UsageError(f"{source} does not exist. Give images, folders, or a .txt file of paths.")


def _read_list(path: Path, output: Path, others: Counter) -> Iterator[Found]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The list {path} cannot be read: {error.strerror}.") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's `>`
        data = data.decode("utf-16", "replace").encode()
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            entry = os.fsdecode(line.removesuffix(b"\r"))
        except UnicodeDecodeError as error:  # on Windows; elsewhere any bytes may be a name
            raise UsageError(f"Line {number} of {path} is not UTF-8. Save the list so.") from error
        bare = entry.strip()  # blanks at an end are seldom of the name
        if not bare:
            continue
        if "\0" in entry:
            yield entry, PurePosixPath("line"), "the line holds a NUL; a list is text, UTF-8"
            continue
        here_or_beside = (
            os.path.join(folder, name) for name in (entry, bare) for folder in ("", path.parent)
        )
        found = next(filter(os.path.lexists, here_or_beside), bare)
        if os.path.isdir(found):
            yield from _walk(found, output, others)
        else:
            yield found, _given_path(bare), None


def _given_path(path: str) -> PurePosixPath | None:
    path = Path(path)
    return None if path.is_absolute() or ".." in path.parts else PurePosixPath(path.as_posix())


def _walk(folder: str, output: Path, others: Counter) -> Iterator[Found]:
    """The images below a folder, sorted; a folder that cannot be read is an entry with an error."""
    if os.path.exists(os.path.join(folder, NOTES)):
        raise UsageError(
            f"{folder} holds the masks of an earlier run. Name the photos themselves, or a folder "
            "that they have for themselves."
        )
    real = Path(folder).resolve()
    seen = {real, *real.parents, output.resolve()}  # a link upwards is not followed
    yield from _walk_below(folder, PurePosixPath(), seen, others)


def _walk_below(
    folder: str, relative: PurePosixPath, seen: set[Path], others: Counter
) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        name = relative if relative.name else PurePosixPath(Path(folder).name or "folder")
        yield str(folder), name, f"folder cannot be read: {error.strerror}"
        return
    if any(entry.name == NOTES for entry in entries):
        others[EARLIER] += 1
        return
    for entry in entries:
        below = relative / entry.name
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):
            real = Path(entry.path).resolve()
            if real not in seen:
                seen.add(real)
                yield from _walk_below(entry.path, below, seen, others)
        elif entry.name.lower().endswith(SUFFIXES):
            yield entry.path, below, None
        else:
            others[below.suffix.lower() or "no ending"] += 1


def _below_common_folder(found: list[Found]) -> list[PurePosixPath]:
    """The relative path of each image."""
    outside = [os.path.abspath(path) for path, relative, _ in found if relative is None]
    try:
        common = os.path.commonpath(map(os.path.dirname, outside)) if outside else ""
    except ValueError:  # on several drives
        common = None
    paths = []
    for path, relative, _ in found:
        if relative is None:
            path = os.path.abspath(path)
            name = os.path.relpath(path, common) if common else os.path.basename(path)
            relative = PurePosixPath(Path(name).as_posix())
        paths.append(relative)
    return paths


def _free_names(paths: list[PurePosixPath], endings) -> list[str]:
    """A name for each relative path, such that no name with an ending is taken twice."""
    stems = [str(path.with_suffix("")) for path in paths]
    wanted = Counter(stem.lower() for stem in stems)
    used = {str(parent).lower() for path in paths for parent in path.parents}  # folders
    names, tries = [], Counter()
    for path, stem in zip(paths, stems):
        stem = str(path) if wanted[stem.lower()] > 1 else stem
        while True:
            tries[stem.lower()] += 1
            name = _short_name(stem, tries[stem.lower()], endings)
            outputs = {(name + ending).lower() for ending in endings}
            if used.isdisjoint(outputs):
                break
        used |= outputs
        names.append(name)
    return names


def _short_name(stem: str, number: int, endings) -> str:
    """The stem, from the second on with its number, shortened to what a file system takes."""
    folder, slash, name = stem.rpartition("/")
    tail = "" if number == 1 else f"~{number}"
    while any(len(os.fsencode(name + tail + ending)) > MAX_NAME_BYTES for ending in endings):
        name = name[:-1]
    return folder + slash + name + tail


def _protect(inputs: list[Input], output: Path, endings) -> None:
    outputs = (output / (item.name + ending) for item in inputs for ending in endings)
    path = input_among(inputs, outputs)
    if path is not None:
        raise UsageError(
            f"{path} would be replaced by a mask. Give the masks a folder of their own."
        )


def input_among(inputs: list[Input], files: Iterable[Path]) -> str | None:
    """The path of an input that is one of these files, by whatever path; None if none is."""
    sources = {_identity(item.path): item.path for item in inputs}
    sources.pop(None, None)
    found = (sources.get(_identity(file)) for file in files)
    return next((path for path in found if path is not None), None)


def _identity(path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
