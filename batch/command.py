"""What the commands share, `segment.py` and `scan.py`: their options, how they begin and end.

An option is a field of a dataclass; its line there is also its line of the command's help.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib.util import find_spec

from batch.files import UsageError
from inference.folder import SHIPPED_WEIGHTS
from inference.runtime import BACKENDS, check_backend
from inference.segmenter import MIN_SCORE, THRESHOLD, check_limits


def option(default, told: str, kind: type | None = None, **more):
    """A field that is an option of the command line, too.

    Args:
        kind: of its value; None for a switch.
        more: for `add_argument`.
    """
    if kind is None:
        return field(default=default, metadata={"help": told, "action": "store_true"})
    if kind is not str and default is not None:
        told += f" (default: {default})"
    if "choices" not in more:
        more["metavar"] = kind.__name__.upper()
    return field(default=default, metadata={"help": told, "type": kind, **more})


@dataclass(frozen=True)
class LookOptions:
    """How to look for watermarks."""

    weights: str = option(str(SHIPPED_WEIGHTS), "folder of a trained model (the shipped one)", str)
    threshold: float = option(THRESHOLD, "probability from which a pixel is marked, 0..1", float)
    min_score: float = option(MIN_SCORE, "an image with a lower score gets an empty mask", float)
    fast: bool = option(False, "look at each image once: less accurate")
    rle: bool = option(False, "also masks as COCO RLE, in the report or the rows")
    device: str = option("auto", "cpu, cuda, cuda:1, mps (default: the best there is)", str)
    backend: str = option("auto", f"what computes: {', '.join(BACKENDS)}", str, choices=BACKENDS)

    def __post_init__(self):
        check_limits(self.threshold, 0, self.min_score)
        check_backend(self.backend)
        if self.rle:
            check_installed("pycocotools")


def check_installed(package: str) -> None:
    """Raises ValueError if an optional package is missing."""
    if find_spec(package) is None:
        raise ValueError(f"This needs {package}, which is missing: pip install {package}.")


def checked(function: Callable, *arguments):
    """What a function returns; what it raises about the user's arguments as UsageError."""
    try:
        return function(*arguments)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True)
class Summary:
    """What a run did; printed at its end."""

    images: int
    marked: int
    failed: int
    done_before: int  # images that an earlier run had done
    seconds: float
    output: str  # where the report or the rows are
    told: list[str]  # what else is to be said, a line each
    records: list[dict] = field(default_factory=list, repr=False)  # of `segment_files`, all images

    def __str__(self) -> str:
        before = f" ({self.done_before} of them from earlier runs)" if self.done_before else ""
        line = f"{self.images} images{before}, {self.marked} marked, {self.failed} failed"
        rate = (self.images - self.done_before) / max(self.seconds, 1e-9)
        return "\n".join([f"{line}; {rate:.2f} images/s. {self.output}", *self.told])


def parse(doc: str, kind: type[LookOptions], source: dict, arguments) -> tuple:
    """Source, output and options of a command line.

    Args:
        doc: of the command.
        kind: of the options.
        source: how `argparse` is to take the source.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    parser.add_argument("source", **source)
    parser.add_argument("--output", required=True, metavar="DIR", help="where results go")
    for one in fields(kind):
        parser.add_argument("--" + one.name.replace("_", "-"), **one.metadata)
    given = vars(parser.parse_intermixed_args(arguments))
    source, output = given.pop("source"), given.pop("output")
    try:
        return source, output, kind(**given)
    except ValueError as error:
        parser.error(str(error))


def run_command(name: str, work: Callable[[], Summary]) -> int:
    """Prints what a run did, or in one sentence why it ended; returns the exit status.

    Returns:
        0 all went well; 1 something failed, or the output takes no more files; 2 wrong usage;
        130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files may be no UTF-8
        stream.reconfigure(errors="backslashreplace")
    go_on = "What is done stays: the same command (without --overwrite) goes on."
    try:
        summary = work()
    except UsageError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:  # an OutputError, too
        print(f"{name}: stopped: {error}. {go_on}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted. {go_on}", file=sys.stderr)
        return 130
    print(summary)
    return 1 if summary.failed else 0
