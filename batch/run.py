"""Segments many images and writes masks and a report: `segment_files`, which `segment.py` calls.

`predict.py` opens the images and runs the network. This module makes the files and the record of
each image. A journal records each finished image at once; the next run skips these images.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from joblib import cpu_count  # respects the CPU affinity and quota of a container
from tqdm import tqdm

from batch.clips import CLIP_COLUMNS, segment_clip
from batch.command import CommonOptions, Summary, check_installed, checked, option
from batch.files import OutputError, file_stamp, locked
from batch.inputs import Input, list_inputs
from batch.journal import Journal
from batch.parallel import shared_network
from batch.predict import Prediction, Results, Sample, is_out_of_reach, predict_samples
from batch.rows import RESULT_COLUMNS, WRITERS, error_columns, result_columns
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

COLUMNS = ("path", "mask", *RESULT_COLUMNS, "seconds")
EXTRA_COLUMNS = ("shared", *CLIP_COLUMNS, "rle")  # left out if no record has them
GONE = "the file cannot be read now ({}); mask and values are those of an earlier run"


@dataclass(frozen=True)
class Options(CommonOptions):
    """How to segment and what to write."""

    dilate: int = option(0, "widen masks by this radius, px", int)
    together: bool = option(False, "search images of equal size for a mark that they share")
    frames: int = option(FRAMES, f"frames of a clip to segment, 1..{MAX_FRAMES}", int)
    every: float | None = option(None, "also write masks of clip frames at this interval, s", float)
    soft: bool = option(False, "write masks with a soft edge instead of 0 and 255 only")
    overlay: bool = option(False, "also write NAME.overlay.jpg: the mask in red, at most 2,048 px")
    probability: bool = option(False, "also write NAME.probability.png: 16 bit, 0..65535")
    report: str = option("jsonl", "format of the report", str, choices=tuple(WRITERS))
    workers: int | None = option(None, "images to process at once (default: one per core)", int)
    overwrite: bool = option(False, "delete the files of earlier runs and start again")
    allow_huge: bool = option(False, "also open images above Pillow's limit, 179 megapixels")

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
        """Ending of each output to the function that draws it from (segmentation, rgb)."""
        pictures = {".png": soft_mask_picture if self.soft else mask_picture}
        if self.overlay:
            pictures[".overlay.jpg"] = overlay_picture
        if self.probability:
            pictures[".probability.png"] = probability_picture
        return pictures

    def draw(self, name: str, result, rgb) -> dict[str, bytes]:
        """The files of an image as a dict from name to content; `name` is without ending."""
        pictures = self.pictures().items()
        return {name + end: encode(draw(result, rgb), end) for end, draw in pictures}

    def key(self, segmenter) -> str:
        """Hash of everything that an output depends on besides its image."""
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
        output: folder to write to. If an earlier run with the same options wrote to it, only new,
            changed and failed images are processed. Outputs that somebody else changed stay.
        options: how to segment and what to write.
        segmenter: used instead of `options.weights` on `options.device`.
        progress: show a progress bar.

    Raises:
        UsageError: a source does not exist, another run uses the output folder, other files have
            the names of outputs, or weights, device or backend cannot be used.
        OutputError: the output folder cannot be written. Finished results stay.
    """
    options, output, start_s = options or Options(), Path(output), time.monotonic()
    report = f"report.{options.report}"
    inputs = list_inputs(sources, output, tuple(options.pictures()))
    if segmenter is None:
        segmenter = checked(load_segmenter, options.weights, options.device, options.backend)
    with locked(output):
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
        records = [*records.values()]
        columns = [*COLUMNS, *(name for name in EXTRA_COLUMNS if any(name in r for r in records))]
        journal.add("", report, {report: WRITERS[options.report](records, columns)})
    return Summary(
        len(records), sum(bool(record["coverage"]) for record in records),
        sum(record["error"] is not None for record in records), len(records) - len(todo),
        time.monotonic() - start_s, f"Report: {output / report}",
        messages_on(records, sorted(journal.changed)), records,
    )  # fmt: skip


def messages_on(records: list[dict], changed: list[str]) -> list[str]:
    """Lines of the summary on shared marks, changed outputs, damaged clips and failed images."""
    confidences = defaultdict(list)
    for record in records:
        if record.get("shared") is not None and record.get("frames") is None:
            confidences[record["width"], record["height"]].append(record["shared"])
    lines = [describe(*group) for group in confidences.items() if len(group[1]) >= MIN_IMAGES]
    rest = sum(len(values) for values in confidences.values() if len(values) < MIN_IMAGES)
    if rest:
        lines.append(
            f"segmented alone, because fewer than {MIN_IMAGES} images have their size: {rest}"
        )
    lines += [f"changed since it was written, not replaced: {name}" for name in changed]
    lines += [f"damaged: {r['path']}: {r['damage']}" for r in records if r.get("damage")]
    return lines + [f"failed: {r['path']}: {r['error']}" for r in records if r["error"] is not None]


