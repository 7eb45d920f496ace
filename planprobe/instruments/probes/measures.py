"""How predictions become counts that add up over levels, and counts a score: for classes and for numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from planprobe.instruments.statistics.metrics import (
    METRICS,
    NUMBER_METRICS,
    Metric,
    count_confusions,
    count_moments,
)


@dataclass(frozen=True)
class Measure:
    """One kind of prediction.

    name: of the score that decides, as columns call it; unit: as people do. metrics: every score, by name.
    count(true, predicted, level_index=, num_levels=) -> (L, ...) sums. count_rows(sums) -> rows in them.
    """

    name: str
    unit: str
    metrics: dict[str, Metric]
    count: Callable[..., np.ndarray]
    count_rows: Callable[[np.ndarray], int]

    def score(self, sums: np.ndarray) -> np.ndarray:
        """The score that decides, (...)."""
        return self.metrics[self.name](sums)


def class_measure(num_classes: int) -> Measure:
    """Macro-F1 and its siblings from confusions (L, K, K)."""
    count = partial(count_confusions, num_classes=num_classes)
    return Measure("macro_f1", "macro-F1", METRICS, count, lambda sums: int(sums.sum()))


def number_measure() -> Measure:
    """R² and correlation from moments (L, V, 6)."""
    return Measure("r2", "R²", NUMBER_METRICS, count_moments, lambda sums: int(sums[..., 0, 0].sum()))


def leave_out(labels: Tensor, mask: Tensor) -> Tensor:
    """Labels (N,) classes or (N, V) numbers with the rows of mask (N,) taken out."""
    if labels.is_floating_point():
        return labels.masked_fill(mask[:, None], torch.nan)
    return labels.masked_fill(mask, -1)


def is_labelled(labels: Tensor) -> Tensor:
    """(N,) bool: rows that have a class, or every number."""
    return ~labels.isnan().any(1) if labels.is_floating_point() else labels >= 0
