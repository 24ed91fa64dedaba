"""Threads that share one network and keep within limits of memory.

On the CPU each thread runs the network on one core, on one view at a time. This is faster than all
cores on one view, and the result does not depend on the number of cores.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager

from inference.segmenter import Predict, Segmenter

PIXELS_AT_ONCE = 64_000_000  # of all decoded photos; a larger photo is processed alone
VIEW_PIXELS_AT_ONCE = 4_000_000  # of all views in the network, which needs 0.4 GB per million


class Stopped(Exception):  # noqa: N818
    """The run ends early, so the network takes no further view."""


@contextmanager
def shared_network(segmenter: Segmenter, threads: int) -> Iterator[Predict]:
    """A function that runs the network for several threads. It raises Stopped after the context."""
    lock, stopped = threading.Lock(), threading.Event()
    budget = Budget(VIEW_PIXELS_AT_ONCE)

    def one_view(view):
        with budget.hold(view.shape[0] * view.shape[1]):
            return predict_unless_stopped([view])[0]

    def predict_unless_stopped(views):
        if stopped.is_set():
            raise Stopped
        return predict(views)

    def one_by_one(views):
        try:
            return list(pool.map(one_view, views))
        except (CancelledError, RuntimeError):
            if stopped.is_set():  # the pool is shut down
                raise Stopped from None
            raise

    def together(views):
        with lock:
            return predict_unless_stopped(views)

    with segmenter.predicting(threads) as predict, cancelling_pool(threads) as pool:
        try:
            yield one_by_one if segmenter.one_core_each else together
        finally:
            stopped.set()


@contextmanager
def cancelling_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads. At the end of the context, tasks that have not started are cancelled."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(pool, function, items: Iterable, limit: float, weigh: Callable) -> Iterator:
    """The results of function(item), in the order of the items.

    Args:
        limit: of the total weight of the items in work. A heavier item is processed alone.
        weigh: item to its weight.
    """
    waiting, total = deque(), 0
    for item in items:
        weight = weigh(item)
        while waiting and total + weight > limit:
            total -= waiting[0][0]
            yield waiting.popleft()[1].result()
        waiting.append((weight, pool.submit(function, item)))
        total += weight
    while waiting:
        yield waiting.popleft()[1].result()


class Budget:
    """Makes threads wait until their amounts together fit a limit. One alone may exceed it."""

    def __init__(self, limit: int):
        self.limit, self.used, self.changed = limit, 0, threading.Condition()

    @contextmanager
    def hold(self, amount: int):
        with self.changed:
            self.changed.wait_for(lambda: not self.used or self.used + amount <= self.limit)
            self.used += amount
        try:
            yield
        finally:
            with self.changed:
                self.used -= amount
                self.changed.notify_all()
