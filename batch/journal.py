"""What a batch has done, so that it can go on after a stop.

The output folder keeps `.progress.jsonl` with two kinds of notes: which file belongs to which image
(written before any output), and what was found in an image (written once its outputs are whole).
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from batch.inputs import JOURNAL, NOTES, Input, UsageError, input_among
from batch.report import PARTIAL, OutputError, to_json

ADVICE = "Give another output folder, or --overwrite to start afresh."
NOT_OURS = "Give another output folder, or move that file away."


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Makes the output folder, and keeps other runs out of it; UsageError where that fails."""
    lock = FileLock(output / f"{JOURNAL}lock", timeout=0)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(f"Another run is writing to {output}. Wait for its end.") from None
    except OSError as error:
        raise UsageError(
            f"The output folder {output} cannot be written: {error.strerror}."
        ) from error
    try:
        yield
    finally:
        lock.release()


class Journal:
    """The notes in an output folder; read once, then kept in memory, too."""

    def __init__(self, output: Path, key: str):
        """
        Args:
            key: changes with everything that an output depends on, apart from its image.
        """
        self.output, self.key, self.path = output, key, output / NOTES
        self.one_at_a_time = threading.Lock()
        self.keys, self.claimed, self.done = set(), {}, {}
        for note in self._notes():
            self._remember(note)

    def _notes(self) -> Iterator[dict]:
        data = self.path.read_bytes() if self.path.exists() else b""
        for line in data.split(b"\n"):
            try:
                note = json.loads(line)
            except ValueError:  # torn by a kill, or the empty end
                continue
            if isinstance(note, dict) and {"key", "path"} <= set(note):
                yield note

    def _remember(self, note: dict) -> None:
        self.keys.add(note["key"])
        if "claim" in note:
            self.claimed[note["claim"]] = note["path"]
        else:
            self.done[note["path"], note["name"]] = note

    def prepare(self, inputs: list[Input], endings, others: list[str], overwrite: bool) -> None:
        """Notes which files the run will write; UsageError, before that, if one is in use.

        Nothing is deleted that is an input.

        Args:
            others: names of files that belong to no single image, such as the report.
            overwrite: delete what an earlier run has written here; files of others still stay.
        """
        wanted = {i.name + end: os.path.abspath(i.path) for i in inputs for end in endings}
        both = sorted(set(others) & set(wanted))
        if both:
            raise UsageError(f"{both[0]} is the name of two outputs: rename {wanted[both[0]]}.")
        wanted |= dict.fromkeys(others, "")
        for name in wanted:
            if name not in self.claimed and os.path.lexists(self.output / name):
                raise UsageError(f"{self.output} has a {name} that no run wrote. {NOT_OURS}")
        if overwrite:
            path = input_among(inputs, (self.output / name for name in self.claimed))
            if path is not None:
                raise UsageError(
                    f"{path}, an input, is of an earlier run and would be deleted. Give another "
                    "output folder."
                )
        else:
            self._refuse(wanted)
        shutil.rmtree(self.output / PARTIAL, ignore_errors=True)  # of a run that was killed
        (self.output / PARTIAL).mkdir()
        if overwrite:
            for path in [*(self.output / name for name in self.claimed), self.path]:
                path.unlink(missing_ok=True)
            self.keys, self.claimed, self.done = set(), {}, {}
        for name, path in self.claimed.items():
            if not path and name not in wanted:  # an older report; of a group that is no more
                (self.output / name).unlink(missing_ok=True)
        new = [name for name in wanted if name not in self.claimed]
        self._append(*({"claim": name, "path": wanted[name]} for name in new))

    def _refuse(self, wanted: dict) -> None:
        if self.keys - {self.key}:
            raise UsageError(
                f"{self.output} has results of other options, weights, devices or programs. "
                + ADVICE
            )
        for name, path in wanted.items():
            if self.claimed.get(name, path) != path:
                raise UsageError(f"{self.output / name} is of {self.claimed[name]}. {ADVICE}")

    def read(self, inputs: list[Input], all_notes: bool = False) -> dict[int, dict]:
        """Index to record of the inputs that are done, in input order.

        Args:
            all_notes: with those that failed and those that changed since.
        """
        done = {}
        for index, item in enumerate(inputs):
            note = self.done.get((os.path.abspath(item.path), item.name))
            if note and (all_notes or self._still_holds(note, item)):
                done[index] = {**note["record"], "path": item.path}
        return done

    def _still_holds(self, note: dict, item: Input) -> bool:
        whole = all(
            (file_stamp(self.output / name) or [None])[0] == size
            for name, size in note["files"].items()
        )
        return whole and not note["record"]["error"] and note["stamp"] == stamp_of(item)

    def add(self, item: Input, stamp: list | None, record: dict, files: dict[str, int]) -> None:
        """Notes that an image is done; from any thread.

        Args:
            stamp: `stamp_of` the image before it was read.
            files: name to bytes of its outputs.
        """
        note = {"path": os.path.abspath(item.path), "name": item.name}
        self._append({**note, "stamp": stamp, "files": files, "record": record})

    def _append(self, *notes: dict) -> None:
        notes = [{"key": self.key, **note} for note in notes]
        lines = [to_json(note) + b"\n" for note in notes]
        try:
            with self.one_at_a_time, open(self.path, "ab") as file:
                file.write(b"\n" + b"".join(lines))  # a kill may have torn the line before
                for note in notes:
                    self._remember(note)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


def file_stamp(path) -> list[int] | None:
    """[bytes, time of change in ns], which tells whether a file is still the same."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def stamp_of(item: Input) -> list | None:
    """What an image's outputs hold for: its own file and those of its group."""
    stamp = file_stamp(item.path)
    return [*stamp, item.group] if stamp and item.group else stamp
