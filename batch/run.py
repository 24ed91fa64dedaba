"""Many images to masks and a report: `segment_files`, which `segment.py` calls.

`look.py` opens and looks at the images; here each of them becomes its files and its line. A
finished image is noted at once in a journal; what is noted is not done again.
"""

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from batch.clips import CLIP_COLUMNS, segment_clip
from batch.command import LookOptions, check_installed, checked
from batch.files import OutputError, file_stamp, locked
from batch.inputs import EARLIER, Input, list_inputs
from batch.journal import Journal
from batch.look import Found, Results, Sample, is_out_of_reach, look_at_all
from batch.rows import FOUND, WRITERS, failure, measures
from batch.together import Group, find_groups, improved
from inference.devices import cpu_count
from inference.parallel import shared_network
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

    dilate: int = 0  # widen masks by this radius, px
    together: bool = False  # images of equal size may share a mark: see pooling.py
    frames: int = FRAMES  # of a clip that decide together, 1..MAX_FRAMES
    every: float | None = None  # also a mask for the frame of every so many seconds of a clip
    soft: bool = False  # masks with a feathered edge instead of 0 and 255 only
    overlay: bool = False  # also NAME.overlay.jpg: the mask in red, at most 2,048 px
    probability: bool = False  # also NAME.probability.png: 16 bit, 0..65535
    report: str = "jsonl"  # a name in rows.WRITERS
    workers: int | None = None  # images in work at once; None: one per core
    overwrite: bool = False  # start afresh instead of going on
    allow_huge: bool = False  # open images above Pillow's limit, 179 megapixels

    def __post_init__(self):
        super().__post_init__()
        check_limits(self.threshold, self.dilate, self.min_score)
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; give 1 or more.")
        if not 1 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"frames is {self.frames}; give 1 to {MAX_FRAMES}.")
        if self.every is not None and not self.every > 0:
            raise ValueError(f"every is {self.every} s; give more than 0.")
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

    def key(self, segmenter) -> str:
        """Hash of everything that an output depends on, apart from its image."""
        chosen = (self.threshold, self.dilate, self.min_score, self.fast, self.rle, self.soft)
        chosen += (METHOD, self.frames, self.every)
        chosen += (self.together, sorted(self.pictures()), segmenter.fingerprint())
        return hashlib.sha256(repr(chosen).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Summary:
    """What a run did; printed at its end."""

    records: list[dict] = field(repr=False)  # of all images, in input order; the report's lines
    done_before: int  # images that an earlier run had done
    seconds: float
    report: Path
    passed_over: Counter = field(default_factory=Counter)  # see `list_inputs`
    changed: list[str] = field(default_factory=list)  # outputs that somebody changed; they stay

    @property
    def failed(self) -> list[dict]:
        return [record for record in self.records if record["error"] is not None]

    @property
    def groups(self) -> list[str]:
        """A line on each group of images of equal size that decided together."""
        confidences = defaultdict(list)
        for record in self.records:
            if record.get("shared") is not None and record.get("frames") is None:
                confidences[record["width"], record["height"]].append(record["shared"])
        lines = [describe(*group) for group in confidences.items() if len(group[1]) >= MIN_IMAGES]
        rest = sum(len(values) for values in confidences.values() if len(values) < MIN_IMAGES)
        if rest:
            lines.append(f"{rest} images of other sizes, fewer than {MIN_IMAGES} of each: alone")
        return lines

    @property
    def marked(self) -> int:
        return sum(bool(record["coverage"]) for record in self.records)

    def __str__(self) -> str:
        now = len(self.records) - self.done_before
        line = f"{len(self.records)} images, {self.marked} marked, {len(self.failed)} failed"
        if self.done_before:
            line += f", {self.done_before} of them done before"
        line += f"; {now / max(self.seconds, 1e-9):.2f} images/s. Report: {self.report}"
        lines = [line, *self.groups]
        others = Counter(self.passed_over)
        folders = others.pop(EARLIER, 0)
        if others:
            counts = (f"{count} {ending}" for ending, count in others.most_common())
            lines.append(f"passed over, by their ending no images: {', '.join(counts)}")
        if folders:
            lines.append(f"passed over, {EARLIER}: {folders}; photos in them must be named")
        lines += [f"changed since it was written, left as it is: {n}" for n in self.changed]
        damaged = (record for record in self.records if record.get("damage"))
        lines += [f"damaged: {record['path']}: {record['damage']}" for record in damaged]
        return "\n".join([*lines, *(f"failed: {r['path']}: {r['error']}" for r in self.failed)])


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
    passed_over, report = Counter(), f"report.{options.report}"
    with locked(output):
        inputs = list_inputs(sources, output, tuple(options.pictures()), passed_over)
        if segmenter is None:
            segmenter = checked(load_segmenter, options.weights, options.device, options.backend)
        images = [item for item in inputs if not item.is_clip]
        groups = find_groups(images) if options.together else []
        batch = Batch(output, segmenter, options, groups)
        others = [report, *(group.consensus for group in groups)]
        batch.journal.prepare(inputs, tuple(options.pictures()), others, options.overwrite)
        records = {item: batch.record_of(item) for item in inputs}
        todo = [item for item, record in records.items() if record is None]
        with tqdm(total=len(todo), unit="image", disable=not progress) as bar:
            for item, record in batch.run(todo):
                records[item] = record
                bar.update()
        lines = [*records.values()]
        columns = [*COLUMNS, *(name for name in EXTRA_COLUMNS if any(name in r for r in lines))]
        batch.journal.add("", report, None, None, {report: WRITERS[options.report](lines, columns)})
    seconds, changed = time.monotonic() - start_s, sorted(batch.journal.changed)
    before = len(inputs) - len(todo)
    return Summary(lines, before, seconds, output / report, passed_over, changed)


class Batch:
    """One run of `segment_files`, once it is known what there is to do."""

    def __init__(self, output: Path, segmenter, options: Options, groups: list[Group]):
        self.segmenter, self.options = segmenter, options
        self.threads = options.workers or cpu_count()
        self.journal = Journal(output, options.key(segmenter))
        self.places = {
            item: (group, number) for group in groups for number, item in enumerate(group.items)
        }

    def stamp_of(self, item: Input) -> list | None:
        """What an image's outputs hold for: its own file and those of its group."""
        stamp, (group, _) = file_stamp(item.path), self.places.get(item, (None, 0))
        return [*stamp, group.digest] if stamp and group else stamp

    def record_of(self, item: Input) -> dict | None:
        """Of an image that an earlier run has done."""
        return self.journal.record_of(item, self.stamp_of(item))

    def run(self, todo: list[Input]) -> Iterator[tuple[Input, dict]]:
        """Images and their records, as they get done: first clips, then images of no group.

        Then one group after the other, since a shared mark takes 21 bytes a pixel.
        """
        for item in filter(lambda item: item.is_clip, todo):
            yield item, self.segment_clip(item)
        portions = {None: []}
        for item in filter(lambda item: not item.is_clip, todo):
            group, _ = self.places.get(item, (None, 0))
            portions.setdefault(group and group.size, []).append(item)
        for size, items in portions.items():
            shared = self.find_shared_mark(self.places[items[0]][0]) if size else None
            samples = (self.sample_of(item, shared) for item in items)
            how = self.options.fast, self.options.allow_huge
            yield from look_at_all(samples, self.segmenter, self.threads, self.finish, *how)

    def segment_clip(self, item: Input) -> dict:
        """Writes the outputs of a clip, and notes them; its record."""
        stamp, before = self.stamp_of(item), self.journal.find(item)
        try:
            record, files = segment_clip(item.path, item.name, self.segmenter, self.options)
            self.journal.remove(set(before["files"] if before else ()) - set(files))
            self.journal.add(item.path, item.name, stamp, record, files)
        except OutputError:
            raise
        except (OSError, ValueError) as error:
            return self.failed(item, stamp, error)
        return record

    def sample_of(self, item: Input, shared: SharedMark | None) -> Sample:
        image = ValueError(item.error) if item.error else item.path
        return Sample([image], (item, self.stamp_of(item), shared))

    def find_shared_mark(self, group: Group) -> SharedMark | None:
        """And its mask goes to the output folder."""
        with shared_network(self.segmenter, self.threads) as predict:
            shared = group.find_shared_mark(predict)
        if shared is None:
            self.journal.remove([group.consensus])  # of an earlier run with other images
        else:
            data = encode(mask_bytes(shared.mask), ".png")
            self.journal.add("", group.consensus, None, None, {group.consensus: data})
        return shared

    def finish(self, sample: Sample, results: Results) -> tuple[Input, dict]:
        """Writes the outputs of one image, and notes them; the image and its record."""
        (item, stamp, shared), [found], start_s = sample.origin, results, time.monotonic()
        if isinstance(found, Exception):
            return item, self.failed(item, stamp, found)
        try:
            record, files = self.draw(item, found, shared)
            record["seconds"] = round(found.seconds + time.monotonic() - start_s, 3)
            self.journal.add(item.path, item.name, stamp, record, files)
        except OutputError:
            raise
        except Exception as error:  # of this image alone, such as a file that cannot be replaced
            return item, self.failed(item, stamp, error)
        return item, record

    def draw(self, item: Input, found: Found, shared) -> tuple[dict, dict[str, bytes]]:
        """The record of an image, and name to content of its files."""
        options, (_, number) = self.options, self.places.get(item, (None, 0))
        *answer, confidence = improved(found, shared, number)
        decided = decide(*answer, options.threshold, options.dilate, options.min_score)
        drawn = options.pictures().items()
        files = {item.name + end: encode(draw(decided, found.rgb), end) for end, draw in drawn}
        record = {"path": item.path, "mask": item.name + ".png", **measures(decided, options.rle)}
        if options.together:
            record["shared"] = round(confidence, 4)
        return record, files

    def failed(self, item: Input, stamp: list | None, error: Exception) -> dict:
        """The record of an image that failed; its outputs of an earlier, sound version go."""
        record = {"path": item.path, "mask": None, **failure(error), "seconds": 0.0}
        record["error"] = record["error"].removeprefix(f"{item.path} ")
        before = self.journal.find(item)
        if is_out_of_reach(error) and before and before["files"]:
            reason = GONE.format(record["error"])
            return {**before["record"], "path": item.path, "error": reason}
        self.journal.remove(before["files"] if before else ())
        self.journal.remove(item.name + ending for ending in self.options.pictures())
        self.journal.add(item.path, item.name, stamp, record, {})
        return record
