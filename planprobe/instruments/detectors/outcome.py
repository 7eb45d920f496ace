"""From an effect beyond controls to an outcome, alike for every detector with a smallest effect of interest."""

from __future__ import annotations

from planprobe.core.records import Effect, Outcome

LEVEL = 0.05  # of the test, two-sided
MIN_POWER = 0.8  # below it, finding nothing says nothing


def decide(beyond: Effect, *, min_effect: float, power: float, p: float | None = None) -> Outcome:
    """Supported, refuted or inconclusive.

    Supported: the effect beyond controls is as large as wanted, its interval is above zero, and p (default its own) is
    below .05. Refuted: the interval excludes `min_effect`, and the experiment could have seen it (power .8): without
    that, a run in which nothing happened on a handful of levels would refute anything.
    """
    p = beyond.p if p is None else p
    if beyond.value >= min_effect and beyond.low > 0 and (p is None or p < LEVEL):
        return "supported"
    if beyond.high < min_effect and power >= MIN_POWER:
        return "refuted"
    return "inconclusive"
