"""Threads that share one network, within bounds of memory.

On the CPU the network has a thread per core, each with a view of its own: faster than all cores at
one view, and the same bits whatever the number of cores.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager

from inference.segmenter import Predict, Segmenter

PIXELS_AT_ONCE = 64_000_000  # of photos in work together; a larger one is in work alone
VIEW_PIXELS_AT_ONCE = 4_000_000  # of views in the network together: 0.4 GB for each million


class Stopped(Exception):  # noqa: N818
    """The run ends before its time: no further view is looked at."""


@contextmanager
def shared_network(segmenter: Segmenter, threads: int) -> Iterator[Predict]:
    """The segmenter's answers for several threads; raises Stopped once this is left."""
    lock, stopped = threading.Lock(), threading.Event()
    budget = Budget(VIEW_PIXELS_AT_ONCE)

    def one_view(view):
        with budget.hold(view.shape[0] * view.shape[1]):
            return answer([view])[0]

    def answer(views):
        if stopped.is_set():
            raise Stopped
        return predict(views)

    def one_by_one(views):
        try:
            return list(pool.map(one_view, views))
        except (CancelledError, RuntimeError):
            if stopped.is_set():  # the pool takes no more views
                raise Stopped from None
            raise

    def together(views):
        with lock:
            return answer(views)

    with segmenter.predicting(threads) as predict, cancelling_pool(threads) as pool:
        try:
            yield one_by_one if segmenter.one_core_each else together
        finally:
            stopped.set()


@contextmanager
def cancelling_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that on an error finish what they are at, and nothing more."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(
    pool, function, items: Iterable, limit: float, weigh: Callable = lambda item: 1
) -> Iterator:
    """function(item) of all items, in their order.

    Args:
        limit: what the items weigh that are handed out together; a heavier one is alone.
        weigh: of an item.
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
    """Lets threads in while what they hold together is within a limit, or one alone."""

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
