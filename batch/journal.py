"""What a batch has done, so that it can go on after a stop.

The output folder keeps `.progress.jsonl`, a line for each finished image: the size and time of its
file, the hashes of its outputs, its line of the report. The line comes first, then the outputs: one
that is missing is made again, and one with another hash was changed by somebody else and stays.
"""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from batch.files import (
    OutputError,
    UsageError,
    clear_partial,
    digest_at,
    digest_of,
    lies_inside,
    write_whole,
)
from batch.inputs import NOTES, Input, input_among
from batch.rows import to_json

ADVICE = "Give another output folder, or --overwrite to start afresh."
NOT_OURS = "Give another output folder, or move that file away."


class Journal:
    """The notes in an output folder; read once, then kept in memory, too."""

    def __init__(self, output: Path, key: str):
        """
        Args:
            key: changes with everything that an output depends on, apart from its image.
        """
        self.output, self.key, self.path = output, key, output / NOTES
        self.lock, self.folders = threading.Lock(), {}  # name to whether it lies inside
        self.changed = set()  # names of outputs, by somebody else
        self._forget()
        if self.path.is_symlink():
            raise UsageError(f"{self.path} is a link. {NOT_OURS}")
        for note in self._notes():
            self._remember(note)

    def _forget(self) -> None:
        self.keys, self.owners, self.done = set(), {}, {}
        self.digests = defaultdict(set)  # name to those of all that was written under it

    def _notes(self) -> Iterator[dict]:
        data = self.path.read_bytes() if self.path.exists() else b""
        for line in data.split(b"\n"):
            try:
                note = json.loads(line)
            except ValueError:  # torn by a kill, or the empty end
                continue
            if isinstance(note, dict) and {"stamp", "record"} <= set(note):
                kinds = {"key": str, "path": str, "name": str, "files": dict}
                if all(isinstance(note.get(name), kind) for name, kind in kinds.items()):
                    yield note

    def _remember(self, note: dict) -> None:
        """Whoever wrote a note: it is of no file outside the folder."""
        self.keys.add(note["key"])
        note["files"] = {n: d for n, d in note["files"].items() if self._lies_inside(n)}
        for name, digest in note["files"].items():
            self.owners[name] = note["path"]
            self.digests[name].add(digest)
        self.done[note["path"], note["name"]] = note

    def _lies_inside(self, name: str) -> bool:
        folder, file = os.path.split(name)
        if folder not in self.folders:
            self.folders[folder] = lies_inside(self.output, folder)
        return file not in ("", ".", "..") and self.folders[folder]

    def prepare(self, inputs: list[Input], endings, others: list[str], overwrite: bool) -> None:
        """UsageError if a file that the run will write is in use; nothing has changed then.

        Args:
            others: names of files that belong to no single image; the report comes first.
            overwrite: delete what an earlier run has written here; files of others still stay.
        """
        wanted = {i.name + end: os.path.abspath(i.path) for i in inputs for end in endings}
        both = sorted(set(others) & set(wanted))
        if both:
            raise UsageError(f"{both[0]} is the name of two outputs: rename {wanted[both[0]]}.")
        wanted |= dict.fromkeys(others, "")
        self._refuse_files_of_others(wanted)
        if overwrite:
            self._start_afresh(inputs, wanted)
        else:
            self._refuse_other_runs(wanted, others[0])
        clear_partial(self.output)
        self.remove(n for n, path in self.owners.items() if not path and n not in wanted)

    def _refuse_files_of_others(self, wanted: dict) -> None:
        for name in wanted:
            if not self._lies_inside(name):
                raise UsageError(f"{self.output / name} is outside, where a link leads. {NOT_OURS}")
            if name not in self.owners and os.path.lexists(self.output / name):
                raise UsageError(f"{self.output} has a {name} that no run wrote. {NOT_OURS}")

    def _refuse_other_runs(self, wanted: dict, report: str) -> None:
        if self.keys - {self.key}:
            raise UsageError(
                f"{self.output} has results of other options, weights, devices or programs. "
                + ADVICE
            )
        for name, path in wanted.items():
            if self.owners.get(name, path) != path:
                raise UsageError(f"{self.output / name} is of {self.owners[name]}. {ADVICE}")
        if self._is_changed(report):
            raise UsageError(f"{self.output / report} was changed since it was written. {ADVICE}")

    def _start_afresh(self, inputs: list[Input], wanted: dict) -> None:
        path = input_among(inputs, (self.output / name for name in self.owners))
        if path is not None:
            raise UsageError(
                f"{path}, an input, is of an earlier run and would be deleted. Give another "
                "output folder."
            )
        self.remove(name for name in self.owners if name not in wanted)
        for name in wanted:
            (self.output / name).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self._forget()

    def _is_changed(self, name: str) -> bool:
        """Whether a file is there that no run wrote so."""
        digest = digest_at(self.output / name)
        return digest is not None and digest not in self.digests.get(name, ())

    def remove(self, names: Iterable[str]) -> None:
        """Deletes outputs, apart from those that somebody changed."""
        for name in names:
            if not self._is_changed(name):
                (self.output / name).unlink(missing_ok=True)

    def find(self, item: Input) -> dict | None:
        """What was noted last of an image, also if that no longer holds."""
        return self.done.get((os.path.abspath(item.path), item.name))

    def record_of(self, item: Input, stamp: list | None) -> dict | None:
        """The record of an image that is done; None if it is not, or has changed since."""
        note = self.find(item)
        if not note or note["record"]["error"] or note["stamp"] != stamp:
            return None
        for name, digest in note["files"].items():
            found = digest_at(self.output / name)
            if found is None or (found != digest and found in self.digests[name]):
                return None
            if found != digest:
                self.changed.add(name)
        return {**note["record"], "path": item.path}

    def add(
        self, path: str, name: str, stamp: list | None, record: dict | None, files: dict[str, bytes]
    ) -> None:
        """Notes that an image is done, and writes its outputs; from any thread.

        Args:
            path: of the image; "" for files of the whole run, which is worth nothing without them.
            stamp: of the image before it was read.
            files: name to content; one that was changed by somebody else stays.

        Raises:
            OutputError, OSError: see `files.write_whole`.
        """
        kept = {name for name in files if self._is_changed(name)}
        digests = {name: digest_of(data) for name, data in files.items()}
        self._append(
            {"path": path and os.path.abspath(path), "name": name, "stamp": stamp,
             "files": digests, "record": record}
        )  # fmt: skip
        for file, data in files.items():
            if file not in kept:
                write_whole(data, file, self.output, needed=not path)
        self.changed |= kept

    def _append(self, note: dict) -> None:
        note = {"key": self.key, **note}
        try:
            with self.lock, open(self.path, "ab") as file:
                file.write(b"\n" + to_json(note) + b"\n")  # a kill may have torn the line before
                self._remember(note)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error
