"""D16, where the plan lives: in what is carried from step to step, or in the ticks of each step?

The agent plays with its memory kept, and with memory reset before every step, which leaves it the ticks of that one
step. What it then loses, it had from memory. It may have lost mere computing time with it: so the same weights are also
given more ticks within each step, reset all the same. If those make up for the loss, the agent works everything out
anew in each step and memory was but a slower clock; if not, what was worked out is carried along. Nothing here says
that it is a plan: an agent that is lost without any memory, whatever for, gives the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.proportions import paired_difference, paired_proportion_power, proportion
from planprobe.instruments.statistics.stats import cluster_bootstrap
from planprobe.instruments.thinking import LevelBank, Played, play_more_ticks

CLAIM = "What the agent works out is carried from step to step in its memory, and more ticks within a step do not do."
NEEDS = ("a recurrent policy", "levels that it solves")
KEPT, RESET = "memory kept", "memory reset each step"
CONTROLS = (RESET, f"{RESET}, more ticks")
FALSIFIES = "that the agent needs what it worked out in earlier steps"
UNIT = "fraction of levels solved"

MIN_LEVELS = 10


def run(
    policy: Policy,
    make_env: EnvMaker,
    levels: LevelSet,
    *,
    min_effect: float,
    tick_factors: Sequence[int] = (2, 4),
    first_moves: Tensor | None = None,
    seed: int = 0,
) -> Evidence:
    """Play every level with memory kept, reset, and reset with more ticks in each step.

    Args: levels: held out. min_effect: smallest loss that counts, fixed beforehand. tick_factors: times the ticks of
        training, where the net can tick more often. first_moves (N, 4) bool: the right ones, for rows; a first move has
        no earlier step, so it tells what ticks alone can do.
    Returns: effect = share solved with memory kept; controls = with memory reset, by number of ticks; beyond_controls =
        the loss beyond the best of them.
    Raises: TooFewLevelsError.
    """
    if len(levels) < MIN_LEVELS:
        raise TooFewLevelsError(f"memory use needs {MIN_LEVELS} levels or more, got {len(levels)}.")
    bank = LevelBank(make_env, levels, first_moves)
    recurrent = bool(policy.initial_state(1, (levels.height, levels.width)))
    played: dict[str, Played] = {KEPT: bank.play(policy), RESET: bank.play(policy, reset_memory=True)}
    more = play_more_ticks(policy, bank, tick_factors, reset_memory=True) if recurrent else {}
    played |= {f"{RESET}, {ticks} ticks": result for ticks, result in more.items()}
    solved = {name: result.solved == 1 for name, result in played.items()}
    losses = {name: paired_difference(solved[KEPT], part, unit=UNIT) for name, part in solved.items() if name != KEPT}
    best = min(losses, key=lambda name: losses[name].value)
    beyond = losses[best]
    differs = float((solved[KEPT] != solved[best]).mean())
    power = paired_proportion_power(len(levels), effect=min_effect, discordant_rate=differs)
    notes = [f"Best without memory: {best}, {solved[best].mean():.3f} solved; with it {solved[KEPT].mean():.3f}."]
    if not recurrent:
        notes.append("The net keeps nothing from step to step: there is no memory to be needed.")
    return Evidence(
        detector="D16", name="memory_use", claim=CLAIM, effect=proportion(solved[KEPT], unit=UNIT),
        controls={name: proportion(part, unit=UNIT) for name, part in solved.items() if name != KEPT},
        beyond_controls=beyond, min_effect=min_effect, power=power,
        outcome=decide(beyond, min_effect=min_effect, power=power) if recurrent else "inconclusive",
        falsifies=FALSIFIES, rows=[_row(name, result, seed) for name, result in played.items()], notes=notes,
    )  # fmt: skip


def _row(name: str, played: Played, seed: int) -> Row:
    share = proportion(played.solved == 1)
    row: Row = {"condition": name, "solved": share.value, "solved_low": share.low, "solved_high": share.high}
    row |= {"num_levels": share.n, "first_move": None, "first_move_low": None, "first_move_high": None}
    if np.isfinite(played.first_move).sum() > 1:
        moves = cluster_bootstrap(played.first_move, seed=seed)
        row |= {"first_move": moves.value, "first_move_low": moves.low, "first_move_high": moves.high}
    return row
