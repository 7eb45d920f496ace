"""Intervals over seeds, where the unit is a trained net, and over trials of one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats as distributions

from planprobe.core.records import Row
from planprobe.instruments.statistics.stats import cluster_bootstrap


def over_seeds(values: Sequence[float]) -> Row:
    """Mean of one value a seed with Student's 95 % interval; no limits for a single seed, which says nothing of others.

    Returns: {'value', 'low', 'high', 'n'}.
    """
    each = np.asarray(values, dtype=np.float64)
    mean, n = float(each.mean()), len(each)
    if n < 2:
        return {"value": mean, "low": None, "high": None, "n": n}
    half = float(distributions.t.ppf(0.975, n - 1) * each.std(ddof=1) / n**0.5)
    return {"value": mean, "low": mean - half, "high": mean + half, "n": n}


def over_trials(values: np.ndarray, *, seed: int = 0) -> Row:
    """Mean of one value a trial (N,) with its 95 % bootstrap interval; {'value', 'low', 'high', 'n'}."""
    effect = cluster_bootstrap(np.asarray(values), seed=seed)
    return {"value": effect.value, "low": effect.low, "high": effect.high, "n": effect.n}
