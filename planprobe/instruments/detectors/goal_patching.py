"""D8, goal patching: put another goal into the agent. Is the way that it then works out the right one?

The agent looks at a maze with its own goal until a plan can stand. From then on a donor's activations stand at the
squares around both goals, and nowhere else; the donor is the same net in the same maze and on the same square, with the
goal elsewhere. Nothing is put in on the way between, so what the agent does at its start about the donor's goal has
been worked out anew from there. Judged is the whole walk: a shortest way to the donor's goal, in mazes it was never
trained on, where walking straight towards a goal does not lead to it in time.

On a board the goal is in sight at every step, and this decides what can be shown. Three places can be patched. In the
*encoding* the goal enters the net: held to the end, this is the goal moved on the board as the net sees it, so it asks
for a new way to a new goal, like D10, and a net without memory may pass. In the *memory* (hidden states and cells) the
goal stays in sight. As wide a patch as the squares that see a goal directly (two around it, for two 3x3 kernels) hides
it, though, from all the rest of the net: it shows that the way is worked out from what memory holds at the goals, but
only a narrower one sets memory against sight. *Both* is the two at once. Whether a goal is *kept* is told by letting
go: a goal or a plan that is stored survives the edit's end, one that is read from the board anew does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, TooFewLevelsError, unknown_name
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, Rollout, join_rollouts, play
from planprobe.core.protocols import State
from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.hooks import OpenedPolicy
from planprobe.instruments.patching.lockstep import LockstepPatch, squares_around
from planprobe.instruments.statistics.proportions import paired_proportion_power, proportion
from planprobe.instruments.statistics.stats import bootstrap_difference, difference_over_best

CLAIM = "A goal put in at the goals' squares alone sends the agent a right way to it: the way follows from the goal."
NEEDS = ("an opened policy with spatial sites", "mazes with a second goal round a corner", "a way to show any goal")
WRONG, SAME = "wrong donor", "same goal"
CONTROLS = (WRONG, SAME)
FALSIFIES = "that the agent's way is worked out from a goal that can be told it at the goal's own squares"
UNIT = "fraction of levels walked a shortest way to the donor's goal"

SIGHT = (
    "The goal is in sight all along. A patch of memory as wide as a goal is seen directly hides the goal that is seen, "
    "a narrower one contradicts it. That a goal is kept inside is shown by what remains once the edit is let go alone."
)

MIN_LEVELS = 10
LOOK_STEPS = 8
RADIUS = 2  # squares around a goal that two 3x3 kernels see directly, from the board to the gates
SPARE_MOVES = 8  # beyond the longest way, before an episode is given up
Where = Literal["encoding", "memory", "both"]
ShowGoal = Callable[[Tensor, Tensor], Tensor]
"""(observation (B, C, H, W), goals (B,)) -> the same moment with the goals there."""


class Swaps(Protocol):
    """N mazes with their own goal and a donor's; see `subjects.envs.goal_swaps.GoalSwaps`."""

    @property
    def levels(self) -> LevelSet: ...

    @property
    def own_goals(self) -> Tensor: ...

    @property
    def donor_goals(self) -> Tensor: ...

    @property
    def wrong_goals(self) -> Tensor: ...

    @property
    def other_starts(self) -> Tensor: ...

    @property
    def lengths(self) -> Tensor: ...

    @property
    def first_moves(self) -> Tensor: ...

    @property
    def level_ids(self) -> Tensor: ...


@dataclass(frozen=True)
class Condition:
    """One way of patching. where None: nothing is patched. held: thinking steps after which it is let go, and the agent
    acts at once; None: to the end. shown: the board itself has the donor's goal from then on."""

    donor: str = "donor"
    where: Where | None = None
    radius: int = RADIUS
    held: int | None = None
    look: int = LOOK_STEPS
    shown: bool = False


def run(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    swaps: Swaps,
    show_goal: ShowGoal,
    *,
    min_effect: float,
    where: Where = "encoding",
    **options,
) -> Evidence:
    """Look at the own goal, put in the donor's, look as long again, act; options of `run_everywhere`.

    Args: where: what is judged, held to the end; fixed beforehand. Rows report every place.
    Raises: TooFewLevelsError; AddressError (nothing to patch, no look); UnknownNameError (no such place in this net).
    """
    places = _places(opened)
    if where not in places:
        raise unknown_name("place to patch", where, places, where=opened.title)
    return run_everywhere(opened, make_env, swaps, show_goal, min_effect=min_effect, **options)[where]


