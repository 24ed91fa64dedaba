"""What a batch has done, so that it can go on after a stop, and how its processes meet.

The output folder keeps `.progress.RANK.jsonl`, one for each process, with two kinds of notes: which
file belongs to which image (written before any output), and what was found in an image (written
once its outputs are whole).
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from batch.inputs import CONSENSUS, JOURNAL, Input, UsageError
from batch.report import PARTIAL, OutputError, to_json

ADVICE = "Give another output folder, or --overwrite to start afresh."


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
    """The notes in an output folder."""

    def __init__(self, output: Path, key: str, rank: int = 0):
        """
        Args:
            key: changes with everything that an output depends on, apart from its image.
            rank: number of this process.
        """
        self.output, self.key, self.path = output, key, output / f"{JOURNAL}{rank}.jsonl"
        self.one_at_a_time = threading.Lock()

    def prepare(self, inputs: list[Input], endings, others: list[str], overwrite: bool) -> None:
        """Notes which files the run will write; UsageError, before that, if one is in use.

        Args:
            others: names of files that belong to no single image, such as the report.
            overwrite: delete what an earlier run has written here, replace files of others.
        """
        notes = [*self._notes()]
        claimed = {note["claim"]: note["path"] for note in notes if "claim" in note}
        wanted = {i.name + end: os.path.abspath(i.path) for i in inputs for end in endings}
        both = sorted(set(others) & set(wanted))
        if both:
            raise UsageError(f"{both[0]} is the name of two outputs: rename {wanted[both[0]]}.")
        wanted |= dict.fromkeys(others, "")
        if not overwrite:
            self._refuse(notes, claimed, wanted)
        shutil.rmtree(self.output / PARTIAL, ignore_errors=True)  # of a run that was killed
        (self.output / PARTIAL).mkdir()
        if overwrite:
            for path in [*(self.output / name for name in claimed), *self._paths()]:
                path.unlink(missing_ok=True)
            claimed = {}
        for name in claimed:
            if name.startswith(CONSENSUS) and not claimed[name] and name not in wanted:
                (self.output / name).unlink(missing_ok=True)  # of a group that is no more
        new = ({"claim": name, "path": wanted[name]} for name in wanted if name not in claimed)
        self._append(*new)

    def _refuse(self, notes: list[dict], claimed: dict, wanted: dict) -> None:
        if any(note["key"] != self.key for note in notes):
            raise UsageError(
                f"{self.output} has results of other options, weights, devices or programs. "
                + ADVICE
            )
        for name, path in wanted.items():
            if name not in claimed and os.path.lexists(self.output / name):
                raise UsageError(f"{self.output} has a {name} that is not of this run. {ADVICE}")
            if claimed.get(name, path) != path:
                raise UsageError(f"{self.output / name} is of {claimed[name]}. {ADVICE}")

    def _paths(self) -> list[Path]:
        return sorted(self.output.glob(f"{JOURNAL}*.jsonl"))

    def _notes(self) -> Iterator[dict]:
        for path in self._paths():
            for line in path.read_bytes().split(b"\n"):
                try:
                    note = json.loads(line)
                except ValueError:  # torn by a kill, or the empty end
                    continue
                if isinstance(note, dict) and {"key", "path"} <= set(note):
                    yield note

    def read(self, inputs: list[Input], all_notes: bool = False) -> dict[int, dict]:
        """Index to record of the inputs that are done, in input order.

        Args:
            all_notes: with those that failed and those that changed since.
        """
        notes = sorted((n for n in self._notes() if "record" in n), key=lambda note: note["time"])
        latest = {(note["path"], note["name"]): note for note in notes}
        done = {}
        for index, item in enumerate(inputs):
            note = latest.get((os.path.abspath(item.path), item.name))
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
        note = {"path": os.path.abspath(item.path), "name": item.name, "time": time.time_ns()}
        self._append({**note, "stamp": stamp, "files": files, "record": record})

    def _append(self, *notes: dict) -> None:
        lines = [to_json({"key": self.key, **note}) + b"\n" for note in notes]
        try:
            with self.one_at_a_time, open(self.path, "ab") as file:
                file.write(b"\n" + b"".join(lines))  # a kill may have torn the line before
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


class Together:
    """The processes of a torchrun; a single process waits for nobody."""

    def __init__(self):
        self.rank = int(os.environ.get("RANK", 0))
        self.processes = int(os.environ.get("WORLD_SIZE", 1))
        self.joins = False
        if self.processes > 1:
            import torch.distributed  # slow to import

            self.distributed = torch.distributed
            self.joins = not self.distributed.is_initialized()

    def __enter__(self):
        if self.joins:  # the others wait for the slowest, however long
            self.distributed.init_process_group("gloo", timeout=timedelta(days=30))
        return self

    def __exit__(self, *_):
        if self.joins:
            self.distributed.destroy_process_group()

    def alone_in(self, output: Path):
        """`locked` for the first process, which acts for all."""
        return locked(output) if self.rank == 0 else nullcontext()

    def from_first(self, function):
        """What the function returns in the first process, for all of them; waits for it."""
        box = [function() if self.rank == 0 else None]
        if self.processes > 1:
            self.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        if self.processes > 1:
            self.distributed.barrier()
