"""What a batch has done, so that it can go on after a stop, and how its processes meet."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from inputs import Input, UsageError
from report import PARTIAL, OutputError, to_json


class Journal:
    """Notes of what is done, one file for each process: `.progress.RANK.jsonl`."""

    def __init__(self, output: Path, key: str, rank: int):
        self.output, self.key, self.path = output, key, output / f".progress.{rank}.jsonl"

    def _paths(self) -> list[Path]:
        return sorted(self.output.glob(".progress.*.jsonl"))

    def prepare(self, inputs: list[Input], endings, overwrite: bool) -> None:
        """Makes the output folder ready, or raises UsageError before anything is written."""
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.output / PARTIAL, ignore_errors=True)  # of a run that was killed
            (self.output / PARTIAL).mkdir()
            if overwrite:
                for path in self._paths():
                    path.unlink()
        except OSError as error:
            raise UsageError(
                f"The output folder {self.output} cannot be written: {error.strerror}."
            ) from error
        advice = "Give another output folder, or --overwrite to start afresh."
        notes = list(self._notes())
        if any(note["key"] != self.key for note in notes):
            raise UsageError(f"{self.output} has results of other options or weights. {advice}")
        names = [item.name + ending for item in inputs for ending in endings]
        found = [name for name in names if os.path.lexists(self.output / name)]
        if found and not notes and not overwrite:
            raise UsageError(f"{self.output} has files of its own, such as {found[0]}. {advice}")

    def _notes(self) -> Iterator[dict]:
        for path in self._paths():
            for line in path.read_bytes().split(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError:  # torn by a kill, or the empty end
                    continue

    def read(self, inputs: list[Input], failed: bool = False) -> dict[int, dict]:
        """Index to record of the inputs that are done, in input order.

        Args:
            failed: with those that failed and those that changed meanwhile.
        """
        notes = sorted((note for note in self._notes() if "name" in note), key=lambda n: n["time"])
        latest = {(note["path"], note["name"]): note for note in notes}
        done = {}
        for index, item in enumerate(inputs):
            note = latest.get((item.path, item.name))
            if note and (failed or self._still_holds(note)):
                done[index] = note["record"]
        return done

    def _still_holds(self, note: dict) -> bool:
        mask = note["record"]["mask"]
        whole = mask is not None and (self.output / mask).is_file()
        return whole and note["stamp"] == file_stamp(note["path"])

    def __enter__(self):
        self.file = open(self.path, "ab", buffering=0)
        self._write(b"\n" + to_json({"key": self.key}))  # a kill may have torn the last line
        return self

    def __exit__(self, *_):
        self.file.close()

    def add(self, item: Input, stamp: list | None, record: dict) -> None:
        note = {"key": self.key, "path": item.path, "name": item.name, "time": time.time_ns()}
        self._write(to_json({**note, "stamp": stamp, "record": record}))

    def _write(self, line: bytes) -> None:
        try:
            self.file.write(line + b"\n")
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


def file_stamp(path: str) -> list[int] | None:
    """[bytes, time of change in ns], which tells whether a file is still the same."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


class Together:
    """The processes of a torchrun; a single process waits for nobody."""

    def __init__(self, processes: int):
        self.joins = processes > 1 and not torch.distributed.is_initialized()
        self.several = processes > 1

    def __enter__(self):
        if self.joins:
            torch.distributed.init_process_group("gloo")
        return self

    def wait(self) -> None:
        if self.several:
            torch.distributed.barrier()

    def __exit__(self, *_):
        if self.joins:
            torch.distributed.destroy_process_group()
