"""D2, distance law: does an agent need more ticks the further away the goal is?

A value that spreads, or a path that is walked in thought, takes time in proportion to its length; a reaction does not.
On a ladder every layout stands on every rung with the goal further off, two open moves at each start and one of them
right, so that neither the maze nor the number of options can explain a slope. What is measured is lag (`lag.py`), not
accuracy: far levels are harder for everybody, but only for who computes do they take longer. A distance beyond what one
step's ticks can carry (D x K squares for 3x3 kernels) cannot be crossed by wiring alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Evidence
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.lag import CONTROLS as CONTROLS
from planprobe.instruments.lag import Ladder, compare_slopes, lag_rows, measure_lags
from planprobe.instruments.proportions import power_of_interval

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
    effect, controls, best, beyond = compare_slopes(lags, unit=UNIT, seed=seed)
    power = power_of_interval(beyond, min_effect=min_effect)
    evidence = Evidence(
        detector="D2", name="distance_law", claim=CLAIM, effect=effect, controls=controls, beyond_controls=beyond,
        min_effect=min_effect, power=power, outcome=decide(beyond, min_effect=min_effect, power=power),
        falsifies=FALSIFIES, rows=lag_rows(lags, "distance", seed=seed), notes=[f"Best control: {best}."],
    )  # fmt: skip
    if not policy.initial_state(1, (ladder.levels.height, ladder.levels.width)):
        note = "A feed-forward net has no lag by construction: that is no evidence of anything."
        return replace(evidence, outcome="inconclusive", notes=[note, *evidence.notes])
    return evidence
