"""Independent pieces of work side by side: a probe table is hundreds of fits that share nothing but what they read.

Each fit is a long chain of small products. Dividing one product among threads gains little; a fit a thread gains nearly
all. Numbers do not depend on how many there are: every piece runs as it would alone, and results come in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

import torch

MAX_WORKERS = 4  # each holds the features of its own fit

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """function(item) of every item, in order, by as many workers as torch has threads.

    While it runs, torch's threads are shared out among the workers; they are given back at the end, also where a piece
    fails or the results are not read to the end.
    """
    threads = torch.get_num_threads()
    workers = min(threads, MAX_WORKERS)
    if workers < 2:
        yield from map(function, items)
        return
    torch.set_num_threads(threads // workers)  # new threads take over this number
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def once(make: Callable[[], Result]) -> Callable[[], Result]:
    """A function that makes its value when it is first asked for, and once, whoever asks."""
    lock, made = Lock(), []

    def get() -> Result:
        with lock:
            if not made:
                made.append(make())
        return made[0]

    return get
