"""Which images to segment, and what their outputs are called.

Inputs are images, folders and .txt lists of paths. An output has its image's relative path, so that
a folder of masks mirrors the folder of photos; no two outputs share a name, and none is an input.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from images import IMAGE_SUFFIXES

MAX_NAME_BYTES = 255  # of one file name, on every usual file system
Found = tuple[str, PurePosixPath, str | None]  # path, path relative to its source, error


class UsageError(ValueError):
    """The call cannot work at all: nothing was written."""


@dataclass(frozen=True)
class Input:
    """One image to segment."""

    path: str  # as found
    name: str  # of its outputs: path relative to the output folder, with "/", without ending
    error: str | None = None  # known before it is opened


def list_inputs(sources, output: Path, endings=(".png",)) -> list[Input]:
    """The images that images, folders and .txt lists name, in that order; folders sorted by path.

    An image in a folder keeps its path below the folder, any other its relative path as given, or
    only its name where that path is absolute or goes up. Two images that would get the same output
    names, case aside, keep their endings too (`a.jpg.png`, `a.png.png`); a number tells apart
    what is still equal.

    Args:
        sources: paths. Hidden files in folders are passed over, links to folders followed unless
            they lead back up; relative paths in a list start from the current folder or, where
            nothing is there, from the list's.
        output: folder of the outputs; not searched for inputs.
        endings: of the outputs of each image.

    Raises:
        UsageError: a source does not exist, there is no image at all, or an output would replace
            an input.
    """
    found = [item for source in sources for item in _expand(os.fspath(source), output)]
    if not found:
        raise UsageError(
            f"No image in {', '.join(map(str, sources))}: looked for files ending in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    wanted = Counter(_stem(relative).lower() for _, relative, _ in found)
    inputs, used = [], set()
    for path, relative, error in found:
        stem = _stem(relative)
        if wanted[stem.lower()] > 1:
            stem = str(relative)
        inputs.append(Input(path, _free_name(stem, endings, used), error))
    _protect([item.path for item in inputs], output, used)
    return inputs


def _stem(relative: PurePosixPath) -> str:
    return str(relative.with_suffix(""))


def _expand(source: str, output: Path) -> Iterator[Found]:
    path = Path(source)
    if path.is_dir():
        if path.resolve() == output.resolve():
            raise UsageError(
                f"{output} is both input and output. Give the masks a folder of their own."
            )
        yield from _walk(path, output)
    elif path.suffix.lower() == ".txt" and path.is_file():
        yield from _read_list(path, output)
    elif os.path.lexists(path):
        yield source, _relative_name(path), None
    else:
        raise UsageError(f"{source} does not exist. Give images, folders, or a .txt file of paths.")


def _read_list(path: Path, output: Path) -> Iterator[Found]:
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # a byte order mark
    for line in text.split(b"\n"):
        entry = Path(os.fsdecode(line.removesuffix(b"\r")))
        if not line.strip() or b"\0" in line:
            continue
        if not entry.is_absolute() and not os.path.lexists(entry):
            beside = path.parent / entry
            entry = beside if os.path.lexists(beside) else entry
        if entry.is_dir():
            yield from _walk(entry, output)
        else:
            yield str(entry), _relative_name(Path(os.fsdecode(line.strip()))), None


def _relative_name(path: Path) -> PurePosixPath:
    plain = not path.is_absolute() and ".." not in path.parts
    return PurePosixPath(path.as_posix() if plain else path.name)


def _walk(folder: Path, output: Path) -> Iterator[Found]:
    """The images below a folder, sorted; a folder that cannot be read is an entry with an error."""
    yield from _walk_below(folder, PurePosixPath(), (folder.resolve(),), output.resolve())


def _walk_below(folder: Path, relative, parents, output: Path) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        name = relative if relative.name else PurePosixPath(folder.name or "folder")
        yield str(folder), name, f"folder cannot be read: {error.strerror}"
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        below = relative / entry.name
        if _is_folder(entry):
            real = Path(entry.path).resolve()
            if real not in parents and real != output:
                yield from _walk_below(Path(entry.path), below, (*parents, real), output)
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield entry.path, below, None


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _free_name(stem: str, endings, used: set[str]) -> str:
    """The stem, shortened to what a file system takes, with a number where names are taken."""
    parent, _, name = stem.rpartition("/")
    number = 1
    while True:
        tail, kept = "" if number == 1 else f"~{number}", name
        while any(len(os.fsencode(kept + tail + ending)) > MAX_NAME_BYTES for ending in endings):
            kept = kept[:-1]
        candidate = f"{parent}/{kept}{tail}" if parent else kept + tail
        names = {(candidate + ending).lower() for ending in endings}
        if names.isdisjoint(used):
            used |= names
            return candidate
        number += 1


def _protect(paths: list[str], output: Path, used: set[str]) -> None:
    """Raises UsageError if some output is the file of an input."""
    folder = os.path.realpath(output) + os.sep
    for path in paths:
        real = os.path.realpath(path)
        if (
            real.startswith(folder)
            and real.removeprefix(folder).replace(os.sep, "/").lower() in used
        ):
            raise UsageError(
                f"{path} would be replaced by a mask. Give the masks a folder of their own."
            )
