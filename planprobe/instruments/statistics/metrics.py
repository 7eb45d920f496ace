"""Scores of a classifier from confusion counts, and of predicted numbers from moments, however many tables there are.

Papers call different things 'F1', so the five common scores stand side by side, and each takes counts of shape
(..., K, K): true class by row, predicted class by column, class 0 = never. Counts add up, so a score on any set of
levels is the score of the sum of their counts; that is what makes an interval over levels cheap (see `stats`).

A class that is neither true nor predicted anywhere is left out of a mean (scikit-learn's behaviour where no labels are
named, or zero_division=nan); one that is predicted but never true counts as 0. Without any row a score is nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import ShapeError

Metric = Callable[[np.ndarray], np.ndarray]


def count_confusions(
    true: Tensor, predicted: Tensor, *, num_classes: int, level_index: Tensor | None = None, num_levels: int = 1
) -> np.ndarray:
    """How often each class was taken for each other one, on every level.

    Args:
        true: (N,) class of each row in [0, num_classes); rows below 0 are left out.
        predicted: (..., N) predicted classes, of many classifiers at once.
        level_index: (N,) position of each row's level in 0..num_levels - 1; one level holds all rows by default.
    Returns: (..., num_levels, K, K) int64; sum over the levels for the whole table.
    Raises: ShapeError (the inputs disagree about N, a class or a level out of range).
    """
    true, predicted = torch.as_tensor(true).to(torch.int64), torch.as_tensor(predicted).to(torch.int64)
    level_index = torch.zeros_like(true) if level_index is None else torch.as_tensor(level_index).to(torch.int64)
    if true.ndim != 1 or level_index.shape != true.shape or predicted.shape[-1:] != true.shape:
        raise ShapeError(
            f"true {tuple(true.shape)}, predicted {tuple(predicted.shape)}, level_index {tuple(level_index.shape)}: "
            "need (N,), (..., N), (N,)."
        )
    is_row = true >= 0
    true, predicted, level_index = true[is_row], predicted[..., is_row], level_index[is_row]
    for name, values, bound in (
        ("true", true, num_classes), ("predicted", predicted, num_classes), ("level_index", level_index, num_levels),
    ):  # fmt: skip
        # an out-of-range class would be counted in a neighbouring cell
        if values.numel() and not (int(values.min()) >= 0 and int(values.max()) < bound):
            raise ShapeError(f"{name} holds {int(values.min())}..{int(values.max())}, but must lie in 0..{bound - 1}.")
    num_cells = num_levels * num_classes**2
    tables = predicted.reshape(math.prod(predicted.shape[:-1]), len(true))  # -1 would be ambiguous without rows
    cells = (level_index * num_classes + true) * num_classes + tables
    table_ids = torch.arange(len(cells), device=cells.device)[:, None]
    counts = torch.bincount((cells + table_ids * num_cells).flatten(), minlength=len(cells) * num_cells)
    return counts.view(*predicted.shape[:-1], num_levels, num_classes, num_classes).cpu().numpy()


def macro_f1(confusions: np.ndarray) -> np.ndarray:
    """Mean F1 over all classes, 'never' included, (...); Bush et al. 2025. An all-never probe scores about 1 / K."""
    f1, present = _class_f1(confusions)
    return _divide(f1.sum(-1), present.sum(-1))


def directional_macro_f1(confusions: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes other than 'never', (...); a missed or invented event still costs."""
    f1, present = _class_f1(confusions)
    return _divide(f1[..., 1:].sum(-1), present[..., 1:].sum(-1))


def positive_f1(confusions: np.ndarray) -> np.ndarray:
    """Micro-averaged F1 over the classes other than 'never', (...): the 'F1' of Taufeeque et al. 2024 (FAR).

    Precision: right events / predicted events; recall: right events / true events. With two classes, plain F1.
    """
    right, num_true, num_predicted = _margins(confusions)
    return _divide(2 * right[..., 1:].sum(-1), num_true[..., 1:].sum(-1) + num_predicted[..., 1:].sum(-1))


