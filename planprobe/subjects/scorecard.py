"""The numbers that an agent is published with, and that anyone can compute again to the digit.

One row a number: which levels, how the agent acted, whether it kept its memory, how long it thought first, what was
measured. Everything is counted on held-out levels, one episode a level; intervals are 95 %. Resetting memory before
every step is the control for whatever memory does; on a first move it makes thinking idle by construction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from planprobe.core.errors import LevelFormatError
from planprobe.core.grid import BOX
from planprobe.core.levels import LevelSet
from planprobe.core.play import Rollout
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.subjects.envs.catalog import distances_to_goal, level_set_names, named_levels, wrong_moves
from planprobe.subjects.envs.first_moves import optimal_first_moves
from planprobe.subjects.recipe import TaskRecipe
from planprobe.subjects.training.evaluate import evaluate

NUM_LEVELS = 1000
THINKING_STEPS = (0, 1, 2, 4, 8, 16)
SOLVED, LENGTH, FIRST_MOVE = "solved", "steps when solved", "optimal first move"
Z_95 = 1.959963984540054  # two-sided 95 % of a normal


@dataclass(frozen=True)
class Condition:
    """How an agent plays: greedy or sampled, memory kept or reset each step, thinking steps before the first action."""

    policy: str = "greedy"
    memory: str = "kept"
    thinking_steps: int = 0

    def options(self) -> dict:
        """As options of `core.play.play`."""
        return {
            "greedy": self.policy == "greedy",
            "reset_memory": self.memory != "kept",
            "thinking_steps": self.thinking_steps,
        }


SAMPLED, RESET = Condition(policy="sampled"), Condition(memory="reset each step")


def compute_scores(
    policy: Policy,
    task: TaskRecipe,
    *,
    num_levels: int = NUM_LEVELS,
    thinking_steps: Sequence[int] = THINKING_STEPS,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Play the held-out sets of a task under every condition.

    num_levels: of each set. on_progress(done, total): called after each condition.
    Returns: {'num_levels', 'level_hashes': {set: sha256}, 'rows': [...]}, made of what JSON holds; the same input gives
    the same output to the digit on one kind of machine (another kind may round a convolution, and so an argmax, anew).
    """
    names = [name for name in level_set_names(task) if name not in ("train", "valid")]
    thinking = [Condition(thinking_steps=steps) for steps in thinking_steps]
    jobs: list[tuple[Callable[..., list[Row]], str, Condition]] = []
    for name in names:
        conditions = thinking if name != "far" else [Condition()]
        jobs += [(score_levels, name, condition) for condition in (*conditions, SAMPLED, RESET)]
    if "far" in names:
        resets = [Condition(memory=RESET.memory, thinking_steps=steps) for steps in thinking_steps]
        jobs += [(score_first_moves, "far", condition) for condition in (*thinking, *resets)]
    sets = {name: named_levels(task, name, num_levels) for name in names}
    rows: list[Row] = []
    for done, (score, name, condition) in enumerate(jobs, start=1):
        rows += score(policy, task, sets[name], condition, name=name)
        if on_progress:
            on_progress(done, len(jobs))
    if "far" in names:
        rows.append(_chance_of_first_moves(sets["far"], "far"))
    hashes = {name: levels.hash() for name, levels in sets.items()}
    return {"num_levels": num_levels, "level_hashes": hashes, "rows": rows}


def score_levels(
    policy: Policy, task: TaskRecipe, levels: LevelSet, condition: Condition, *, name: str | None = None
) -> list[Row]:
    """Share of levels solved, and the mean number of steps on solved levels (no row where none is solved).

    Raises: LevelFormatError (levels of another kind of task); BoardSizeError (a flattened head on another size).
    """
    check_levels_fit(task, levels)
    rollout = evaluate(policy, task, levels, **condition.options())
    rows = [_row(name or levels.name, condition, SOLVED, *proportion_interval(rollout.solved))]
    lengths = rollout.lengths[rollout.solved]
    if len(lengths):
        rows.append(_row(name or levels.name, condition, LENGTH, *mean_interval(lengths)))
    return rows


