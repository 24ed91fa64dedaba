"""Threads that share one network keep within limits of memory."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from batch.parallel import Budget, in_order


def test_large_images_wait_for_each_other():
    budget, inside, most = Budget(100), [], []

    def work(amount):
        with budget.hold(amount):
            inside.append(amount)
            most.append(tuple(inside))
            time.sleep(0.005)
            inside.remove(amount)

    threads = [threading.Thread(target=work, args=(n,)) for n in (60, 60, 300, 40, 30, 300, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 7 and budget.used == 0
    assert all(sum(held) <= 100 or len(held) == 1 for held in most)


def test_in_order_bounds_what_is_in_hand():
    waiting, most = [], []

    def weigh(item):
        waiting.append(item)
        most.append(sum(waiting))
        return item

    with ThreadPoolExecutor(2) as pool:
        for item in in_order(pool, lambda item: item, [3, 4, 3, 50, 1], 10, weigh):
            waiting.remove(item)
    assert most == [3, 7, 10, 60, 51]  # includes the item that waits for a place
