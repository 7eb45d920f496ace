"""Intervals and tests whose unit is the level.

Squares and steps of one level are near-copies of each other; an interval over them is far too narrow. So whatever is
measured is kept per level (confusion counts, or sums), a statistic is a function of the *sum* over levels, and a
bootstrap resample is a weight per level: all resamples of all cells of a table are one matrix product.

Two conditions are compared on the same levels, and always resampled together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np

from planprobe.core.errors import ShapeError, unknown_name
from planprobe.core.records import Effect
from planprobe.instruments.statistics.resampling import draw_weights, find_limits, jackknife_p, weigh

Statistic = Callable[[np.ndarray], np.ndarray]
"""Sums over levels (..., *shape) -> (...); e.g. `metrics.macro_f1`, or `ratio`."""

Interval = Literal["bca", "percentile"]
NUM_RESAMPLES = 2000
_BLOCK_VALUES = 1_000_000  # numbers in one block of resampled sums, to bound memory


def ratio(sums: np.ndarray) -> np.ndarray:
    """First over second of the last axis: the statistic of a mean, from (sum, number) per level."""
    above, below = sums[..., 0], sums[..., 1]
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def as_sums(values: np.ndarray) -> np.ndarray:
    """One value a level (..., levels) as (sum, number) pairs (..., levels, 2); nan = a level without a value."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0.0), known.astype(np.float64)], axis=-1)


def cluster_bootstrap(
    per_level: np.ndarray,
    statistic: Statistic | None = None,
    *,
    unit: str = "",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    interval: Interval = "bca",
) -> Effect:
    """A statistic with its 95 % interval over levels.

    Args:
        per_level: counts or sums of each level (levels, *shape); or with statistic None one value a level (levels,),
            nan = none, of which the mean is taken.
        interval: 'bca' (bias-corrected and accelerated, jackknife over levels; Efron 1987) or 'percentile'.
    Returns: n counts the levels that hold anything; with fewer than two of them the limits (and p) are nan.
    Raises: TooFewLevelsError (fewer than two levels); UnknownNameError (interval).
    """
    return bootstrap_table(
        np.asarray(per_level)[None], statistic, unit=unit, num_resamples=num_resamples, seed=seed, interval=interval
    )[0]


def bootstrap_table(
    per_level: np.ndarray,
    statistic: Statistic | None = None,
    *,
    unit: str = "",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    interval: Interval = "bca",
) -> list[Effect]:
    """`cluster_bootstrap` of every cell of a table: per_level (cells, levels, *shape) -> one Effect a cell.

    All cells see the same resamples, so a cell's interval does not depend on the others.
    """
    per_level, statistic = _prepare(per_level, statistic)
    weights = draw_weights(per_level.shape[1], num_resamples, seed)
    return _effects([per_level], lambda sums: statistic(sums[0]), weights, unit, interval, test=False)


def bootstrap_difference(
    first: np.ndarray,
    second: np.ndarray,
    statistic: Statistic | None = None,
    *,
    unit: str = "",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    interval: Interval = "bca",
) -> Effect:
    """statistic(first) - statistic(second) on the same levels, with interval and p; arguments of `cluster_bootstrap`.

    p is two-sided, of a t statistic with the jackknife error over levels (levels - 1 degrees of freedom), and never
    below 2 ** (1 - levels), the least a sign-flip test could give. It tests the difference of the statistics themselves
    and resolves small p, which a Holm correction over a large table needs: 2000 resamples cannot go below .0005.
    `swap_test` gives the permutation p.
    """
    return difference_table(
        np.asarray(first)[None], np.asarray(second)[None], statistic, unit=unit, num_resamples=num_resamples, seed=seed,
        interval=interval,
    )[0]  # fmt: skip


def difference_table(
    first: np.ndarray,
    second: np.ndarray,
    statistic: Statistic | None = None,
    *,
    unit: str = "",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    interval: Interval = "bca",
) -> list[Effect]:
    """`bootstrap_difference` of every cell: first, second (cells, levels, *shape); second may have one cell for all."""
    first, second = np.asarray(first), np.asarray(second)
    if first.shape[1:] != second.shape[1:] or len(second) not in (1, len(first)):
        raise ShapeError(f"first {first.shape}, second {second.shape}: need the same levels, and as many cells or one.")
    pair = [_prepare(part, statistic)[0] for part in (first, second)]
    chosen = _prepare(first, statistic)[1]
    weights = draw_weights(pair[0].shape[1], num_resamples, seed)
    return _effects(pair, lambda sums: chosen(sums[0]) - chosen(sums[1]), weights, unit, interval, test=True)


