"""The arithmetic under `stats`: resamples as weights, BCa limits, jackknife errors, all for many cells at once."""

from __future__ import annotations

import numpy as np
from scipy import stats as distributions

from planprobe.core.errors import TooFewLevelsError

TAIL = 0.025  # on each side of a 95 % interval


def draw_weights(num_levels: int, num_resamples: int, seed: int) -> np.ndarray:
    """How often each resample holds each level, (resamples, levels)."""
    if num_levels < 2:
        raise TooFewLevelsError(f"an interval over levels needs two or more levels, got {num_levels}.")
    draws = np.random.default_rng(seed).integers(0, num_levels, size=(num_resamples, num_levels))
    draws += num_levels * np.arange(num_resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=num_resamples * num_levels)
    return counts.reshape(num_resamples, num_levels).astype(np.float64)


def weigh(weights: np.ndarray, per_level: np.ndarray) -> np.ndarray:
    """Weighted sums over levels: (resamples, levels), (cells, levels, *shape) -> (cells, resamples, *shape)."""
    cells, num_levels = per_level.shape[:2]
    by_entry = np.moveaxis(per_level, 1, -1).reshape(-1, num_levels) @ weights.T
    # resamples innermost in memory: sums over classes then run along contiguous numbers, several times faster
    return np.moveaxis(by_entry.reshape(cells, *per_level.shape[2:], len(weights)), -1, 1)


def find_limits(value: np.ndarray, replicates: np.ndarray, jackknife: np.ndarray, *, bca: bool) -> np.ndarray:
    """95 % limits, (cells, 2): value (cells,), replicates (cells, resamples), jackknife (cells, levels)."""
    tails = np.broadcast_to([TAIL, 1 - TAIL], (len(value), 2))
    if bca:
        tails = _bca_tails(value, replicates, jackknife)
    limits = np.full((len(value), 2), np.nan)
    for cell in range(len(value)):
        known = replicates[cell][~np.isnan(replicates[cell])]  # a resample may hold no row at all
        if len(known):
            limits[cell] = np.quantile(known, tails[cell])
    return limits


def _bca_tails(value: np.ndarray, replicates: np.ndarray, jackknife: np.ndarray) -> np.ndarray:
    """Quantiles of the replicates to read the limits at, (cells, 2); the plain ones where BCa is not defined."""
    normal = distributions.norm
    num_known = np.maximum((~np.isnan(replicates)).sum(1), 1)
    ties = (replicates == value[:, None]).sum(1)
    below = ((replicates < value[:, None]).sum(1) + ties / 2) / num_known
    pull = _pulls(jackknife)
    spread = (pull**2).sum(1)
    acceleration = (pull**3).sum(1) / (6 * np.where(spread > 0, spread, 1) ** 1.5)
    bias = normal.ppf(below.clip(1 / len(replicates[0]), 1 - 1 / len(replicates[0])))[:, None]
    shifted = bias + normal.ppf([TAIL, 1 - TAIL])
    shrink = 1 - acceleration[:, None] * shifted
    tails = normal.cdf(bias + shifted / np.where(shrink > 0, shrink, 1))
    return np.where((shrink > 0).all(1, keepdims=True), tails, [TAIL, 1 - TAIL])


def _pulls(jackknife: np.ndarray) -> np.ndarray:
    """How far each level pulls the statistic, (..., levels): mean of the leave-one-out values minus each of them."""
    known = ~np.isnan(jackknife)
    mean = np.where(known, jackknife, 0.0).sum(-1, keepdims=True) / np.maximum(known.sum(-1, keepdims=True), 1)
    return np.where(known, mean - jackknife, 0.0)


def jackknife_variance(jackknife: np.ndarray) -> np.ndarray:
    """Variance over levels of a statistic from its leave-one-out values (..., levels), (...)."""
    num_levels = jackknife.shape[-1]
    return (num_levels - 1) / num_levels * (_pulls(jackknife) ** 2).sum(-1)


def jackknife_p(value: np.ndarray, jackknife: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Two-sided p of value = 0 with the jackknife error over levels, (cells,); nan without two levels."""
    error = np.sqrt(jackknife_variance(jackknife))
    t = np.where(error > 0, np.abs(value) / np.where(error > 0, error, 1), np.inf)
    p = np.maximum(2 * distributions.t.sf(t, np.maximum(used - 1, 1)), 2.0 ** (1 - used))
    p = np.where(value == 0, 1.0, p)
    return np.where(np.isnan(value) | (used < 2), np.nan, p)
