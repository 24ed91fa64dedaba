"""Many images to masks and a report: `segment_files`, which `segment.py` calls.

`look.py` opens and looks at the images; here each of them becomes its files and its line. A
finished image is noted at once in a journal; what is noted is not done again.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from joblib import cpu_count  # within the affinity and quota of a container
from tqdm import tqdm

from batch.clips import CLIP_COLUMNS, segment_clip
from batch.command import LookOptions, Summary, check_installed, checked, option
from batch.files import OutputError, file_stamp, locked
from batch.inputs import Input, list_inputs
from batch.journal import Journal
from batch.look import Found, Results, Sample, is_out_of_reach, look_at_all
from batch.parallel import shared_network
from batch.rows import FOUND, WRITERS, failure, measures
from batch.together import Group, find_groups
from inference.pictures import (
    encode,
    mask_bytes,
    mask_picture,
    overlay_picture,
    probability_picture,
    soft_mask_picture,
)
from inference.pooling import MIN_IMAGES, SharedMark, describe
from inference.runtime import load_segmenter
from inference.segmenter import METHOD, check_limits, decide
from inference.video import FRAMES, MAX_FRAMES

COLUMNS = ("path", "mask", *FOUND, "seconds")
EXTRA_COLUMNS = ("shared", *CLIP_COLUMNS, "rle")  # only where a line has them
GONE = "the file cannot be read now ({}); mask and numbers are those of an earlier run"


@dataclass(frozen=True)
class Options(LookOptions):
    """How to segment and what to write."""

    dilate: int = option(0, "widen masks by this radius, px", int)
    together: bool = option(False, "images of equal size may carry one mark at the same place")
    frames: int = option(FRAMES, f"frames of a clip that decide together, 1..{MAX_FRAMES}", int)
    every: float | None = option(None, "also a mask for a clip's frame of every S seconds", float)
    soft: bool = option(False, "masks with a feathered edge instead of 0 and 255 only")
    overlay: bool = option(False, "also NAME.overlay.jpg: the mask in red, at most 2,048 px")
    probability: bool = option(False, "also NAME.probability.png: 16 bit, 0..65535")
    report: str = option("jsonl", f"its format: {', '.join(WRITERS)}", str, choices=tuple(WRITERS))
    workers: int | None = option(None, "images in work at once (default: one per core)", int)
    overwrite: bool = option(False, "start afresh, deleting an earlier run's files")
    allow_huge: bool = option(False, "open images above Pillow's limit, 179 megapixels")

    def __post_init__(self):
        super().__post_init__()
        check_limits(self.threshold, self.dilate, self.min_score)
        for name in ("workers", "every"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0.")
        if not 1 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"frames is {self.frames}; give 1 to {MAX_FRAMES}.")
        if self.report not in WRITERS:
            raise ValueError(f"report is {self.report!r}; use {', '.join(WRITERS)}.")
        if self.report == "parquet":
            check_installed("pyarrow")

    def pictures(self) -> dict[str, Callable]:
        """Ending of each output to the function of (found, rgb) that draws it."""
        pictures = {".png": soft_mask_picture if self.soft else mask_picture}
        if self.overlay:
            pictures[".overlay.jpg"] = overlay_picture
        if self.probability:
            pictures[".probability.png"] = probability_picture
        return pictures

    def draw(self, name: str, found, rgb) -> dict[str, bytes]:
        """Name to content of an image's files; `name` is without ending."""
        drawn = self.pictures().items()
        return {name + end: encode(draw(found, rgb), end) for end, draw in drawn}

    def key(self, segmenter) -> str:
        """Hash of everything that an output depends on, apart from its image."""
        chosen = (self.threshold, self.dilate, self.min_score, self.fast, self.rle, self.soft)
        chosen += (METHOD, self.frames, self.every)
        chosen += (self.together, sorted(self.pictures()), segmenter.fingerprint())
        return hashlib.sha256(repr(chosen).encode()).hexdigest()[:32]


def segment_files(
    sources, output, options: Options | None = None, segmenter=None, progress: bool = False
) -> Summary:
    """Writes masks and a report for all images of the sources.

    Args:
        sources: paths of images, folders and .txt lists; see `inputs.list_inputs`.
        output: folder to write to. If it holds an unfinished run with the same options, that one
            is finished; images that changed since are done again, failed ones tried again. Outputs
            that somebody changed stay.
        options: what to write and how.
        segmenter: to use instead of `options.weights` on `options.device`.
        progress: draw a progress bar.

    Raises:
        UsageError: a source does not exist, the folder is in use or holds other files of these
            names, or weights, device or backend cannot be used; no result is written then.
        OutputError: the output folder takes no more files; what is done stays.
    """
    options, output, start_s = options or Options(), Path(output), time.monotonic()
    report = f"report.{options.report}"
    with locked(output):
        inputs = list_inputs(sources, output, tuple(options.pictures()))
        if segmenter is None:
            segmenter = checked(load_segmenter, options.weights, options.device, options.backend)
        images = [item for item in inputs if not item.is_clip]
        groups = find_groups(images) if options.together else []
        batch = Batch(output, segmenter, options, groups)
        journal, others = batch.journal, [report, *(group.consensus for group in groups)]
        journal.prepare(inputs, tuple(options.pictures()), others, options.overwrite)
        records = {item: journal.record_of(item, batch.stamp_of(item)) for item in inputs}
        todo = [item for item, record in records.items() if record is None]
        with tqdm(total=len(todo), unit=" images", disable=not progress or not todo) as bar:
            for item, record in batch.run(todo):
                records[item] = record
                bar.update()
        lines = [*records.values()]
        columns = [*COLUMNS, *(name for name in EXTRA_COLUMNS if any(name in r for r in lines))]
        journal.add("", report, {report: WRITERS[options.report](lines, columns)})
    return Summary(
        len(lines), sum(bool(record["coverage"]) for record in lines),
        sum(record["error"] is not None for record in lines), len(lines) - len(todo),
        time.monotonic() - start_s, f"Report: {output / report}",
        told_of(lines, sorted(journal.changed)), lines,
    )  # fmt: skip


