"""What the commands of this package share, `segment.py` and `scan.py`: how they begin and end."""

import sys
from collections.abc import Callable
from importlib.util import find_spec

from batch.report import OutputError


def check_installed(package: str) -> None:
    """Raises ValueError if an optional package is missing."""
    if find_spec(package) is None:
        raise ValueError(f"This needs {package}, which is missing: pip install {package}.")


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
        0 all went well; 1 some images failed, or the output takes no more files; 2 wrong usage;
        130 interrupted.
    """
    try:
        summary = work()
    except OutputError as error:
        print(f"{name}: stopped: {error}. {go_on}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted. {go_on}", file=sys.stderr)
        return 130
    print(summary)
    return 1 if summary.failed else 0
