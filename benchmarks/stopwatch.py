"""Timing shared by the benchmarks: seconds of CPU, so that what else the machine does hardly counts.

Contenders alternate, so that a busy moment hits all, and medians are taken.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds_each(contenders: dict[str, Callable[[], object]], *, rounds: int = 7) -> dict[str, float]:
    """Median CPU seconds a call of each contender, over all its threads, after one warm-up call of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(rounds):
        for name, run in contenders.items():
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(part) for name, part in times.items()}


def report(what: str, numbers: dict[str, float], unit: str, promise: str) -> None:
    print(f"\n{what}  (promise: {promise})")
    for name, value in numbers.items():
        print(f"  {name:44s} {value:12,.2f} {unit}")
