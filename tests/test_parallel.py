"""Threads that share one network: bounded memory, an end in time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from batch.parallel import Budget, Stopped, in_order, shared_network


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


def test_no_view_is_looked_at_after_the_end(tiny_model, monkeypatch):
    view = np.zeros((32, 32, 3), np.uint8)
    with shared_network(tiny_model, 2) as predict:
        (probability, score), _ = predict([view, view])
        assert probability.shape == (32, 32) and 0 < score < 1
        answers, began = [], threading.Event()

        def slow(image):
            began.set()
            time.sleep(0.05)
            return torch.zeros(1, 1, *image.shape[2:]), torch.zeros(1)

        monkeypatch.setattr(tiny_model.network, "forward", slow)

        def ask():
            try:
                answers.append(predict([view] * 100))
            except Stopped as error:
                answers.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert began.wait(timeout=10)
    thread.join(timeout=2)
    assert not thread.is_alive() and isinstance(answers[0], Stopped)


def test_in_order_keeps_the_order_and_hands_out_few_items_ahead():
    handed_out = []

    def items():
        for item in range(20):
            handed_out.append(item)
            yield item

    def slower_first(item):
        time.sleep(0.002 * (20 - item))
        return item * 2

    with ThreadPoolExecutor(4) as pool:
        results = in_order(pool, slower_first, items(), limit=5)
        assert next(results) == 0 and len(handed_out) <= 6
        assert list(results) == [item * 2 for item in range(1, 20)]


def test_in_order_bounds_what_is_in_hand():
    waiting, most = [], []

    def weigh(item):
        waiting.append(item)
        most.append(sum(waiting))
        return item

    with ThreadPoolExecutor(2) as pool:
        for item in in_order(pool, lambda item: item, [3, 4, 3, 50, 1], 10, weigh):
            waiting.remove(item)
    assert most == [3, 7, 10, 60, 51]  # with the one that waits to be handed out


@pytest.mark.parametrize("ahead", [1, 50])
def test_in_order_raises_what_the_function_raises(ahead):
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(in_order(pool, lambda item: 1 / item, [1, 0, 2], ahead))
