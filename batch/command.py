"""What the commands of this package share, `segment.py` and `scan.py`: how they begin and end."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from batch.files import UsageError
from inference.folder import SHIPPED_WEIGHTS
from inference.runtime import check_backend
from inference.segmenter import MIN_SCORE, THRESHOLD, check_limits


@dataclass(frozen=True)
class LookOptions:
    """How to look for watermarks."""

    weights: str = str(SHIPPED_WEIGHTS)  # folder that `WatermarkSegmenter.save` wrote
    threshold: float = THRESHOLD  # probability of a marked pixel, 0..1
    min_score: float = MIN_SCORE  # below this score nothing is marked, 0..1
    fast: bool = False  # look at each image once: see `Segmenter.segment`
    rle: bool = False  # also the mask of each image as COCO RLE
    device: str = "auto"  # "cpu", "cuda", "cuda:1", "mps"; auto: the best there is
    backend: str = "auto"  # a name in BACKENDS; see `inference.load_segmenter`

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


def escape_odd_names() -> None:
    """Lets names of files that are no UTF-8 be printed."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")


def run_command(name: str, work: Callable, go_on: str) -> int:
    """Prints what a run did, or in one sentence why it ended; returns the exit status.

    Args:
        name: of the command.
        work: gives the run's summary.
        go_on: how a run that was stopped goes on.

    Returns:
        0 all went well; 1 something failed, or the output takes no more files; 2 wrong usage;
        130 interrupted.
    """
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
