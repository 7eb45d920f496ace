"""D10, revaluation: the world changes, no reward says so. Does the agent act on what is best now?

It looks at a level until a plan can stand in its memory; then a wall opens or closes out of reach of its next moves, in
plain sight, such that another first move is the only good one. A cached route, or a habit, goes the old way. The
control is the same memory shown the old board once more: what of the new moves was there without the change. An agent
that looks nowhere but at the squares beside it sees no change.

Refuted, it leaves open whether the agent worked its route out once, before it stopped looking. So the new board is also
shown to a blank memory, for as long: a board that nobody has met, whose good move neither the old one nor the goal's
direction tells. That lead is in the rows, and is not judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, TooFewLevelsError
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker
from planprobe.core.protocols import Policy, State
from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.proportions import paired_proportion_power
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, difference_over_best

CLAIM = "The agent works its move out anew from the changed board, before any reward has told it to."
NEEDS = ("a policy", "pairs of levels before and after a change, each with one optimal first move")
CONTROLS = ("old board", "memory reset, old board")
FALSIFIES = "that the agent acts on a route that it has stored rather than on the board as it is"
UNIT = "fraction of first moves that are the new optimal one"

MIN_PAIRS = 10
AFRESH = "new board, no memory"
SAME_MEMORY = {"new board": "old board", AFRESH: "memory reset, old board"}


class Changes(Protocol):
    """N levels before (clean) and after (corrupted) a change; see `core.pairs.LevelPairs`."""

    @property
    def clean(self) -> LevelSet: ...

    @property
    def corrupted(self) -> LevelSet: ...

    @property
    def clean_actions(self) -> Tensor: ...

    @property
    def corrupted_actions(self) -> Tensor: ...

    @property
    def level_ids(self) -> Tensor: ...

    @property
    def change(self) -> str: ...


def run(
    policy: Policy,
    make_env: EnvMaker,
    changes: Changes,
    *,
    steps_before: int = 8,
    steps_after: Sequence[int] = (0, 1, 2, 4, 8),
    min_effect: float,
    seed: int = 0,
) -> Evidence:
    """Think on the old board, change it, act.

    Args: steps_before: thinking steps on the old board. steps_after: thinking steps on the new one before the move, the
        first of which is judged (0: at once); the others are in the rows.
    Returns: effect = share of new optimal moves after the change less the share without it, one value a level.
    Raises: TooFewLevelsError; AddressError (no number of steps).
    """
    if len(changes.level_ids) < MIN_PAIRS:
        raise TooFewLevelsError(f"revaluation needs {MIN_PAIRS} changed levels or more, got {len(changes.level_ids)}.")
    if not steps_after or min(*steps_after, steps_before) < 0:
        raise AddressError(f"steps_before {steps_before}, steps_after {tuple(steps_after)}: name numbers from 0 up.")
    judged = steps_after[0]
    chosen = _first_actions(policy, make_env, changes, steps_before, steps_after)
    new, old = changes.corrupted_actions, changes.clean_actions
    goes_new = {key: (actions == new).double().numpy() for key, actions in chosen.items()}
    moved = goes_new["new board", judged]
    controls = {name: goes_new[name, judged] for name in CONTROLS}
    nothing = np.zeros_like(moved)
    best, beyond = difference_over_best(moved, controls, unit=UNIT, seed=seed)
    differs = float(np.abs(moved - controls[best]).mean())
    power = paired_proportion_power(len(moved), effect=min_effect, discordant_rate=differs)
    return Evidence(
        detector="D10", name="revaluation", claim=CLAIM,
        effect=bootstrap_difference(moved, nothing, unit=UNIT, seed=seed),
        controls={name: bootstrap_difference(part, nothing, unit=UNIT, seed=seed) for name, part in controls.items()},
        beyond_controls=beyond, min_effect=min_effect, power=power,
        outcome=decide(beyond, min_effect=min_effect, power=power), falsifies=FALSIFIES,
        rows=[
            _row(key, actions, new, old, changes.change, seed)
            | {"judged": key[1] == judged} | _lead(key, goes_new, seed)
            for key, actions in chosen.items()
        ],
        notes=[
            f"Change: {changes.change}, after {steps_before} thinking steps on the old board; judged after {judged} "
            f"thinking steps on the new one. Best control: {best}."
        ],
    )  # fmt: skip


def _first_actions(
    policy: Policy, make_env: EnvMaker, changes: Changes, steps_before: int, steps_after: Sequence[int]
) -> dict[tuple[str, int], Tensor]:
    """Greedy first action (N,) by condition and thinking steps after the change."""
    parts: dict[tuple[str, int], list[Tensor]] = {}
    for ids in torch.arange(len(changes.level_ids)).split(BATCH_BOARDS):
        before, after = (make_env(levels, len(ids)).reset(ids) for levels in (changes.clean, changes.corrupted))
        blank = policy.initial_state(len(ids), (changes.clean.height, changes.clean.width))
        with torch.no_grad():
            memory = blank
            for _ in range(steps_before):
                memory = policy.step(before, memory)[2]
            runs = {
                "new board": (after, memory), "old board": (before, memory), AFRESH: (after, blank),
                "memory reset, old board": (before, blank),
            }  # fmt: skip
            for name, (seen, state) in runs.items():
                for count, action in _actions_after(policy, seen, state, steps_after).items():
                    parts.setdefault((name, count), []).append(action)
    return {key: torch.cat(actions) for key, actions in parts.items()}


def _actions_after(policy: Policy, seen: Tensor, state: State, counts: Sequence[int]) -> dict[int, Tensor]:
    """What the policy would do after each number of further looks at the same observation."""
    actions = {}
    for step in range(max(counts) + 1):
        logits, _, state = policy.step(seen, state)
        if step in counts:
            actions[step] = logits.argmax(-1).cpu()
    return actions


def _lead(key: tuple[str, int], goes_new: dict[tuple[str, int], np.ndarray], seed: int) -> Row:
    """How much more often the new move is made than by the same memory on the old board, after as long a look."""
    condition, count = key
    if condition not in SAME_MEMORY:
        return dict.fromkeys(("lead", "lead_low", "lead_high"))
    lead = bootstrap_difference(goes_new[key], goes_new[SAME_MEMORY[condition], count], unit=UNIT, seed=seed)
    return {"lead": lead.value, "lead_low": lead.low, "lead_high": lead.high}


def _row(key: tuple[str, int], actions: Tensor, new: Tensor, old: Tensor, change: str, seed: int) -> Row:
    row: Row = {"condition": key[0], "change": change, "thinking_steps_after": key[1], "num_levels": len(actions)}
    for name, moves in (("new", new), ("old", old)):
        share = cluster_bootstrap((actions == moves).double().numpy(), unit=UNIT, seed=seed)
        row |= {f"{name}_move": share.value, f"{name}_move_low": share.low, f"{name}_move_high": share.high}
    return row
