"""Leads over nets that learnt nothing: an interval that knows that nets differ, not only that levels do.

Any two untrained nets of one architecture differ a little in what can be read off them, whatever levels they are shown.
An interval over levels speaks of the nets at hand: of random nets, three in ten lie beyond another one by it. So the
agent is compared with the *mean* of k untrained nets, and the question is whether it lies where one more could.

The error has two parts. That of levels is a jackknife of the difference, level by level. That of nets is the variance
among the k, times 1 + 1/k, for the net that is judged and for the mean of k; what drawing levels would scatter nets by
is taken off, since the first part holds it. The interval is a t interval with the degrees of freedom of the sum
(Satterthwaite 1946), in which the whole scatter of nets counts, so that it errs towards being wide.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.records import Effect
from planprobe.instruments.statistics.resampling import TAIL, jackknife_variance
from planprobe.instruments.statistics.stats import Statistic

MIN_NETS = 2  # fewer have no spread
_ROUNDING = 1e-12  # of scores, which are of order one


def lead_over_nets(own: np.ndarray, nets: np.ndarray, statistic: Statistic, *, unit: str = "") -> Effect:
    """statistic(own) minus the mean of statistic(net), as a lead over one more untrained net.

    Args: own (levels, *shape) counts or sums of each level; nets (k, levels, *shape), of the same levels.
    Returns: a 95 % t interval and a two-sided p, nan where fewer than two levels hold anything, or the statistic is not
        defined. n counts the levels that hold anything.
    Raises: ShapeError; TooFewLevelsError (fewer than two levels or nets).
    """
    own, nets = np.asarray(own, dtype=np.float64), np.asarray(nets, dtype=np.float64)
    if nets.shape[1:] != own.shape:
        raise ShapeError(f"own {own.shape} and nets {nets.shape}: need (nets, levels, ...) on the same levels.")
    scores, without = _scores(nets, statistic)
    value = float(statistic(own.sum(0)) - scores.mean())
    of_levels = float(jackknife_variance(statistic(own.sum(0) - own) - without.mean(0)))
    return _effect(value, of_levels, scores, without, 1 + 1 / len(nets), _count_used(own), unit)


def mean_of_nets(nets: np.ndarray, statistic: Statistic, *, unit: str = "") -> Effect:
    """The score of untrained nets, with an interval over levels and over nets; arguments as `lead_over_nets`."""
    nets = np.asarray(nets, dtype=np.float64)
    scores, without = _scores(nets, statistic)
    of_levels = float(jackknife_variance(without.mean(0)))
    used = _count_used(np.moveaxis(nets, 0, 1))
    effect = _effect(float(scores.mean()), of_levels, scores, without, 1 / len(nets), used, unit)
    return Effect(effect.value, effect.low, effect.high, effect.n, unit)


def smaller_lead(first: Effect, second: Effect) -> Effect:
    """The lead over both of two controls: the smaller value, the smaller of each limit, and the larger p.

    A claim to be beyond every control needs each of these to hold, so no correction is due.
    """
    numbers = [(effect.value, effect.low, effect.high) for effect in (first, second)]
    value, low, high = np.min(numbers, axis=0).tolist()  # nan where either is
    p = np.max([np.nan if effect.p is None else effect.p for effect in (first, second)])
    return Effect(value, low, high, min(first.n, second.n), first.unit, float(p))


def _scores(nets: np.ndarray, statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:
    """Of each net (k,), and with each level left out in turn (k, levels)."""
    num_nets, num_levels = nets.shape[:2]
    if num_nets < MIN_NETS or num_levels < 2:
        raise TooFewLevelsError(f"a spread takes two nets and two levels or more, got {num_nets} and {num_levels}.")
    return statistic(nets.sum(1)), statistic(nets.sum(1, keepdims=True) - nets)


def _effect(
    value: float, of_levels: float, scores: np.ndarray, without: np.ndarray, weight: float, used: int, unit: str
) -> Effect:
    """weight: of the variance among nets in that of the value."""
    if math.isnan(value) or used < 2:
        return Effect(value, math.nan, math.nan, used, unit, math.nan)
    num_nets = len(scores)
    among = weight * float(scores.var(ddof=1))
    by_levels = weight * float(jackknife_variance(without - without.mean(0)).sum()) / (num_nets - 1)
    variance = of_levels + max(among - by_levels, 0.0)
    least = 2.0 ** (1 - used)  # the least p that a sign-flip test over levels could give
    if variance <= _ROUNDING**2:
        return Effect(value, value, value, used, unit, 1.0 if abs(value) <= _ROUNDING else least)
    doubt = min(among, variance) ** 2 / (num_nets - 1) + of_levels**2 / (used - 1)
    error, freedom = math.sqrt(variance), variance**2 / doubt
    reach = error * float(special.stdtrit(freedom, 1 - TAIL))
    p = 2 * float(special.stdtr(freedom, -abs(value) / error))
    return Effect(value, value - reach, value + reach, used, unit, min(max(p, least), 1.0))


def _count_used(per_level: np.ndarray) -> int:
    """Levels (levels, ...) that hold anything."""
    return int((per_level != 0).any(axis=tuple(range(1, per_level.ndim))).sum())