def told_of(records: list[dict], changed: list[str]) -> list[str]:
    """Lines on the groups that decided together, on changed outputs, damaged and failed images."""
    confidences = defaultdict(list)
    for record in records:
        if record.get("shared") is not None and record.get("frames") is None:
            confidences[record["width"], record["height"]].append(record["shared"])
    told = [describe(*group) for group in confidences.items() if len(group[1]) >= MIN_IMAGES]
    rest = sum(len(values) for values in confidences.values() if len(values) < MIN_IMAGES)
    if rest:
        told.append(
            f"segmented alone, because fewer than {MIN_IMAGES} images have their size: {rest}"
        )
    told += [f"changed since it was written, left as it is: {name}" for name in changed]
    told += [f"damaged: {r['path']}: {r['damage']}" for r in records if r.get("damage")]
    return told + [f"failed: {r['path']}: {r['error']}" for r in records if r["error"] is not None]


class Batch:
    """One run of `segment_files`, once it is known what there is to do."""

    def __init__(self, output: Path, segmenter, options: Options, groups: list[Group]):
        self.segmenter, self.options = segmenter, options
        self.threads = options.workers or cpu_count()
        self.journal = Journal(output, options.key(segmenter))
        self.groups = {item: group for group in groups for item in group.items}

    def stamp_of(self, item: Input) -> list | None:
        """What an image's outputs hold for: its own file and those of its group."""
        stamp, group = file_stamp(item.path), self.groups.get(item)
        return [*stamp, group.digest] if stamp and group else stamp

    def run(self, todo: list[Input]) -> Iterator[tuple[Input, dict]]:
        """Images and their records, as they get done: first clips, then images of no group.

        Then one group after the other, since a shared mark takes 21 bytes a pixel.
        """
        portions = {None: []}
        for item in todo:
            if item.is_clip:
                how = item.path, item.name, self.segmenter, self.options
                yield item, self.note(item, self.stamp_of(item), partial(segment_clip, *how))
            else:
                group = self.groups.get(item)
                portions.setdefault(group and group.size, []).append(item)
        for size, items in portions.items():
            shared = self.find_shared_mark(self.groups[items[0]]) if size else None
            samples = (self.sample_of(item, shared) for item in items)
            how = self.options.fast, self.options.allow_huge
            yield from look_at_all(samples, self.segmenter, self.threads, self.finish, *how)

    def sample_of(self, item: Input, shared: SharedMark | None) -> Sample:
        image = ValueError(item.error) if item.error else item.path
        return Sample([image], (item, self.stamp_of(item), shared))

    def find_shared_mark(self, group: Group) -> SharedMark | None:
        """And its mask goes to the output folder."""
        with shared_network(self.segmenter, self.threads) as predict:
            shared = group.find_shared_mark(predict)
        files = {group.consensus: encode(mask_bytes(shared.mask), ".png")} if shared else {}
        self.journal.add("", group.consensus, files)
        return shared

    def finish(self, sample: Sample, results: Results) -> tuple[Input, dict]:
        """Writes the outputs of one image, and notes them; the image and its record."""
        (item, stamp, shared), [found] = sample.origin, results
        return item, self.note(item, stamp, partial(self.draw, item, found, shared))

    def note(self, item: Input, stamp: list | None, make: Callable[[], tuple]) -> dict:
        """Writes the files of an image and notes them; its record, also if it fails.

        Args:
            make: gives record and files, or raises.
        """
        try:
            record, files = make()
            self.journal.add(item.path, item.name, files, stamp, record)
            return record
        except OutputError:
            raise
        except Exception as error:  # of this image alone, such as a file that cannot be replaced
            return self.failed(item, stamp, error)

    def draw(self, item: Input, found: Found | Exception, shared) -> tuple[dict, dict[str, bytes]]:
        """The record of an image, and name to content of its files."""
        if isinstance(found, Exception):
            raise found
        options, start_s = self.options, time.monotonic()
        answer, confidence = (found.probability, found.score), 0.0
        if shared:
            *answer, confidence = shared.improve(found.rgb, *answer)
        decided = decide(*answer, options.threshold, options.dilate, options.min_score)
        files = options.draw(item.name, decided, found.rgb)
        record = {"path": item.path, "mask": item.name + ".png", **measures(decided, options.rle)}
        if options.together:
            record["shared"] = round(confidence, 4)
        record["seconds"] = round(found.seconds + time.monotonic() - start_s, 3)
        return record, files

    def failed(self, item: Input, stamp: list | None, error: Exception) -> dict:
        """The record of an image that failed; its outputs of an earlier, sound version go."""
        record = {"path": item.path, "mask": None, **failure(error), "seconds": 0.0}
        record["error"] = record["error"].removeprefix(f"{item.path} ")
        before = self.journal.find(item.path, item.name)
        if is_out_of_reach(error) and before and before["files"]:
            reason = GONE.format(record["error"])
            return {**before["record"], "path": item.path, "error": reason}
        self.journal.add(item.path, item.name, {}, stamp, record)
        return record