def score_first_moves(
    policy: Policy, task: TaskRecipe, levels: LevelSet, condition: Condition, *, name: str | None = None
) -> list[Row]:
    """Share of mazes whose first move lies on some shortest path; loops often leave several."""
    check_levels_fit(task, levels)
    rollout = evaluate(policy, task, levels, max_steps=1, **condition.options())
    return [
        _row(name or levels.name, condition, FIRST_MOVE, *proportion_interval(is_first_move_optimal(rollout, levels)))
    ]


def is_first_move_optimal(rollout: Rollout, levels: LevelSet) -> Tensor:
    """Whether each first action comes one step closer to the goal, (N,) bool; a no-op never does."""
    optimal = optimal_first_moves(levels, "maze")
    optimal = torch.cat([optimal, torch.zeros_like(optimal[:, :1])], dim=1)
    return optimal.gather(1, rollout.actions[:, :1]).squeeze(1)


def check_levels_fit(task: TaskRecipe, levels: LevelSet) -> None:
    """Raises: LevelFormatError (boxes for an agent that walks mazes, or none for one that pushes boxes).

    A maze environment would walk through boxes, and Sokoban without a box is solved by any step: both would play on.
    """
    has_box = ((levels.boards & BOX) != 0).flatten(1).any(1)
    if task.kind == "maze" and bool(has_box.any()):
        raise LevelFormatError(
            f"level {int(has_box.nonzero()[0])} of '{levels.name}' has boxes, and this agent walks mazes.\n"
            "  Next: give it levels with walls, one '@' and one '.', or take a Sokoban agent: planprobe agents list."
        )
    if task.kind != "maze" and not bool(has_box.all()):
        raise LevelFormatError(
            f"level {int((~has_box).nonzero()[0])} of '{levels.name}' has no box, and this agent pushes boxes.\n"
            "  Next: give it Sokoban levels, or take a maze agent: planprobe agents list."
        )


def find_score(metrics: dict, measure: str = SOLVED, *, levels: str = "test", **condition) -> Row | None:
    """The row of a scorecard under a condition (fields of `Condition`), or None where it was not measured."""
    wanted = {"levels": levels, "measure": measure, **asdict(Condition(**condition))}
    return next((row for row in metrics.get("rows", []) if wanted.items() <= row.items()), None)


def _at_start(moves: Tensor, levels: LevelSet) -> Tensor:
    """What holds on the start square: (N, 4, H, W) -> (N, 4)."""
    return moves.flatten(2).gather(2, levels.players[:, None, None].expand(-1, moves.shape[1], 1)).squeeze(2)


def _chance_of_first_moves(levels: LevelSet, name: str) -> Row:
    """What an agent gets that only knows where the walls beside it are; exact, so its interval is a point."""
    num_wrong = _at_start(wrong_moves(distances_to_goal(levels)[0]), levels).sum(1)
    num_optimal = optimal_first_moves(levels, "maze").sum(1)
    value = float((num_optimal.to(torch.float64) / (num_optimal + num_wrong)).mean())
    return _row(name, Condition(policy="any open move"), FIRST_MOVE, value, value, value, len(levels))


def _row(levels: str, condition: Condition, measure: str, value: float, low: float, high: float, n: int) -> Row:
    interval = {"value": value, "low": low, "high": high, "n": n}
    return {"levels": levels, "measure": measure, **asdict(condition), **interval}


def proportion_interval(hits: Tensor) -> tuple[float, float, float, int]:
    """Share of true entries with Wilson's interval, which stays within [0, 1] at either end."""
    n, share = len(hits), float(hits.to(torch.float64).mean())
    middle = (share + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n))
    return share, min(middle - half, share), max(middle + half, share), n


def mean_interval(values: Tensor) -> tuple[float, float, float, int]:
    """Mean with its normal interval (a point for a single value)."""
    values = values.to(torch.float64)
    mean = float(values.mean())
    half = Z_95 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return mean, mean - half, mean + half, len(values)
