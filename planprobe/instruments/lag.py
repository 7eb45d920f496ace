"""Thinking lag: how long an agent must look at a level before its first move is the one it ends up with.

Accuracy alone cannot tell a hard level from one that needs time. Lag can: it is the time that passes while the first
move is still worse than after the longest look, and is zero on average for whoever never changes its mind, however bad
it is. On ladders of levels where only one thing grows, the slope of lag is a law: ticks needed against distance, or
against the number of candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, ShapeError, TooFewLevelsError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Effect, Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.proportions import power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, difference_over_best
from planprobe.instruments.thinking import BLANK, OTHER_LEVEL, LevelBank, Show

CONTROLS = (BLANK, OTHER_LEVEL)
MIN_LAYOUTS = 10
LAG_UNIT = "thinking steps"


class Ladder(Protocol):
    """N = rungs x layouts levels, rung after rung; see `subjects.envs.ladders`."""

    @property
    def levels(self) -> LevelSet: ...

    @property
    def layout_ids(self) -> Tensor: ...


@dataclass(frozen=True)
class Lags:
    """What a ladder came to, for the agent or a control.

    rungs (R,): what grows. steps (T,): thinking steps tried. right (T, M, R): first moves, 0 or 1, on M layouts.
    """

    rungs: np.ndarray
    steps: np.ndarray
    right: np.ndarray

    @property
    def lag(self) -> np.ndarray:
        """(M, R) thinking steps: the area between the first moves' last value and their course."""
        short = self.right[-1] - self.right
        return np.trapezoid(short, self.steps, axis=0)

    @property
    def slopes(self) -> np.ndarray:
        """(M,) thinking steps a unit of the rung: least squares over the rungs of each layout."""
        centred = self.rungs - self.rungs.mean()
        return self.lag @ centred / (centred @ centred)


def measure_lags(
    policy: Policy,
    make_env: EnvMaker,
    ladder: Ladder,
    first_moves: Tensor,
    rungs: Sequence[float],
    thinking_steps: Sequence[int],
    *,
    seed: int = 0,
) -> dict[str, Lags]:
    """Lags of the agent ('thinking') and of memories that have run as long on something else (`CONTROLS`).

    Args: first_moves (N, 4) bool, the optimal ones; rungs (R,), in the order of the ladder; thinking_steps from 0 up.
    Raises: TooFewLevelsError; ShapeError (rungs or moves do not fit the ladder); AddressError (thinking steps).
    """
    steps = np.array(sorted(set(thinking_steps)))
    if len(steps) < 2 or steps[0] != 0:
        raise AddressError(f"thinking_steps {tuple(thinking_steps)}: a lag needs 0 and at least one longer look.")
    num_layouts = len(set(ladder.layout_ids.tolist()))
    if num_layouts < MIN_LAYOUTS:
        raise TooFewLevelsError(f"a law needs {MIN_LAYOUTS} layouts or more, got {num_layouts}.")
    if len(ladder.levels) != num_layouts * len(rungs) or tuple(first_moves.shape) != (len(ladder.levels), 4):
        raise ShapeError(
            f"{len(ladder.levels)} levels, {num_layouts} layouts, {len(rungs)} rungs, first moves "
            f"{tuple(first_moves.shape)}: a ladder has one level a layout and rung, and needs (N, 4) moves."
        )
    bank = LevelBank(make_env, ladder.levels, first_moves)
    donors = bank.draw_donors(seed)
    shows: dict[str, Show | None] = {
        "thinking": None,
        BLANK: lambda ids, seen: torch.zeros_like(seen),
        OTHER_LEVEL: lambda ids, seen: bank.first_observation(donors[ids]),
    }
    grows = np.asarray(rungs, dtype=np.float64)
    courses = {name: bank.first_moves_over_time(policy, steps.tolist(), show=show) for name, show in shows.items()}
    return {name: Lags(grows, steps, _by_layout(course, len(grows))) for name, course in courses.items()}


def _by_layout(right: np.ndarray, num_rungs: int) -> np.ndarray:
    """(T, R*M), rung after rung -> (T, M, R)."""
    return right.reshape(len(right), num_rungs, -1).transpose(0, 2, 1)


def _compare_slopes(lags: dict[str, Lags], *, unit: str, seed: int) -> tuple[Effect, dict[str, Effect], str, Effect]:
    """The law's slope, each control's, the name of the best control, and the slope beyond it; clustered by layout."""
    slopes = {name: each.slopes for name, each in lags.items()}
    nothing = np.zeros_like(slopes["thinking"])
    effects = {name: bootstrap_difference(each, nothing, unit=unit, seed=seed) for name, each in slopes.items()}
    controls = {name: slopes[name] for name in lags if name != "thinking"}
    best, beyond = difference_over_best(slopes["thinking"], controls, unit=unit, seed=seed)
    return effects["thinking"], {name: effects[name] for name in controls}, best, beyond


def judge_law(
    lags: dict[str, Lags], *, unit: str, rung_name: str, min_effect: float, recurrent: bool, seed: int, **names: str
) -> Evidence:
    """Evidence about the slope of lag; names: detector, name, claim and falsifies of `Evidence`."""
    effect, controls, best, beyond = _compare_slopes(lags, unit=unit, seed=seed)
    power = power_of_interval(beyond, min_effect=min_effect)
    mean_lag = float(lags["thinking"].lag.mean())
    notes = [f"Best control: {best}.", f"Mean lag over the whole ladder: {mean_lag:+.3f} thinking steps."]
    outcome = decide(beyond, min_effect=min_effect, power=power)
    if not recurrent:
        notes.insert(0, "A feed-forward net has no lag by construction: that is no evidence of anything.")
        outcome = "inconclusive"
    return Evidence(
        effect=effect, controls=controls, beyond_controls=beyond, min_effect=min_effect, power=power, outcome=outcome,
        rows=lag_rows(lags, rung_name, seed=seed), notes=notes, **names,
    )  # fmt: skip


def lag_rows(lags: dict[str, Lags], rung_name: str, *, seed: int) -> list[Row]:
    """One row a rung and variant: mean lag, and the share of right first moves after each number of steps."""
    rows: list[Row] = []
    for name, each in lags.items():
        for index, rung in enumerate(each.rungs):
            lag = cluster_bootstrap(each.lag[:, index], unit=LAG_UNIT, seed=seed)
            row: Row = {
                "variant": name, rung_name: float(rung), "num_layouts": lag.n, "lag": lag.value, "lag_low": lag.low,
                "lag_high": lag.high,
            }  # fmt: skip
            row |= {f"right_after_{step}": float(each.right[t, :, index].mean()) for t, step in enumerate(each.steps)}
            rows.append(row)
    return rows
