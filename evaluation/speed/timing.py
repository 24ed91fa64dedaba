"""Measuring: rates taken by turns, memory of processes, and the machine they were taken on."""

import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import cv2
import torch

from inference.parallel import core_count


def machine() -> dict[str, str]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo")  # of Linux: "name : value", one core after the other
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    about = {name.strip(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    flags = [f for f in about.get("flags", "").split() if f.startswith(("avx2", "avx512", "amx"))]
    return {
        "cpu": about.get("model name") or platform.processor() or platform.machine(),
        "flags": " ".join(flags),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": f"{core_count()} cores, torch {torch.get_num_threads()}, "
        f"OpenCV {cv2.getNumThreads()}",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"OpenCV {cv2.__version__}, Lightning {version('pytorch-lightning')}"
        + "".join(f", {name} {version(name)}" for name in ("openvino",) if find_spec(name)),
    }


def rate_per_s(function, items) -> float:
    start = time.perf_counter()
    for item in items:
        function(item)
    return len(items) / (time.perf_counter() - start)


def alternate(tasks: dict[str, Callable[[int], float]], repeats: int) -> dict[str, list[float]]:
    """Name to the rates that a task measured, by turns; every other repeat in reversed order.

    Args:
        tasks: name to a function from the repeat's number to a rate.
    """
    rates = {name: [] for name in tasks}
    for repeat in range(repeats):
        for name in list(tasks)[:: -1 if repeat % 2 else 1]:
            rates[name].append(tasks[name](repeat))
    return rates


def report(rates: dict[str, list[float]], baseline: str, unit: str) -> dict[str, tuple]:
    """Name to median rate and median ratio, printed as rows.

    A ratio is of one repeat: what slows the machine for a while slows both of its rates.
    """
    rows = {}
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates[baseline]))
        rows[name] = round(statistics.median(values), 4), round(ratio, 3)
        rate = rows[name][0]
        print(f"{name:26} {rate:9.{2 if rate >= 1 else 4}f} {unit:9} {ratio:7.3f}")
    return rows


def in_fresh_process(function, *arguments):
    """The function's result from a new interpreter, where nothing else has been loaded."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        method = multiprocessing.get_start_method()
        return pool.submit(_start_workers_by, method, function, *arguments).result()


def _start_workers_by(method: str, function, *arguments):
    """Else a spawned process would spawn its workers, where a training forks them."""
    multiprocessing.set_start_method(method, force=True)
    return function(*arguments)


def memory_mb(field: str, pid: int | str = "self") -> float:
    """Memory of a process: VmRSS, resident now, or VmHWM, its peak.

    Not `ru_maxrss`, which a new process inherits from the one that started it.
    """
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        raise FileNotFoundError(f"No {status}, where memory is read: measure it on Linux.")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return round(int(fields[field].split()[0]) / 1024, 1)
