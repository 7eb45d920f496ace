"""Solved or not, level by level: intervals, the paired test, and the power to see a gain.

A bootstrap of 300 solved levels out of 300 gives an interval of width zero; these intervals do not.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.records import Effect

_Z = 1.959963984540054  # of a 95 % interval


def proportion(outcomes: np.ndarray, *, unit: str = "fraction") -> Effect:
    """Share of true outcomes (N,) bool with its 95 % interval. Wilson 1927."""
    num_true, number = _count(outcomes)
    low, high = _wilson(num_true, number)
    return Effect(num_true / number, low, high, number, unit)


def paired_difference(first: np.ndarray, second: np.ndarray, *, unit: str = "fraction") -> Effect:
    """Share of true outcomes in `first` minus that in `second`, (N,) bool each, on the same levels.

    Interval: Newcombe 1998, method 10 (hybrid score), which stays honest near 0 and 1 and without discordant levels.
    p: McNemar's exact test, on the levels where the two differ.
    """
    first, second = np.asarray(first).astype(bool), np.asarray(second).astype(bool)
    if first.shape != second.shape:
        raise ShapeError(f"first {first.shape} and second {second.shape}: need the same levels.")
    (num_first, number), (num_second, _) = _count(first), _count(second)
    share_first, share_second = num_first / number, num_second / number
    low_first, high_first = _wilson(num_first, number)
    low_second, high_second = _wilson(num_second, number)
    correlation = _phi(first, second)
    down, up = share_first - low_first, high_second - share_second
    above, below = high_first - share_first, share_second - low_second
    difference = share_first - share_second
    low = difference - math.sqrt(max(0.0, down**2 - 2 * correlation * down * up + up**2))
    high = difference + math.sqrt(max(0.0, above**2 - 2 * correlation * above * below + below**2))
    p = mcnemar_p(int((first & ~second).sum()), int((second & ~first).sum()))
    return Effect(difference, low, high, number, unit, p)


def mcnemar_p(num_first_only: int, num_second_only: int) -> float:
    """Two-sided exact p that a discordant level favours either side equally; 1 where no level is discordant."""
    fewer, number = min(num_first_only, num_second_only), num_first_only + num_second_only
    return min(1.0, 2 * float(special.bdtr(fewer, number, 0.5)))  # a fair coin is symmetric: twice one tail


def paired_proportion_power(num_levels: int, *, effect: float, discordant_rate: float, alpha: float = 0.05) -> float:
    """Chance that McNemar's exact test sees a true difference of two solve rates on the same levels.

    Exact: over every number of discordant levels and every way they may fall.

    Args:
        effect: true difference, as a fraction (0.02 = 2 percentage points).
        discordant_rate: share of levels whose outcome differs between the conditions, either way; at least |effect|,
            since a gain of 2 points needs 2 % discordant levels, and raised to that where it is less.
    """
    discordant_rate = min(1.0, max(discordant_rate, abs(effect)))
    if num_levels < 1 or discordant_rate == 0:
        return 0.0
    favoured = (1 + abs(effect) / discordant_rate) / 2
    middle, reach = num_levels * discordant_rate, 8 * math.sqrt(num_levels * discordant_rate) + 10
    number = np.arange(max(0, math.floor(middle - reach)), min(num_levels, math.ceil(middle + reach)) + 1)
    chance = _tail(number, num_levels, discordant_rate) - _tail(number - 1, num_levels, discordant_rate)
    few = _largest_rejected(number, alpha)
    rejects = _tail(few, number, favoured) + _tail(few, number, 1 - favoured)
    return float((chance * rejects).sum())


def power_of_interval(effect: Effect, *, min_effect: float) -> float:
    """Chance that a true effect of `min_effect` would be seen, given how wide the interval of a measurement came out.

    For effects that are no paired proportions: two-sided at 5 %, normal error from the width. A width of zero is no
    evidence of precision, it gives nan, as an undefined interval does.
    """
    error = (effect.high - effect.low) / (2 * _Z)
    if not error > 0:
        return math.nan
    shift = abs(min_effect) / error
    return float(special.ndtr(shift - _Z) + special.ndtr(-shift - _Z))


def _count(outcomes: np.ndarray) -> tuple[int, int]:
    outcomes = np.asarray(outcomes)
    if outcomes.ndim != 1:
        raise ShapeError(f"outcomes must be (N,), one a level, got {outcomes.shape}.")
    if len(outcomes) == 0:
        raise TooFewLevelsError("a proportion needs one level or more, got none.")
    return int(outcomes.astype(bool).sum()), len(outcomes)


def _wilson(num_true: int, number: int) -> tuple[float, float]:
    middle = num_true + _Z**2 / 2
    reach = _Z * math.sqrt(num_true * (number - num_true) / number + _Z**2 / 4)
    low, high = (middle - reach) / (number + _Z**2), (middle + reach) / (number + _Z**2)
    return (low if num_true else 0.0), (high if num_true < number else 1.0)  # exact at the ends, whatever the rounding


def _largest_rejected(number: np.ndarray, alpha: float) -> np.ndarray:
    """Of `number` fair coin tosses, the most heads that are still too few at alpha / 2; -1 where none are."""
    few = np.floor(special.bdtrik(alpha / 2, np.maximum(number, 1), 0.5)) + 1
    for _ in range(3):  # the inverse is that of a continuous function: step down to the true count
        few -= _tail(few, number, 0.5) > alpha / 2
    return few


def _tail(few: np.ndarray, number: np.ndarray | int, chance: float) -> np.ndarray:
    """P(at most `few` of `number`), 0 where few < 0."""
    return np.where(few < 0, 0.0, special.bdtr(np.clip(few, 0, number), number, chance))


def _phi(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of paired outcomes, as Newcombe corrects it: lessened where it is positive, 0 where undefined."""
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    product = both * neither - only_first * only_second
    if product > 0:
        product = max(product - len(first) / 2, 0)
    return product / math.sqrt(margins)