def run_everywhere(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    swaps: Swaps,
    show_goal: ShowGoal,
    *,
    min_effect: float,
    radius: int = RADIUS,
    look_steps: int = LOOK_STEPS,
    held_steps: Sequence[int] = (2, 8),
    radii: Sequence[int] = (0, 1),
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> dict[Where, Evidence]:
    """Evidence by place, all of the same walks; nets without memory have the encoding alone.

    Args:
        radius: squares around the goals that are judged. look_steps: on the own goal, and again after the change.
        held_steps: thinking steps after which an edit is let go, and radii, that rows report beside it.
    Returns: effect = share of levels walked a shortest way to the donor's goal; controls = the same with a donor that
        has a third goal, and with one that has the own goal and has looked at it from elsewhere.
    """
    if len(swaps.level_ids) < MIN_LEVELS:
        raise TooFewLevelsError(f"goal patching needs {MIN_LEVELS} levels or more, got {len(swaps.level_ids)}.")
    if look_steps < 1:
        raise AddressError(f"look_steps {look_steps}: the agent must have looked before its goal is changed.")
    places = _places(opened)
    conditions = _conditions(list(places), radius, look_steps, radii, held_steps)
    walks: dict[Condition, Rollout] = {}
    for done, condition in enumerate(conditions):
        walks[condition] = _play(opened, make_env, swaps, show_goal, condition, places)
        if on_progress:
            on_progress((done + 1) / len(conditions))
    arrives = {condition: _walks_shortest(walk, swaps) for condition, walk in walks.items()}
    rows = [_row(condition, walk, arrives[condition], swaps) for condition, walk in walks.items()]
    return {
        place: _judge(Condition("donor", place, radius, look=look_steps), arrives, rows, min_effect, seed)
        for place in places
    }


def _judge(
    judged: Condition, arrives: dict[Condition, np.ndarray], rows: list[Row], min_effect: float, seed: int
) -> Evidence:
    moved = arrives[judged]
    controls = {name: arrives[replace(judged, donor=name)] for name in CONTROLS}
    nothing = np.zeros_like(moved)
    best, beyond = difference_over_best(moved, controls, unit=UNIT, seed=seed)
    differs = float(np.abs(moved - controls[best]).mean())
    power = paired_proportion_power(len(moved), effect=min_effect, discordant_rate=differs)
    return Evidence(
        detector="D8", name="goal_patching", claim=CLAIM,
        effect=bootstrap_difference(moved, nothing, unit=UNIT, seed=seed),
        controls={name: bootstrap_difference(part, nothing, unit=UNIT, seed=seed) for name, part in controls.items()},
        beyond_controls=beyond, min_effect=min_effect, power=power,
        outcome=decide(beyond, min_effect=min_effect, power=power), falsifies=FALSIFIES, rows=rows,
        notes=_notes(judged, arrives, best),
    )  # fmt: skip


def _conditions(
    places: list[Where], radius: int, look: int, radii: Sequence[int], held: Sequence[int]
) -> list[Condition]:
    """None twice."""
    found = [Condition("none", look=look), Condition("none", look=look, shown=True)]
    for place in places:
        found += [Condition(donor, place, radius, look=look) for donor in ("donor", *CONTROLS)]
        found += [Condition("donor", place, each, look=look) for each in radii]
        found += [Condition("donor", place, radius, held=steps, look=look) for steps in held]
    return list(dict.fromkeys(found))


def _places(opened: OpenedPolicy) -> dict[Where, list[str]]:
    """Sites by place; only the encoding where a net keeps nothing."""
    shapes = opened.sites()
    spatial = [site for site, shape in shapes.items() if len(shape) == 3 and shape[1] > 1]
    if "hook_encode" not in spatial:
        raise AddressError(f"{opened.title} has no encoding of the board with squares (hook_encode): nothing to patch.")
    has_memory = bool(opened.initial_state(1))
    memory = [site for site in spatial if site.endswith((".hook_h", ".hook_c")) and site.startswith("ticks.")]
    if not (has_memory and memory):
        return {"encoding": ["hook_encode"]}
    return {"encoding": ["hook_encode"], "memory": memory, "both": ["hook_encode", *memory]}


@torch.no_grad()
def _play(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    swaps: Swaps,
    show_goal: ShowGoal,
    condition: Condition,
    places: dict[Where, list[str]],
) -> Rollout:
    """Every level once."""
    board, parts = (swaps.levels.height, swaps.levels.width), []
    after = condition.held if condition.held is not None else max(condition.look, 1)
    last = None if condition.held is None else condition.look + condition.held
    for ids in torch.arange(len(swaps.level_ids)).split(BATCH_BOARDS):
        goals = swaps.wrong_goals if condition.donor == WRONG else swaps.donor_goals
        squares = squares_around(torch.stack([swaps.own_goals[ids], goals[ids]], 1), board, condition.radius)
        patched = LockstepPatch(
            opened, _donor_view(condition, make_env, swaps, ids, show_goal),
            places[condition.where] if condition.where else [], squares, first=condition.look, last=last,
        )  # fmt: skip
        policy = _Shown(patched, show_goal, goals[ids], condition.look) if condition.shown else patched
        limit = int(swaps.lengths.max()) + SPARE_MOVES
        env = make_env(swaps.levels, len(ids))
        parts.append(play(policy, env, ids, thinking_steps=condition.look + after, max_steps=limit))
    return join_rollouts(parts)


def _donor_view(
    condition: Condition, make_env: EnvMaker, swaps: Swaps, ids: Tensor, show_goal: ShowGoal
) -> Callable[[Tensor], Tensor]:
    """What the donor sees. With the same goal it would be the receiver itself, so it looks at it from elsewhere."""
    if condition.donor != SAME:
        goals = swaps.wrong_goals[ids] if condition.donor == WRONG else swaps.donor_goals[ids]
        return lambda observation: show_goal(observation, goals)
    elsewhere = LevelSet(swaps.levels.boards[ids], swaps.other_starts[ids])
    looks = iter([make_env(elsewhere, len(ids)).reset(torch.arange(len(ids)))] * condition.look)
    return lambda observation: next(looks, observation)


class _Shown:
    """A policy that sees the donor's goal from a step on: what a goal that really moves would give."""

    def __init__(self, policy: LockstepPatch, show_goal: ShowGoal, goals: Tensor, first: int) -> None:
        self.policy, self.show_goal, self.goals, self.first = policy, show_goal, goals, first
        self.initial_state = policy.initial_state

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        seen = self.show_goal(observation, self.goals) if self.policy.steps >= self.first else observation
        return self.policy.step(seen, state)


def _walks_shortest(walk: Rollout, swaps: Swaps) -> np.ndarray:
    """Whether the agent stands on the donor's goal after as many moves as the shortest way has, (N,) 0 or 1."""
    last = swaps.lengths.clamp(max=walk.positions.shape[1] - 1)[:, None]
    there = walk.positions.gather(1, last).squeeze(1) == swaps.donor_goals
    return (there & (walk.lengths >= swaps.lengths)).double().numpy()


def _row(condition: Condition, walk: Rollout, arrives: np.ndarray, swaps: Swaps) -> Row:
    """Shares with Wilson's intervals."""
    valid = torch.cat([torch.ones(len(walk.active), 1, dtype=torch.bool), walk.active], dim=1)
    reached = ((walk.positions == swaps.donor_goals[:, None]) & valid).any(1)
    row: Row = {
        "donor": condition.donor, "where": "board" if condition.shown else condition.where or "nothing",
        "radius": condition.radius if condition.where else None, "look_steps": condition.look,
        "held_steps": condition.held, "num_levels": len(arrives),
    }  # fmt: skip
    shares = {
        "shortest_to_donor": arrives > 0, "first_move_to_donor": (walk.actions[:, 0] == swaps.first_moves).numpy(),
        "reached_donor": reached.numpy(), "reached_own": walk.solved.numpy(),
    }  # fmt: skip
    for name, outcomes in shares.items():
        share = proportion(outcomes)
        row |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
    return row


def _notes(judged: Condition, arrives: dict[Condition, np.ndarray], best: str) -> list[str]:
    look, radius = judged.look, judged.radius
    board = arrives[Condition("none", look=look, shown=True)].mean()
    notes = [
        f"Judged: {judged.where}, {radius} squares around both goals, after {look} thinking steps on the own goal and "
        f"as many more, held to the end. Best control: {best}. Goal really moved on the board: {board:.2f}."
    ]
    for place in get_args(Where):
        if (held := Condition("donor", place, radius, look=look)) in arrives:
            released = [
                f"{arrives[each].mean():.2f} after {each.held} steps"
                for each in arrives
                if each.where == place and each.held is not None and each.donor == "donor"
            ]
            notes.append(f"{place}: {arrives[held].mean():.2f} held to the end; let go, {', '.join(released)}.")
    return [*notes, SIGHT]


__all__ = ["CLAIM", "CONTROLS", "FALSIFIES", "NEEDS", "Condition", "Swaps", "run", "run_everywhere"]
