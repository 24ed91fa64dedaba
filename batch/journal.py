"""Records which images of a batch are done, so that a stopped run can continue.

The journal `.progress.jsonl` in the output folder gets one line for each finished image: size and
time of its file, hashes of its outputs, its record. The line is written before the outputs. On the
next run an image with a missing output is segmented again. An output with another hash was changed
by somebody else and stays.
"""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from batch.files import OutputError, UsageError, digest_at, digest_of, write_whole
from batch.inputs import JOURNAL, Input
from batch.rows import to_json

ADVICE = "Give another output folder, or --overwrite to start again."
NOT_OURS = "Give another output folder, or move that file away."


class Journal:
    """The journal of an output folder; read once and kept in memory."""

    def __init__(self, output: Path, key: str):
        """`key`: hash of everything that an output depends on besides its image."""
        self.output, self.key, self.path = output, key, output / JOURNAL
        self.lock, self.folders = threading.Lock(), {}  # folder name to whether it is inside
        self.changed = set()  # names of outputs that somebody else changed
        self._forget()
        if self.path.is_symlink():
            raise UsageError(f"{self.path} is a link. {NOT_OURS}")
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else ():
            try:
                self._remember(json.loads(line))
            except (AttributeError, KeyError, TypeError, ValueError):
                continue  # cut off by a kill, empty, or not an entry

    def _forget(self) -> None:
        self.keys, self.owners, self.done = set(), {}, {}
        self.digests = defaultdict(set)  # name to the hashes of all that was written under it

    def _remember(self, entry: dict) -> None:
        """Adds an entry. It may be forged, so names outside the output folder are ignored."""
        files = {name: d for name, d in entry["files"].items() if self._lies_inside(name)}
        kept = {"stamp": entry["stamp"], "record": entry["record"], "files": files}
        self.done[entry["path"], entry["name"]] = kept
        self.keys.add(entry["key"])
        for name, digest in files.items():
            self.owners[name] = entry["path"]
            self.digests[name].add(digest)

    def _lies_inside(self, name: str) -> bool:
        """Whether a name stays in the output folder after all links are followed."""
        folder, file = os.path.split(name)
        if folder not in self.folders:
            inside = (self.output / folder).resolve().is_relative_to(self.output.resolve())
            self.folders[folder] = inside
        return file not in ("", ".", "..") and self.folders[folder]

    def prepare(self, inputs: list[Input], endings, others: list[str], overwrite: bool) -> None:
        """Checks the names of all outputs, then deletes what earlier runs left.

        Args:
            endings: of the outputs of each image.
            others: names of outputs that belong to no single image.
            overwrite: delete all that earlier runs wrote here, but no other files.

        Raises:
            UsageError: a file is in the way. Nothing was changed then.
        """
        wanted = {i.name + end: os.path.abspath(i.path) for i in inputs for end in endings}
        both = sorted(set(others) & set(wanted))
        if both:
            raise UsageError(f"{both[0]} is the name of two outputs: rename {wanted[both[0]]}.")
        wanted |= dict.fromkeys(others, "")
        for name in wanted:
            if not self._lies_inside(name):
                raise UsageError(f"{self.output / name} is outside: a link leads there. {NOT_OURS}")
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
                raise UsageError(f"{self.output / name} belongs to {self.owners[name]}. {ADVICE}")
        for path in self.output.glob(".progress.*.partial"):  # left by a killed run
            path.unlink()
        self.remove(n for n, path in self.owners.items() if not path and n not in wanted)

    def _start_afresh(self, inputs: list[Input], wanted: dict) -> None:
        ours = {os.path.realpath(self.output / name) for name in self.owners}
        for item in inputs:
            if os.path.realpath(item.path) in ours:
                raise UsageError(
                    f"The input {item.path} was written by an earlier run and would be deleted. "
                    "Give another output folder."
                )
        self.remove(name for name in self.owners if name not in wanted)
        for name in wanted:
            (self.output / name).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self._forget()

    def _is_changed(self, name: str) -> bool:
        """Whether a file exists whose content was not written by a run."""
        digest = digest_at(self.output / name)
        return digest is not None and digest not in self.digests.get(name, ())

    def remove(self, names: Iterable[str]) -> None:
        """Deletes outputs, except those that somebody else changed."""
        for name in names:
            if not self._is_changed(name):
                (self.output / name).unlink(missing_ok=True)

    def find(self, path: str, name: str) -> dict | None:
        """The latest entry of an image, even if it is out of date."""
        return self.done.get((path and os.path.abspath(path), name))

    def record_of(self, item: Input, stamp: list | None) -> dict | None:
        """The record of a finished image; None if it must be segmented (again)."""
        entry = self.find(item.path, item.name)
        if not entry or entry["record"]["error"] or entry["stamp"] != stamp:
            return None
        for name, digest in entry["files"].items():
            present = digest_at(self.output / name)
            if present is None or (present != digest and present in self.digests[name]):
                return None
            if present != digest:
                self.changed.add(name)
        return {**entry["record"], "path": item.path}

    def add(
        self, path: str, name: str, files: dict[str, bytes], stamp=None, record: dict | None = None
    ) -> None:
        """Adds the entry of a finished image and writes its outputs. Threads may call this.

        Args:
            path: of the image; "" for files of the whole run, without which the run fails.
            files: name to content. Files that somebody else changed are not replaced. Other
                outputs of the image's previous entry are deleted.
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

    def _append(self, entry: dict) -> None:
        try:
            with self.lock, open(self.path, "ab") as file:
                file.write(b"\n" + to_json(entry) + b"\n")  # a kill may have cut the line before
                self._remember(entry)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error
