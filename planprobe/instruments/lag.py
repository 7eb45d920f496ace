"""Thinking lag: how long an agent must look at a level before its first move is the one it ends up with.

Accuracy alone cannot tell a hard level from one that needs time. Lag can: it is the time that passes while the first
move is still worse than after the longest look, and is zero on average for whoever never changes its mind, however bad
it is. On ladders of levels where only one thing grows, the slope of lag is a law: ticks needed against distance, or
against the number of candidates.

How good a first move is, is how probable the policy makes the optimal ones. Its likeliest move has the same mean where
the policy guesses, and so the same lag, but it is a coin toss on every level: on 80 layouts the tosses of a wavefront
alone made an error of .12 steps a doubling of candidates, the probabilities one of .01.

The controls are memories that have run as long on something else. That of another level is what the agent's own memory
is there at the same time, taken from several other levels each, since it may happen to help or to mislead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, ShapeError, TooFewLevelsError
from planprobe.core.grid import NUM_MOVES
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, take_boards
from planprobe.core.protocols import Policy
from planprobe.core.records import Effect, Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.proportions import power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, difference_over_best, ratio
from planprobe.instruments.thinking import BLANK, OTHER_LEVEL

THINKING = "thinking"
CONTROLS = (BLANK, OTHER_LEVEL)
MIN_LAYOUTS = 10
NUM_DONORS = 4  # other levels whose memory each level is given
LAG_UNIT = "thinking steps"


class Ladder(Protocol):
    """N = rungs x rows levels, rung after rung; see `subjects.envs.ladders`."""

    @property
    def levels(self) -> LevelSet: ...

    @property
    def layout_ids(self) -> Tensor: ...


@dataclass(frozen=True)
class Lags:
    """What a ladder came to, for the agent or a control.

    rungs (R,): what grows. steps (T,): thinking steps tried. right (T, M, R): probability of an optimal first move, on
    M rows of rungs. layouts (M,) int: the unit to resample. strata (M,) int: kinds of row, which weigh alike however
    many there are of each.
    """

    rungs: np.ndarray
    steps: np.ndarray
    right: np.ndarray
    layouts: np.ndarray
    strata: np.ndarray

    @property
    def lag(self) -> np.ndarray:
        """(M, R) thinking steps: the area between the first moves' last value and their course."""
        short = self.right[-1] - self.right
        return np.trapezoid(short, self.steps, axis=0)

    @property
    def slopes(self) -> np.ndarray:
        """(M,) thinking steps a unit of the rung: least squares over the rungs of each row."""
        centred = self.rungs - self.rungs.mean()
        return self.lag @ centred / (centred @ centred)

    def by_layout(self, values: np.ndarray) -> np.ndarray:
        """Values (M,) of rows as sum and number of each layout and stratum, (layouts, strata, 2)."""
        layouts, strata = (np.unique(part, return_inverse=True)[1] for part in (self.layouts, self.strata))
        sums = np.zeros((layouts.max() + 1, strata.max() + 1, 2))
        np.add.at(sums, (layouts, strata), np.stack([values, np.ones_like(values)], axis=-1))
        return sums


def mean_of_strata(sums: np.ndarray) -> np.ndarray:
    """Mean of the means of the strata that hold anything: (..., strata, 2) -> (...)."""
    means = ratio(sums)
    return ratio(np.stack([np.nansum(means, axis=-1), (~np.isnan(means)).sum(-1)], axis=-1))


def measure_lags(
    policy: Policy,
    make_env: EnvMaker,
    ladder: Ladder,
    first_moves: Tensor,
    rungs: Sequence[float],
    thinking_steps: Sequence[int],
    *,
    strata: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Lags]:
    """Lags of the agent ('thinking') and of memories that have run as long on something else (`CONTROLS`).

    Args: first_moves (N, 4) bool, the optimal ones; rungs (R,), in the order of the ladder; thinking_steps from 0 up;
        strata (N,) int or bool, alike on all rungs of a row, see `Lags`; None = one.
    Raises: TooFewLevelsError; ShapeError (rungs or moves do not fit the ladder); AddressError (thinking steps).
    """
    steps = np.array(sorted(set(thinking_steps)))
    if len(steps) < 2 or steps[0] != 0:
        raise AddressError(f"thinking_steps {tuple(thinking_steps)}: a lag needs 0 and at least one longer look.")
    num_layouts, num_levels = len(ladder.layout_ids.unique()), len(ladder.levels)
    if num_layouts < MIN_LAYOUTS:
        raise TooFewLevelsError(f"a law needs {MIN_LAYOUTS} layouts or more, got {num_layouts}.")
    if not _stands_on_every_rung(ladder.layout_ids, len(rungs)) or tuple(first_moves.shape) != (num_levels, NUM_MOVES):
        raise ShapeError(
            f"{num_levels} levels of {num_layouts} layouts, {len(rungs)} rungs, first moves "
            f"{tuple(first_moves.shape)}: a ladder has one level a row and rung, and needs (N, 4) moves."
        )
    courses = _follow_first_moves(policy, make_env, ladder.levels, first_moves, len(rungs), steps.tolist(), seed)
    num_rows = num_levels // len(rungs)
    kinds = torch.zeros(num_levels) if strata is None else strata
    layouts, kinds = (part[:num_rows].cpu().numpy() for part in (ladder.layout_ids, kinds))
    grows = np.asarray(rungs, dtype=np.float64)
    # (T, R*M), rung after rung -> (T, M, R)
    by_row = {name: course.reshape(len(steps), len(rungs), -1).transpose(0, 2, 1) for name, course in courses.items()}
    return {name: Lags(grows, steps, right, layouts, kinds) for name, right in by_row.items()}


