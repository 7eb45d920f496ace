"""D3, candidate law: does an agent need more ticks the more routes there are to tell apart, at one distance?

It asks what kind of planning it is, not whether: a sweep that spreads over all squares at once takes as long for many
candidates as for few; a search that follows them one by one, or draws them, takes longer. Lag as in D2, over the
logarithm of the number of candidates.

An agent that heads for the goal until it knows better is late only where heading is wrong. Rungs are therefore compared
where it is right on all of them, or wrong on all, and both kinds weigh alike: guessing is right half the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Evidence
from planprobe.instruments.lag import CONTROLS as CONTROLS
from planprobe.instruments.lag import Ladder, judge_law, measure_lags

CLAIM = "The time that the agent needs grows with the number of candidate routes: it takes them one after another."
NEEDS = ("a recurrent policy", "a candidate ladder at one distance", "optimal first moves")
FALSIFIES = "a serial or sampled search; what is left is a parallel sweep"
UNIT = "thinking steps of lag per doubling of candidates"


def run(
    policy: Policy,
    make_env: EnvMaker,
    ladder: Ladder,
    first_moves: Tensor,
    candidates: Sequence[int],
    *,
    heading: Tensor | None = None,
    thinking_steps: Sequence[int] = (0, 1, 2, 4, 8, 16),
    min_effect: float,
    seed: int = 0,
) -> Evidence:
    """The slope of lag over the rungs of a candidate ladder; arguments of `lag.measure_lags`.

    Args: heading (N,) bool, whether the optimal first move is the one that heads for the goal, alike on all rungs of a
        row; None: not known, one kind of row.
    Returns: effect = mean slope over layouts; controls = the same after looking at a blank frame, or at another level.
        The whole ladder has one mean lag; it stands in the notes, since a slope of zero says nothing where no time is
        needed at all.
    Raises: TooFewLevelsError; ShapeError; AddressError.
    """
    doublings = [math.log2(count) for count in candidates]
    lags = measure_lags(policy, make_env, ladder, first_moves, doublings, thinking_steps, strata=heading, seed=seed)
    recurrent = bool(policy.initial_state(1, (ladder.levels.height, ladder.levels.width)))
    return judge_law(
        lags, unit=UNIT, rung_name="doublings", min_effect=min_effect, recurrent=recurrent, seed=seed, detector="D3",
        name="candidate_law", claim=CLAIM, falsifies=FALSIFIES,
    )  # fmt: skip
