"""D2, distance law: does an agent need more ticks the further away the goal is?

A value that spreads, or a path that is walked in thought, takes time in proportion to its length; a reaction does not.
On a ladder every layout stands on every rung with the goal further off, two open moves at each start and one of them
right, so that neither the maze nor the number of options can explain a slope. What is measured is lag (`lag.py`), not
accuracy: far levels are harder for everybody, but only for who computes do they take longer. A distance beyond what one
step's ticks can carry (D x K squares for 3x3 kernels) cannot be crossed by wiring alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Evidence
from planprobe.instruments.lag import CONTROLS as CONTROLS
from planprobe.instruments.lag import Ladder, judge_law, measure_lags

CLAIM = "The time that the agent needs grows with the distance to the goal: it works its way along the board."
NEEDS = ("a recurrent policy", "a distance ladder", "optimal first moves")
FALSIFIES = "that the agent works out its route square by square over the ticks of several steps"
UNIT = "thinking steps of lag per move of distance"


def run(
    policy: Policy,
    make_env: EnvMaker,
    ladder: Ladder,
    first_moves: Tensor,
    distances: Sequence[int],
    *,
    thinking_steps: Sequence[int] = (0, 1, 2, 4, 8, 16),
    min_effect: float,
    seed: int = 0,
) -> Evidence:
    """The slope of lag over the rungs of a distance ladder; arguments of `lag.measure_lags`.

    Returns: effect = mean slope over layouts; controls = the same after looking at a blank frame, or at another level.
    Raises: TooFewLevelsError; ShapeError; AddressError.
    """
    lags = measure_lags(policy, make_env, ladder, first_moves, distances, thinking_steps, seed=seed)
    recurrent = bool(policy.initial_state(1, (ladder.levels.height, ladder.levels.width)))
    return judge_law(
        lags, unit=UNIT, rung_name="distance", min_effect=min_effect, recurrent=recurrent, seed=seed, detector="D2",
        name="distance_law", claim=CLAIM, falsifies=FALSIFIES,
    )  # fmt: skip
