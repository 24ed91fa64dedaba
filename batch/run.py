"""Many images to masks and a report: `segment_files`, which `segment.py` calls.

Each image is decoded, segmented and written by one thread of several, so that files and network
work at the same time. A finished image is noted at once in a journal; what is noted is not done
again, and the report is made of it.
"""

import hashlib
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from batch.command import check_installed
from batch.groups import by_size, consensus_name, find_shared_mark, group_inputs
from batch.inputs import EARLIER, Input, list_inputs
from batch.journal import Journal, locked, stamp_of
from batch.report import (
    COLUMNS,
    PARTIAL,
    WRITERS,
    OutputError,
    measures,
    reason_of,
    report_name,
    write_report,
    write_whole,
)
from inference.folder import SHIPPED_WEIGHTS
from inference.parallel import (
    PIXELS_AT_ONCE,
    Budget,
    Stopped,
    cancelling_pool,
    core_count,
    shared_network,
    unordered,
)
from inference.pictures import (
    encode,
    mask_picture,
    overlay_picture,
    probability_picture,
    soft_mask_picture,
)
from inference.pooling import MIN_IMAGES, SharedMark, describe, predict_together
from inference.reading import open_photo, read_image
from inference.runtime import check_backend, load_segmenter
from inference.segmenter import METHOD, MIN_SCORE, THRESHOLD, Predict, check_limits, decide

COMPARED = 4  # times the memory of an image that is compared with a shared mark
WAITING = 4  # images handed out ahead, per thread


@dataclass(frozen=True)
class Options:
    """How to segment and what to write."""

    weights: str = str(SHIPPED_WEIGHTS)  # folder that `WatermarkSegmenter.save` wrote
    threshold: float = THRESHOLD  # probability of a marked pixel, 0..1
    dilate: int = 0  # widen masks by this radius, px
    min_score: float = MIN_SCORE  # below this score the mask stays empty, 0..1
    together: bool = False  # images of equal size may share a mark: see pooling.py
    soft: bool = False  # masks with a feathered edge instead of 0 and 255 only
    overlay: bool = False  # also NAME.overlay.jpg: the mask in red, at most 2,048 px
    probability: bool = False  # also NAME.probability.png: 16 bit, 0..65535
    rle: bool = False  # also COCO RLE in the report
    report: str = "jsonl"  # a name in report.WRITERS
    workers: int | None = None  # images in work at once; None: one per core
    device: str = "auto"  # "cpu", "cuda", "cuda:1", "mps"; auto: the best there is
    backend: str = "auto"  # a name in BACKENDS; see `inference.load_segmenter`
    overwrite: bool = False  # start afresh instead of going on
    allow_huge: bool = False  # open images above Pillow's limit, 179 megapixels

    def __post_init__(self):
        check_limits(self.threshold, self.dilate, self.min_score)
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; give 1 or more.")
        if self.report not in WRITERS:
            raise ValueError(f"report is {self.report!r}; use {', '.join(WRITERS)}.")
        check_backend(self.backend)
        for wanted, package in ((self.rle, "pycocotools"), (self.report == "parquet", "pyarrow")):
            if wanted:
                check_installed(package)

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
        chosen = (self.threshold, self.dilate, self.min_score, self.rle, self.soft, METHOD)
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

    @property
    def failed(self) -> list[dict]:
        return [record for record in self.records if record["error"] is not None]

    @property
    def groups(self) -> list[str]:
        """A line on each group of images of equal size that decided together."""
        confidences = defaultdict(list)
        for record in self.records:
            if record.get("shared") is not None:
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
        return "\n".join([*lines, *(f"failed: {r['path']}: {r['error']}" for r in self.failed)])


def segment_files(
    sources, output, options: Options | None = None, segmenter=None, progress: bool = False
) -> Summary:
    """Writes masks and a report for all images of the sources.

    Args:
        sources: paths of images, folders and .txt lists; see `inputs.list_inputs`.
        output: folder to write to. If it holds an unfinished run with the same options, that one
            is finished; images that changed since are done again, failed ones tried again.
        options: what to write and how.
        segmenter: to use instead of `options.weights` on `options.device`.
        progress: draw a progress bar.

    Raises:
        UsageError: a source does not exist, or the folder is in use or holds other files of
            these names; no result is written then.
        FileNotFoundError, ValueError: the weights, device or backend cannot be used.
        OutputError: the output folder takes no more files; what is done stays.
    """
    options, output, start_s = options or Options(), Path(output), time.monotonic()
    passed_over = Counter()
    endings, report = tuple(options.pictures()), report_name(options.report)
    with locked(output), pillow_limit(options.allow_huge):
        inputs = list_inputs(sources, output, endings, passed_over)
        if segmenter is None:
            segmenter = load_segmenter(options.weights, options.device, options.backend)
        journal = Journal(output, options.key(segmenter))
        if options.together:
            inputs = group_inputs(inputs)
        others = [report, *map(consensus_name, by_size(inputs))]
        journal.prepare(inputs, endings, others, options.overwrite)
        done = set(journal.read(inputs))
        with tqdm(total=len(inputs) - len(done), unit="image", disable=not progress) as bar:
            for group, items in group_by_group(inputs, done):
                shared = find_shared_mark_of(group, segmenter, output, options) if group else None
                for _ in run(items, output, segmenter, options, journal, shared):
                    bar.update()
        records = [*journal.read(inputs, all_notes=True).values()]
        write_report(records, output, options.report)
        shutil.rmtree(output / PARTIAL, ignore_errors=True)
    seconds = time.monotonic() - start_s
    return Summary(records, len(done), seconds, output / report, passed_over)


