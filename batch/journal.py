"""What a batch has done, so that it can go on after a stop.

The output folder keeps `.progress.jsonl`, a line for each finished image: the size and time of its
file, the hashes of its outputs, its line of the report. The line comes first, then the outputs: one
that is missing is made again, and one with another hash was changed by somebody else and stays.
"""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from batch.files import OutputError, UsageError, digest_at, digest_of, write_whole
from batch.inputs import NOTES, Input
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
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else ():
            try:
                self._remember(json.loads(line))
            except (AttributeError, KeyError, TypeError, ValueError):
                continue  # torn by a kill, the empty end, or no note

    def _forget(self) -> None:
        self.keys, self.owners, self.done = set(), {}, {}
        self.digests = defaultdict(set)  # name to those of all that was written under it

    def _remember(self, note: dict) -> None:
        """Whoever wrote a note: it is of no file outside the folder."""
        files = {name: d for name, d in note["files"].items() if self._lies_inside(name)}
        told = {"stamp": note["stamp"], "record": note["record"], "files": files}
        self.done[note["path"], note["name"]] = told
        self.keys.add(note["key"])
        for name, digest in files.items():
            self.owners[name] = note["path"]
            self.digests[name].add(digest)

    def _lies_inside(self, name: str) -> bool:
        """Whether a name is of a file in the output folder, also once links are followed."""
        folder, file = os.path.split(name)
        if folder not in self.folders:
            inside = (self.output / folder).resolve().is_relative_to(self.output.resolve())
            self.folders[folder] = inside
        return file not in ("", ".", "..") and self.folders[folder]

    def prepare(self, inputs: list[Input], endings, others: list[str], overwrite: bool) -> None:
        """UsageError if a file that the run will write is in use; nothing has changed then.

        Args:
            others: names of files that belong to no single image.
            overwrite: delete what an earlier run has written here; files of others still stay.
        """
        wanted = {i.name + end: os.path.abspath(i.path) for i in inputs for end in endings}
        both = sorted(set(others) & set(wanted))
        if both:
            raise UsageError(f"{both[0]} is the name of two outputs: rename {wanted[both[0]]}.")
        wanted |= dict.fromkeys(others, "")
        for name in wanted:
            if not self._lies_inside(name):
                raise UsageError(f"{self.output / name} is outside, where a link leads. {NOT_OURS}")
            if name not in self.owners and os.path.lexists(self.output / name):
                raise UsageError(
                    f"{self.output} has a file {name} that segment.py did not write. {NOT_OURS}"
                )
        if overwrite:
            self._start_afresh(inputs, wanted)
        if self.keys - {self.key}:
            raise UsageError(
                f"{self.output} has results of other options, weights, devices or programs. "
                + ADVICE
            )
        for name, path in wanted.items():
            if self.owners.get(name, path) != path:
                raise UsageError(f"{self.output / name} is of {self.owners[name]}. {ADVICE}")
        for path in self.output.glob(".progress.*.partial"):  # of a run that was killed
            path.unlink()
        self.remove(n for n, path in self.owners.items() if not path and n not in wanted)

    def _start_afresh(self, inputs: list[Input], wanted: dict) -> None:
        ours = {os.path.realpath(self.output / name) for name in self.owners}
        for item in inputs:
            if os.path.realpath(item.path) in ours:
                raise UsageError(
                    f"{item.path}, an input, is of an earlier run and would be deleted. Give "
                    "another output folder."
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

    def find(self, path: str, name: str) -> dict | None:
        """What was noted last of an image, also if that no longer holds."""
        return self.done.get((path and os.path.abspath(path), name))

    def record_of(self, item: Input, stamp: list | None) -> dict | None:
        """The record of an image that is done; None if it is not, or has changed since."""
        note = self.find(item.path, item.name)
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
        self, path: str, name: str, files: dict[str, bytes], stamp=None, record: dict | None = None
    ) -> None:
        """Notes that an image is done, and writes its outputs; from any thread.

        Args:
            path: of the image; "" for files of the whole run, which is worth nothing without them.
            files: name to content; one that was changed by somebody else stays. What an earlier
                note has of the image beside these is deleted.
            stamp: of the image before it was read.

        Raises:
            OutputError, OSError: see `files.write_whole`.
        """
        before, kept = self.find(path, name), {n for n in files if self._is_changed(n)}
        self.remove(set(before["files"] if before else ()) - set(files))
        self._append(
            {"key": self.key, "path": path and os.path.abspath(path), "name": name, "stamp": stamp,
             "files": {n: digest_of(data) for n, data in files.items()}, "record": record}
        )  # fmt: skip
        for file, data in files.items():
            if file not in kept:
                write_whole(data, file, self.output, needed=not path)
        self.changed |= kept

    def _append(self, note: dict) -> None:
        try:
            with self.lock, open(self.path, "ab") as file:
                file.write(b"\n" + to_json(note) + b"\n")  # a kill may have torn the line before
                self._remember(note)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error