def balanced_accuracy(confusions: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that are true somewhere, (...); chance and any constant answer score 1 / K."""
    right, num_true, _ = _margins(confusions)
    return _divide((right / np.maximum(num_true, 1)).sum(-1), (num_true > 0).sum(-1))


def mcc(confusions: np.ndarray) -> np.ndarray:
    """Matthews correlation for any number of classes, (...) in [-1, 1]; 0 for a constant answer. Gorodkin 2004."""
    right, num_true, num_predicted = _margins(confusions)
    total = num_true.sum(-1)
    shared = right.sum(-1) * total - (num_true * num_predicted).sum(-1)
    spread_true, spread_predicted = (total**2 - (margin**2).sum(-1) for margin in (num_true, num_predicted))
    scale = np.sqrt(spread_true) * np.sqrt(spread_predicted)
    return np.where(total > 0, shared / np.where(scale > 0, scale, 1), np.nan)


METRICS: dict[str, Metric] = {
    "macro_f1": macro_f1,
    "directional_macro_f1": directional_macro_f1,
    "positive_f1": positive_f1,
    "balanced_accuracy": balanced_accuracy,
    "mcc": mcc,
}


def count_moments(
    true: Tensor, predicted: Tensor, *, level_index: Tensor | None = None, num_levels: int = 1
) -> np.ndarray:
    """Sums over the rows of each level that R² and correlation are made of: (num_levels, V, 6) float64.

    The six: rows, sum of y, of y², of the prediction p, of p², of y p.

    Args: true, predicted (N, V) numbers, rows with nan in `true` left out; level_index (N,).
    Raises: ShapeError (the inputs disagree).
    """
    level_index = torch.zeros(len(true), dtype=torch.int64) if level_index is None else level_index
    if true.ndim != 2 or predicted.shape != true.shape or level_index.shape != true.shape[:1]:
        raise ShapeError(
            f"true {tuple(true.shape)}, predicted {tuple(predicted.shape)}, level_index {tuple(level_index.shape)}: "
            "need (N, V), (N, V), (N,)."
        )
    is_row = ~true.isnan().any(1)
    y, p = true[is_row].double(), predicted[is_row].double()
    parts = torch.stack([torch.ones_like(y), y, y * y, p, p * p, y * p], dim=-1)
    sums = torch.zeros(num_levels, *parts.shape[1:], dtype=torch.float64, device=parts.device)
    return sums.index_add_(0, level_index[is_row], parts).cpu().numpy()


def r_squared(moments: np.ndarray) -> np.ndarray:
    """1 - squared error over the variance about the mean, (...), mean over V numbers; moments (..., V, 6).

    0 for predicting the mean of these very rows, negative below that; nan without two different values.
    """
    n, y, yy, _, pp, yp = np.moveaxis(np.asarray(moments, dtype=np.float64), -1, 0)
    spread = yy - _divide(y * y, n)
    return _mean_known(_divide(spread - (yy - 2 * yp + pp), np.where(spread > 1e-9 * yy, spread, 0.0), floor=0.0))


def pooled_r_squared(moments: np.ndarray) -> np.ndarray:
    """1 - squared error over the variance about the means, (...), both summed over the V numbers; moments (..., V, 6).

    Numbers of one scale are needed. A mean of R² over numbers falls apart where some of them differ from their usual
    value on a few levels alone: a resample without these divides by next to nothing. Sums do not. nan as `r_squared`.
    """
    n, y, yy, _, pp, yp = np.moveaxis(np.asarray(moments, dtype=np.float64), -1, 0)
    spread, error = (yy - _divide(y * y, n)).sum(-1), (yy - 2 * yp + pp).sum(-1)
    return _divide(spread - error, np.where(spread > 1e-9 * yy.sum(-1), spread, 0.0), floor=0.0)


def correlation(moments: np.ndarray) -> np.ndarray:
    """Pearson's r between prediction and truth, (...), mean over V numbers; nan where either is constant."""
    n, y, yy, p, pp, yp = np.moveaxis(np.asarray(moments, dtype=np.float64), -1, 0)
    spread_y, spread_p = yy - _divide(y * y, n), pp - _divide(p * p, n)
    product = np.where((spread_y > 1e-9 * yy) & (spread_p > 1e-9 * pp), spread_y * spread_p, 0.0)
    return _mean_known(_divide(yp - _divide(y * p, n), np.sqrt(np.maximum(product, 0.0)), floor=0.0))


NUMBER_METRICS: dict[str, Metric] = {"r2": r_squared, "correlation": correlation}


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, nan left out; nan where all are."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def _margins(confusions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of each class that were right, true and predicted, (..., K) each."""
    counts = np.asarray(confusions, dtype=np.float64)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2] or counts.shape[-1] < 2:
        raise ShapeError(f"confusion counts must be (..., K, K) with K >= 2 classes, got {counts.shape}.")
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)


def _class_f1(confusions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of each class, and whether it is true or predicted anywhere, (..., K) each."""
    right, num_true, num_predicted = _margins(confusions)
    either = num_true + num_predicted
    return 2 * right / np.maximum(either, 1), either > 0


def _divide(above: np.ndarray, below: np.ndarray, *, floor: float = 1.0) -> np.ndarray:
    """above / below, nan where below is 0. floor: least divisor there is, 1 for counts."""
    safe = np.where(below > 0, np.maximum(below, floor), 1.0)
    return np.where(below > 0, above / safe, np.nan)