def difference_over_best(
    per_level: np.ndarray,
    controls: Mapping[str, np.ndarray],
    statistic: Statistic | None = None,
    *,
    unit: str = "",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    interval: Interval = "bca",
) -> tuple[str, Effect]:
    """How far a measurement lies above the best of its controls, and which one that is.

    The control that scores best on these very levels is taken, which can only make the difference smaller. The claim
    'above every control' needs each difference to hold, so p is the largest of theirs (no correction is due).

    Args: per_level (levels, *shape) and each control likewise.
    """
    if not controls:
        raise ShapeError("difference_over_best needs at least one control to be above.")
    effects = {
        name: bootstrap_difference(
            per_level, control, statistic, unit=unit, num_resamples=num_resamples, seed=seed, interval=interval
        )
        for name, control in controls.items()
    }
    best = min(effects, key=lambda name: effects[name].value)
    effect = effects[best]
    p_values = [np.nan if other.p is None else other.p for other in effects.values()]
    return best, Effect(effect.value, effect.low, effect.high, effect.n, effect.unit, float(np.max(p_values)))


def swap_test(
    first: np.ndarray, second: np.ndarray, statistic: Statistic | None = None, *, num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> float:  # fmt: skip
    """Two-sided p of statistic(first) - statistic(second) by swapping the two conditions of random levels.

    Exact for the null that the conditions are exchangeable within a level; for one value a level it is the sign-flip
    test. Never below 1 / (num_resamples + 1), too coarse to survive a correction over a large table.
    """
    if np.shape(first) != np.shape(second):
        raise ShapeError(f"first {np.shape(first)} and second {np.shape(second)}: need the same levels.")
    (first, chosen), (second, _) = (_prepare(np.asarray(part)[None], statistic) for part in (first, second))
    num_levels = first.shape[1]
    swapped = np.random.default_rng(seed).integers(0, 2, size=(num_resamples, num_levels)).astype(np.float64)
    moved = weigh(swapped, second - first)
    total_first, total_second = first.sum(1, keepdims=True), second.sum(1, keepdims=True)
    null = chosen(total_first + moved) - chosen(total_second - moved)
    observed = chosen(total_first) - chosen(total_second)
    # sums of the same numbers in another order differ in the last bits, and a tie must count
    extreme = np.abs(null) >= np.abs(observed) - 1e-12
    return float((1 + extreme.sum()) / (1 + num_resamples))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values adjusted so that a whole table is wrong at most as often as one test; same shape. Holm 1979.

    nan (no test was made) stays nan and does not count.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    tested = ~np.isnan(p_values)
    values = p_values[tested]
    order = values.argsort(kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    ordered = np.empty_like(values)
    ordered[order] = np.minimum(steps, 1.0)
    adjusted[tested] = ordered
    return adjusted


def _prepare(per_level: np.ndarray, statistic: Statistic | None) -> tuple[np.ndarray, Statistic]:
    """(cells, levels, *shape) float64 without empty levels' nan, and the statistic of its sums."""
    per_level = np.asarray(per_level, dtype=np.float64)
    if statistic is None:
        if per_level.ndim != 2:
            raise ShapeError(f"without a statistic, each cell needs (levels,) values, got {per_level.shape[1:]}.")
        return as_sums(per_level), ratio
    if per_level.ndim < 3:
        raise ShapeError(f"counts or sums of each level are needed, (levels, ...), got {per_level.shape[1:]}.")
    return per_level, statistic


def _effects(
    parts: list[np.ndarray], statistic: Callable[[list[np.ndarray]], np.ndarray], weights: np.ndarray, unit: str,
    interval: Interval, *, test: bool,
) -> list[Effect]:  # fmt: skip
    """One Effect a cell. `statistic` reads a list of sums, one for each part; a part of one cell serves all cells."""
    if interval not in get_args(Interval):
        raise unknown_name("interval", interval, get_args(Interval))
    num_cells = len(parts[0])
    values_per_cell = len(weights) * int(np.prod(parts[0].shape[2:])) * len(parts)
    cells_per_block = max(1, _BLOCK_VALUES // values_per_cell)
    effects = []
    for start in range(0, num_cells, cells_per_block):
        block = [part if len(part) == 1 else part[start : start + cells_per_block] for part in parts]
        value = statistic([part.sum(1) for part in block])
        jackknife = statistic([part.sum(1, keepdims=True) - part for part in block])
        replicates = statistic([weigh(weights, part) for part in block])
        used = np.broadcast_to(_count_used(block), value.shape)
        limits = find_limits(value, replicates, jackknife, bca=interval == "bca")
        limits[used < 2] = np.nan  # resampling one level says nothing about others
        p = jackknife_p(value, jackknife, used) if test else np.full(value.shape, None)
        numbers = zip(value.tolist(), limits.tolist(), used.tolist(), p.tolist(), strict=True)
        effects += [Effect(middle, low, high, n, unit, chance) for middle, (low, high), n, chance in numbers]
    return effects


def _count_used(block: list[np.ndarray]) -> np.ndarray:
    """Levels that hold anything in any part, (cells,)."""
    holds = [(part != 0).any(axis=tuple(range(2, part.ndim))) for part in block]
    return np.logical_or.reduce(np.broadcast_arrays(*holds)).sum(1)
