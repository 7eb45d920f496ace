"""Work side by side: the same results in the same order, torch's threads given back, and a value made once."""

import threading
import time

import pytest
import torch

from planprobe.instruments.probes.workers import MAX_WORKERS, once, work_side_by_side


@pytest.fixture(autouse=True)
def threads():
    """Four of torch's threads in these tests, whatever the machine; as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_threads_are_shared_out():
    def slow_start(number):
        time.sleep(0.05 if number == 0 else 0.0)
        return number, torch.get_num_threads(), threading.get_ident()

    found = list(work_side_by_side(slow_start, range(8)))
    assert [number for number, _, _ in found] == list(range(8))
    assert {inner for _, inner, _ in found} == {4 // MAX_WORKERS}
    assert len({worker for _, _, worker in found}) > 1
    assert torch.get_num_threads() == 4


def test_one_thread_works_where_it_stands():
    torch.set_num_threads(1)
    assert set(work_side_by_side(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}


def test_a_failure_is_raised_and_threads_are_given_back():
    def fail(number):
        if number == 2:
            raise ValueError("the third")
        return number

    with pytest.raises(ValueError, match="the third"):
        list(work_side_by_side(fail, range(100)))
    assert torch.get_num_threads() == 4


def test_results_that_nobody_reads_give_threads_back():
    results = work_side_by_side(lambda number: number, range(1000))
    assert next(results) == 0
    results.close()
    assert torch.get_num_threads() == 4


def test_made_once_whoever_asks():
    made = []

    def make():
        time.sleep(0.02)
        made.append(1)
        return len(made)

    get = once(make)
    assert list(work_side_by_side(lambda _: get(), range(8))) == [1] * 8
