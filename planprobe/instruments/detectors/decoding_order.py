"""D6, order of decoding: is the plan read square after square along the way, or all of it at once?

It asks what kind of planning it is, not whether. A serial search comes upon the squares of its way one after another,
from the agent forward or from the goal back; a sweep that has to arrive before there is a way, and a sample that is
drawn as a whole, show all of it at the same tick. The lag of a square is the number of ticks at which its own read-out
(fitted at that tick, on other levels) is wrong; its slope over the squares of a way, level by level, is the order.

Only squares that come to be read count: wrong at the first tick, right at the last. What is known from the start (the
square of the goal, those beside the agent) has no order, and what is never read has none either. Where the way ends is
left out: it is marked on the board.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from planprobe.core.records import Effect, Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.probes.tick_reads import TickReads
from planprobe.instruments.statistics.proportions import power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, ratio

CLAIM = "The plan is read from memory square after square along the way, not all of it at once."
NEEDS = ("an opened recurrent policy with spatial sites", "levels whose ways are several squares long")
CONTROLS = ("permuted path order",)
FALSIFIES = "that the way is worked out along itself; what is left is a sweep, or samples drawn as a whole"
UNIT = "ticks per square of the way"
PERMUTED = CONTROLS[0]
NUM_PERMUTATIONS = 200
MIN_LEVELS = 10
MIN_SWITCH = 2  # squares
FORWARD, BACKWARD, AT_ONCE, NONE = "forward from the agent", "backward from the goal", "all at once", "none"


def run(
    reads: TickReads, *, min_effect: float, ways: TickReads | None = None, recurrent: bool = True, seed: int = 0
) -> Evidence:
    """The slope of lag over the squares of the way; above zero forward from the agent, below it backward.

    Args: as `plan_refinement.run`; min_effect in ticks per square, either way; ways: what was read on levels with
        several ways, to count on them how often one gives place to another (default: on `reads`).
    Returns: effect = the slope, signed; beyond_controls = its size, in its own direction, beyond the same with the
        squares of each way in random order, whose draws also give p. Rows: `table` 'order', mean lag by square, and
        'order found', the name of the order, how often a level one way gave place to another (`count_switches`), and
        whether that was counted on `ways`.
    """
    lag, use = square_lags(reads)
    sums = _slope_sums(reads.order[use].double(), lag[use], reads.level_index[use], reads.num_levels)
    switches, several_ways = _count_by_group(ways or reads), ways is not None
    num_levels = int((sums[:, 1] > 0).sum())
    if num_levels < MIN_LEVELS:
        return _nothing_to_order(min_effect, num_levels, switches, several_ways, seed)
    generator = torch.Generator().manual_seed(seed)
    draws = [_permuted_sums(reads, lag, use, generator) for _ in range(NUM_PERMUTATIONS)]
    effect = cluster_bootstrap(sums, ratio, unit=UNIT, seed=seed)
    permuted = np.mean(draws, axis=0)
    difference = bootstrap_difference(sums, permuted, ratio, unit=UNIT, seed=seed)
    null = np.array([float(ratio(each.sum(0))) for each in draws])
    as_large = float((1 + (np.abs(null) >= abs(effect.value) - 1e-12).sum()) / (1 + len(null)))
    beyond = _in_its_direction(difference, max(as_large, difference.p or 0.0))
    power = power_of_interval(beyond, min_effect=min_effect)
    # lags without any spread give an interval of no width: every square of a way is read at the same tick
    power = float(num_levels >= MIN_LEVELS) if math.isnan(power) else power
    outcome = decide(beyond, min_effect=min_effect, power=power) if recurrent else "inconclusive"
    order = {"supported": FORWARD if effect.value > 0 else BACKWARD, "refuted": AT_ONCE}.get(outcome, NONE)
    found, turns = _order_row(order, switches, several_ways, int(use.sum()), seed)
    notes = [
        f"Order: {order if order != NONE else 'not settled'}; {int(use.sum())} squares of {num_levels} levels came to "
        f"be read, within {reads.num_ticks} ticks.",
        f"One way gave place to another {turns.value:.2f} times a level [{turns.low:.2f}, {turns.high:.2f}].",
    ]
    return _evidence(
        effect, cluster_bootstrap(permuted, ratio, unit=UNIT, seed=seed), beyond, min_effect, power, outcome,
        [*_rows(reads, lag, use, seed), found], notes,
    )  # fmt: skip


def square_lags(reads: TickReads) -> tuple[Tensor, Tensor]:
    """Ticks (R,) at which each square's own read-out is wrong, and which squares count (R,) bool; see the module."""
    right = reads.agent.own == reads.agent.true
    ends = torch.cat([reads.ticks[1:], torch.tensor([reads.num_ticks])])
    weights = (ends - reads.ticks).double()
    lag = (weights[:, None] * ~right).sum(0)
    return lag, (reads.order >= 0) & ~reads.last & ~right[0] & right[-1]