class Batch:
    """Segments the images of one run and writes their outputs."""

    def __init__(self, output: Path, segmenter, options: Options, groups: list[Group]):
        self.segmenter, self.options = segmenter, options
        self.threads = options.workers or cpu_count()
        self.journal = Journal(output, options.key(segmenter))
        self.groups = {item: group for group in groups for item in group.items}

    def stamp_of(self, item: Input) -> list | None:
        """Changes with the file of an image and with the files of its group."""
        stamp, group = file_stamp(item.path), self.groups.get(item)
        return [*stamp, group.digest] if stamp and group else stamp

    def run(self, todo: list[Input]) -> Iterator[tuple[Input, dict]]:
        """Each finished image and its record: first clips, then images without a group.

        Groups follow one after the other, because a shared mark needs 21 bytes a pixel in memory.
        """
        by_size = {None: []}
        for item in todo:
            if item.is_clip:
                clip = partial(segment_clip, item.path, item.name, self.segmenter, self.options)
                yield item, self.write(item, self.stamp_of(item), clip)
            else:
                group = self.groups.get(item)
                by_size.setdefault(group and group.size, []).append(item)
        for size, items in by_size.items():
            shared = self.find_shared_mark(self.groups[items[0]]) if size else None
            samples = (self.sample_of(item, shared) for item in items)
            how = self.options.fast, self.options.allow_huge
            yield from predict_samples(samples, self.segmenter, self.threads, self.finish, *how)

    def sample_of(self, item: Input, shared: SharedMark | None) -> Sample:
        image = ValueError(item.error) if item.error else item.path
        return Sample([image], (item, self.stamp_of(item), shared))

    def find_shared_mark(self, group: Group) -> SharedMark | None:
        """Finds the mark that a group shares, and writes its mask to the output folder."""
        with shared_network(self.segmenter, self.threads) as predict:
            shared = group.find_shared_mark(predict)
        files = {group.consensus: encode(mask_bytes(shared.mask), ".png")} if shared else {}
        self.journal.add("", group.consensus, files)
        return shared

    def finish(self, sample: Sample, results: Results) -> tuple[Input, dict]:
        """Writes the outputs of one image; returns the image and its record."""
        (item, stamp, shared), [result] = sample.origin, results
        return item, self.write(item, stamp, partial(self.draw, item, result, shared))

    def write(self, item: Input, stamp: list | None, make: Callable[[], tuple]) -> dict:
        """Writes the outputs of an image; returns its record, also if the image fails.

        Args:
            make: gives the record and the files, or raises.
        """
        try:
            record, files = make()
            self.journal.add(item.path, item.name, files, stamp, record)
            return record
        except OutputError:
            raise
        except Exception as error:  # of this image alone, such as a file that cannot be replaced
            return self.failed(item, stamp, error)

    def draw(
        self, item: Input, result: Prediction | Exception, shared: SharedMark | None
    ) -> tuple[dict, dict[str, bytes]]:
        """The record of an image, and its files as a dict from name to content."""
        if isinstance(result, Exception):
            raise result
        options, start_s = self.options, time.monotonic()
        prediction, confidence = (result.probability, result.score), 0.0
        if shared:
            *prediction, confidence = shared.improve(result.rgb, *prediction)
        decided = decide(*prediction, options.threshold, options.dilate, options.min_score)
        files = options.draw(item.name, decided, result.rgb)
        record = {"path": item.path, "mask": item.name + ".png"}
        record |= result_columns(decided, options.rle)
        if options.together:
            record["shared"] = round(confidence, 4)
        record["seconds"] = round(result.seconds + time.monotonic() - start_s, 3)
        return record, files

    def failed(self, item: Input, stamp: list | None, error: Exception) -> dict:
        """The record of an image that failed. Deletes its outputs of earlier runs.

        If the file cannot be read now, the earlier outputs and values stay.
        """
        record = {"path": item.path, "mask": None, **error_columns(error), "seconds": 0.0}
        record["error"] = record["error"].removeprefix(f"{item.path} ")
        before = self.journal.find(item.path, item.name)
        if is_out_of_reach(error) and before and before["files"]:
            reason = GONE.format(record["error"])
            return {**before["record"], "path": item.path, "error": reason}
        self.journal.add(item.path, item.name, {}, stamp, record)
        return record
