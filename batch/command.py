"""What the commands `segment.py` and `scan.py` share: options, parsing, the summary, exit status.

Each field of an options dataclass is also an option of the command line.
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


def option(default, help_text: str, kind: type | None = None, **more):
    """A dataclass field that is also an option of the command line.

    Args:
        kind: type of the value; None for a switch.
        more: further arguments of `add_argument`.
    """
    if kind is None:
        return field(default=default, metadata={"help": help_text, "action": "store_true"})
    if kind is not str and default is not None:
        help_text += f" (default: {default})"
    if "choices" not in more:
        more["metavar"] = kind.__name__.upper()
    return field(default=default, metadata={"help": help_text, "type": kind, **more})


@dataclass(frozen=True)
class CommonOptions:
    """How to find watermarks: the options that both commands have."""

    weights: str = option(str(SHIPPED_WEIGHTS), "folder of a trained model (the shipped one)", str)
    threshold: float = option(THRESHOLD, "least probability of a marked pixel, 0..1", float)
    min_score: float = option(MIN_SCORE, "an image with a lower score gets an empty mask", float)
    fast: bool = option(False, "segment one view of each image: faster, less accurate")
    rle: bool = option(False, "also write masks as COCO RLE to the report or the rows")
    device: str = option("auto", "cpu, cuda, cuda:1, mps (default: the best one available)", str)
    backend: str = option("auto", "program that runs the network", str, choices=BACKENDS)

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
    """Calls a function on arguments of the user; its OSError or ValueError becomes UsageError."""
    try:
        return function(*arguments)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True)
class Summary:
    """The result of a run, which the command prints at the end."""

    images: int
    marked: int
    failed: int
    done_before: int  # images that earlier runs finished
    seconds: float
    output: str  # where the report or the rows are
    messages: list[str]  # further lines to print
    records: list[dict] = field(default_factory=list, repr=False)  # of `segment_files`, all images

    def __str__(self) -> str:
        before = f" ({self.done_before} of them from earlier runs)" if self.done_before else ""
        line = f"{self.images} images{before}, {self.marked} marked, {self.failed} failed"
        rate = (self.images - self.done_before) / max(self.seconds, 1e-9)
        return "\n".join([f"{line}; {rate:.2f} images/s. {self.output}", *self.messages])


def parse(doc: str, kind: type[CommonOptions], source: dict, arguments) -> tuple:
    """The source, output folder and options that a command line names.

    Args:
        doc: docstring of the command.
        kind: class of the options.
        source: arguments of `add_argument` for the source.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    parser.add_argument("source", **source)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    for one in fields(kind):
        parser.add_argument("--" + one.name.replace("_", "-"), **one.metadata)
    given = vars(parser.parse_intermixed_args(arguments))
    source, output = given.pop("source"), given.pop("output")
    try:
        return source, output, kind(**given)
    except ValueError as error:
        parser.error(str(error))


def run_command(name: str, work: Callable[[], Summary], except_for: str = "") -> int:
    """Runs a command, prints its summary or one sentence on why it stopped.

    Args:
        except_for: end of the advice to run the same command again.

    Returns:
        The exit status: 0 for success; 1 if an image failed or the output cannot be written; 2 for
        wrong usage; 130 if interrupted.
    """
    for stream in (sys.stdout, sys.stderr):  # file names may not be valid UTF-8
        stream.reconfigure(errors="backslashreplace")
    advice = f"Finished results are kept. To continue, run the same command{except_for}."
    try:
        summary = work()
    except UsageError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:  # includes OutputError
        print(f"{name}: stopped: {error}. {advice}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted. {advice}", file=sys.stderr)
        return 130
    print(summary)
    return 1 if summary.failed else 0