def group_by_group(inputs, done) -> Iterator[tuple[list[Input], list[Input]]]:
    """Groups of equal size with something left to do, and what of them is not in `done`.

    One at a time, since a shared mark takes 21 bytes a pixel. First, as no group, all others.
    """
    groups = by_size(inputs)
    todo = [item for index, item in enumerate(inputs) if index not in done]
    yield [], [item for item in todo if item.size not in groups]
    for size, group in groups.items():
        left = [item for item in todo if item.size == size]
        if left:
            yield group, left


def find_shared_mark_of(group, segmenter, output: Path, options: Options) -> SharedMark | None:
    with shared_network(segmenter, options.workers or core_count()) as predict:
        return find_shared_mark(predict, group, output)


# --- One image ---------------------------------------------------------------------------------


def process(
    item: Input, output: Path, predict: Predict, options: Options, budget,
    shared: SharedMark | None = None,
):  # fmt: skip
    """Writes the outputs of one image.

    Args:
        shared: mark of the image's group.

    Returns:
        Its line of the report, with the reason if it failed, and name to bytes of its outputs.
    """
    start_s, files = time.monotonic(), {}
    try:
        with budget.hold(pixel_count(item) * (1 if shared is None else COMPARED)):
            start_s = time.monotonic()
            rgb = read_image(item.path)
            *found, confidence = predict_together(predict, rgb, shared, item.number)
            found = decide(*found, options.threshold, options.dilate, options.min_score)
            for ending, draw in options.pictures().items():
                data = encode(draw(found, rgb), ending)
                write_whole(data, item.name + ending, output)
                files[item.name + ending] = len(data)
            record = {"path": item.path, "mask": item.name + ".png"}
            record |= measures(found, options.rle)
            if options.together:
                record["shared"] = round(confidence, 4)
    except (OutputError, Stopped):
        raise
    except Exception as error:  # damaged files make Pillow's plugins raise anything
        for ending in options.pictures():  # those of an earlier, sound version of the image too
            with suppress(OSError):
                (output / (item.name + ending)).unlink()
        record, files = failure_of(item, error), {}
    return {**record, "seconds": round(time.monotonic() - start_s, 3)}, files


def failure_of(item: Input, error: Exception) -> dict:
    reason = reason_of(error)
    for path in (item.path, str(Path(item.path))):
        reason = reason.removeprefix(f"{path} ")
    return {**dict.fromkeys(COLUMNS), "path": item.path, "boxes": [], "error": reason}


def pixel_count(item: Input) -> int:
    """Width times height, from the file's header; raises if there is no such image."""
    if item.error:
        raise ValueError(item.error)
    try:
        if not os.path.isfile(item.path):
            os.stat(item.path)  # says why
            raise ValueError("is no file")
        if not os.path.getsize(item.path):
            raise ValueError("is empty")
        with open_photo(item.path) as image:
            return image.width * image.height
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error} --allow-huge opens it all the same.") from error
    except OSError as error:
        raise ValueError(error.strerror or "is not an image that Pillow can read") from error


# --- All images --------------------------------------------------------------------------------


def run(
    todo, output: Path, segmenter, options: Options, journal: Journal, shared: SharedMark | None
) -> Iterator[None]:
    """Segments and notes the images, and yields as often as one is done.

    Args:
        shared: mark of the images' group.
    """
    threads = options.workers or core_count()
    budget = Budget(PIXELS_AT_ONCE)

    def one(item: Input) -> None:
        stamp = stamp_of(item)
        record, files = process(item, output, predict, options, budget, shared)
        journal.add(item, stamp, record, files)

    # One thread more than the network can serve: it decodes or writes meanwhile. The network ends
    # first, so that after an interrupt no thread goes on with its image.
    with cancelling_pool(threads + 1) as pool, shared_network(segmenter, threads) as predict:
        yield from unordered(pool, one, todo, WAITING * threads)


@contextmanager
def pillow_limit(lifted: bool):
    """Pillow's limit on the size of an image, or none."""
    before = Image.MAX_IMAGE_PIXELS
    if lifted:
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