def _slope_sums(order: Tensor, lag: Tensor, level_index: Tensor, num_levels: int) -> np.ndarray:
    """(levels, 2): sums of products about each level's own means, whose ratio is the common slope."""
    count = torch.zeros(num_levels, dtype=torch.float64).index_add_(0, level_index, torch.ones_like(lag)).clamp(min=1)
    centred = []
    for values in (order, lag):
        mean = torch.zeros(num_levels, dtype=torch.float64).index_add_(0, level_index, values) / count
        centred.append(values - mean[level_index])
    products = torch.stack([centred[0] * centred[1], centred[0] ** 2], dim=1)
    return torch.zeros(num_levels, 2, dtype=torch.float64).index_add_(0, level_index, products).numpy()


def _permuted_sums(reads: TickReads, lag: Tensor, use: Tensor, generator: torch.Generator) -> np.ndarray:
    """The same with the squares of each way in random order."""
    level_index, order = reads.level_index[use], reads.order[use].double()
    shuffled = torch.argsort(level_index + torch.rand(len(order), generator=generator))
    return _slope_sums(order[shuffled], lag[use], level_index, reads.num_levels)


def count_switches(reads: TickReads) -> np.ndarray:
    """How often, on each level (L,), one way gave place to another within a tick.

    That is, MIN_SWITCH squares or more stopped being read as on the way, or as entered so, while as many others began.
    A way that grows loses none, and a read-out that flickers here and there loses one.
    """
    now, after = reads.agent.fixed[:-1], reads.agent.fixed[1:]
    changed = now != after
    counts = [
        torch.zeros(len(now), reads.num_levels).index_add_(1, reads.level_index, (changed & (part > 0)).float())
        for part in (now, after)
    ]
    return (torch.minimum(*counts) >= MIN_SWITCH).sum(0).double().numpy()


def _count_by_group(reads: TickReads) -> np.ndarray:
    """Switches and levels (groups, 2): levels of one layout are near-copies, so that layouts are resampled."""
    groups, place = reads.groups.unique(return_inverse=True)
    counts = torch.as_tensor(count_switches(reads))
    sums = torch.zeros(len(groups), 2, dtype=torch.float64)
    return sums.index_add_(0, place, torch.stack([counts, torch.ones_like(counts)], dim=1)).numpy()


def _in_its_direction(difference: Effect, p: float) -> Effect:
    """The effect's size along its own sign."""
    if difference.value >= 0:
        return Effect(difference.value, difference.low, difference.high, difference.n, difference.unit, p)
    return Effect(-difference.value, -difference.high, -difference.low, difference.n, difference.unit, p)


def _order_row(order: str, switches: np.ndarray, several_ways: bool, num_squares: int, seed: int) -> tuple[Row, Effect]:
    turns = cluster_bootstrap(switches, ratio, unit="switches a level", seed=seed)
    row: Row = {
        "table": "order found", "order": order, "num_squares": num_squares, "switches": turns.value,
        "switches_low": turns.low, "switches_high": turns.high, "several_ways": several_ways,
    }  # fmt: skip
    return row, turns


def _rows(reads: TickReads, lag: Tensor, use: Tensor, seed: int) -> list[Row]:
    """One a square of the way: mean lag over the levels on which it came to be read, two or more of them."""
    rows: list[Row] = []
    for number in sorted(set(reads.order[use].tolist())):
        here = use & (reads.order == number)
        if int(here.sum()) < 2:
            continue
        mean = cluster_bootstrap(lag[here].numpy(), unit="ticks", seed=seed)
        rows.append(
            {
                "table": "order", "square": number + 1, "lag": mean.value, "lag_low": mean.low, "lag_high": mean.high,
                "num_squares": mean.n,
            }
        )  # fmt: skip
    return rows


def _nothing_to_order(
    min_effect: float, num_levels: int, switches: np.ndarray, several_ways: bool, seed: int
) -> Evidence:
    nothing = Effect(0.0, math.nan, math.nan, num_levels, UNIT)
    note = f"Squares came to be read on {num_levels} levels only: there is nothing whose order could be told."
    found, _ = _order_row(NONE, switches, several_ways, 0, seed)
    return _evidence(nothing, nothing, nothing, min_effect, 0.0, "inconclusive", [found], [note])


def _evidence(effect, permuted, beyond, min_effect, power, outcome, rows, notes) -> Evidence:
    return Evidence(
        detector="D6",
        name="decoding_order",
        claim=CLAIM,
        effect=effect,
        controls={PERMUTED: permuted},
        beyond_controls=beyond,
        min_effect=min_effect,
        power=power,
        outcome=outcome,
        falsifies=FALSIFIES,
        rows=rows,
        notes=notes,
    )
