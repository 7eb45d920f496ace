"""Intervals over seeds, where the unit is a trained net, and over trials of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats as distributions

from planprobe.core.records import Row
from planprobe.subjects.scorecard import mean_interval


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


def average_seeds(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    """One row for every combination of values in `columns`, in order of appearance: `over_seeds` of its values."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in columns), []).append(float(row["value"]))  # pyright: ignore
    return [{**dict(zip(columns, key, strict=True)), **over_seeds(values)} for key, values in groups.items()]


def over_trials(values: np.ndarray) -> Row:
    """Mean of one value a trial (N,) with its normal 95 % interval; {'value', 'low', 'high', 'n'}."""
    value, low, high, n = mean_interval(torch.as_tensor(values))
    return {"value": value, "low": low, "high": high, "n": n}