def _stands_on_every_rung(layout_ids: Tensor, num_rungs: int) -> bool:
    """Whether levels (N,) rung after rung are of the same layouts in the same order."""
    if len(layout_ids) % num_rungs:
        return False
    by_rung = layout_ids.view(num_rungs, -1)
    return bool((by_rung == by_rung[0]).all())


@torch.no_grad()
def _follow_first_moves(
    policy: Policy,
    make_env: EnvMaker,
    levels: LevelSet,
    first_moves: Tensor,
    num_rungs: int,
    steps: Sequence[int],
    seed: int,
) -> dict[str, np.ndarray]:
    """Probability of an optimal first move after each number of thinking steps, (T, N), for the agent and controls.

    Everything comes from one run: what the memory of another level is like is known from that level's own run, and the
    memory of a blank frame is the same for all.
    """
    num_levels = len(levels)
    # all rungs of some rows together, so that the other levels come from every rung
    order = torch.arange(num_levels).view(num_rungs, -1).T.flatten()
    generator = torch.Generator().manual_seed(seed)
    courses = {name: np.zeros((len(steps), num_levels)) for name in (THINKING, *CONTROLS)}
    for ids in order.chunk(math.ceil(num_levels / BATCH_BOARDS)):
        seen = make_env(levels, len(ids)).reset(ids)
        right = first_moves[ids].to(seen.device)
        donors = _draw_donors(len(ids), generator).to(seen.device)
        same = torch.zeros(len(ids), dtype=torch.int64, device=seen.device)
        state = policy.initial_state(len(ids), (levels.height, levels.width))
        blank = take_boards(state, same[:1])
        for step in range(max(steps) + 1):
            logits, _, after = policy.step(seen, state)
            if step in steps:
                row, now = steps.index(step), _share_right(logits, right)
                courses[THINKING][row, ids] = now
                if step == 0:  # nothing has been remembered yet, of whatever level
                    courses[BLANK][row, ids] = courses[OTHER_LEVEL][row, ids] = now
                else:
                    logits = policy.step(seen, take_boards(blank, same))[0]
                    courses[BLANK][row, ids] = _share_right(logits, right)
                    given = [policy.step(seen, take_boards(state, each))[0] for each in donors]
                    courses[OTHER_LEVEL][row, ids] = np.mean([_share_right(each, right) for each in given], axis=0)
            blank = policy.step(torch.zeros_like(seen[:1]), blank)[2]
            state = after
    return courses


def _draw_donors(num_boards: int, generator: torch.Generator) -> Tensor:
    """`NUM_DONORS` other boards for each, (donors, B): steps along one cycle, so that none is its own donor."""
    order = torch.randperm(num_boards, generator=generator)
    return torch.stack([torch.empty_like(order).scatter_(0, order, order.roll(1 + by)) for by in range(NUM_DONORS)])


def _share_right(logits: Tensor, right: Tensor) -> np.ndarray:
    """Probability of the right moves (B, 4) under the policy's logits (B, A), of which a no-op is never right, (B,)."""
    return (logits.double().softmax(-1)[:, :NUM_MOVES] * right).sum(1).cpu().numpy()


def _compare_slopes(lags: dict[str, Lags], *, unit: str, seed: int) -> tuple[Effect, dict[str, Effect], str, Effect]:
    """The law's slope, each control's, the name of the best control, and the slope beyond it; clustered by layout."""
    slopes = {name: each.by_layout(each.slopes) for name, each in lags.items()}
    nothing = lags[THINKING].by_layout(np.zeros_like(lags[THINKING].slopes))
    effects = {
        name: bootstrap_difference(each, nothing, mean_of_strata, unit=unit, seed=seed) for name, each in slopes.items()
    }
    controls = {name: slopes[name] for name in lags if name != THINKING}
    best, beyond = difference_over_best(slopes[THINKING], controls, mean_of_strata, unit=unit, seed=seed)
    return effects[THINKING], {name: effects[name] for name in controls}, best, beyond


def judge_law(
    lags: dict[str, Lags], *, unit: str, rung_name: str, min_effect: float, recurrent: bool, seed: int, **names: str
) -> Evidence:
    """Evidence about the slope of lag; names: detector, name, claim and falsifies of `Evidence`."""
    effect, controls, best, beyond = _compare_slopes(lags, unit=unit, seed=seed)
    power = power_of_interval(beyond, min_effect=min_effect)
    mean_lag = float(lags[THINKING].lag.mean())
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
            sums = each.by_layout(each.lag[:, index])
            lag = cluster_bootstrap(sums, mean_of_strata, unit=LAG_UNIT, seed=seed)
            row: Row = {
                "variant": name, rung_name: float(rung), "num_layouts": lag.n, "lag": lag.value, "lag_low": lag.low,
                "lag_high": lag.high,
            }  # fmt: skip
            row |= {f"right_after_{step}": float(each.right[t, :, index].mean()) for t, step in enumerate(each.steps)}
            rows.append(row)
    return rows
