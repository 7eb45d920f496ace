"""What a study needs from a task: levels with their optimal length, optimal first moves, two-route levels, a planner.

Instruments know nothing about tasks, so everything that a task decides is made here and handed to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from planprobe.core.futures import Futures
from planprobe.core.levels import LevelSet
from planprobe.core.pairs import LevelPairs
from planprobe.core.play import EnvMaker, Rollout
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.instruments.detectors.thinking_gain import MIN_LEVELS
from planprobe.instruments.statistics.proportions import proportion
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.catalog import TINY_MAZE, distances_to_goal, level_set_names, named_levels
from planprobe.subjects.envs.first_moves import optimal_first_moves
from planprobe.subjects.envs.geometry import observation_geometry
from planprobe.subjects.envs.ladders import CandidateLadder, DistanceLadder, candidate_ladder, distance_ladder
from planprobe.subjects.envs.ladders_sokoban import sokoban_distance_ladder
from planprobe.subjects.envs.pairs import task_pairs
from planprobe.subjects.envs.plans import observation_planner
from planprobe.subjects.envs.solver import solve_levels
from planprobe.subjects.envs.stimuli import TwoRouteLevels, two_route_mazes, two_route_sokoban
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.organisms import untrained_like
from planprobe.subjects.organisms.base import CodedNet
from planprobe.subjects.organisms.untrained import Untrained
from planprobe.subjects.recipe import Recipe, TaskRecipe
from planprobe.subjects.training.evaluate import env_maker
from planprobe.subjects.training.imitate import clone_policy
from planprobe.verdict.budgets import Budget

NUM_BINS = 6  # of optimal length, in the figure of plain play
NUM_UNTRAINED = 5
UNTRAINED_SEED = 1000  # before the first: that of a recipe would give the net with which the agent's training began
NUM_CLONE_LEVELS = 500
CANDIDATES = (2, 4, 8)
ROOMY_SOKOBAN = 7  # squares a side; on smaller boards there are too few detours, and no place for a ladder's rungs
TWO_ROUTE_SEED, LADDER_SEED, PROBE_SPLIT = (
    7,
    8,
    "valid",
)  # probes are fitted on other levels than those that are played and judged


@dataclass(frozen=True)
class Material:
    """All that a study takes from a task.

    levels: held-out, played as they are. moves (N,) int64: optimal length, -1 = not known. hard_levels: those that
    thinking is judged on, held out too. first_moves (M, 4) bool: every optimal first move on the first-move levels;
    None = not known. probe_levels: for read-outs. routes: two-route levels. far_ladder, wide_ladder: of distance and
    of candidates, None where there are none; far_moves, wide_moves: their optimal first moves. changes: levels before
    and after a wall was toggled. planner: observations -> optimal futures, None where they take too long. geometry:
    observations -> what walls and targets alone say.
    """

    make_env: EnvMaker
    make_first_step_env: EnvMaker
    levels: LevelSet
    moves: Tensor
    hard_levels: LevelSet
    first_move_levels: LevelSet | None
    first_moves: Tensor | None
    probe_levels: LevelSet
    routes: TwoRouteLevels
    far_ladder: DistanceLadder | None
    far_moves: Tensor | None
    wide_ladder: CandidateLadder | None
    wide_moves: Tensor | None
    changes: LevelPairs
    planner: Callable[[Tensor], Futures] | None
    geometry: Callable[[Tensor], Tensor]

    def level_sets(self) -> dict[str, LevelSet]:
        """By the part they play, for provenance."""
        sets = {"played": self.levels, "thinking": self.hard_levels, "first moves": self.first_move_levels}
        sets |= {"probed": self.probe_levels, "two routes": self.routes.levels, "changed": self.changes.corrupted}
        sets |= {"distances": self.far_ladder and self.far_ladder.levels}
        sets |= {"candidates": self.wide_ladder and self.wide_ladder.levels}
        return {name: levels for name, levels in sets.items() if levels is not None}


@lru_cache(maxsize=2)  # a calibration asks for the same task once an organism
def gather_material(task: TaskRecipe, budget: Budget) -> Material:
    """Levels and ground truth of a task. Raises: RecipeError, TooFewLevelsError (the task has too few levels)."""
    levels = named_levels(task, "test", budget.num_levels)
    is_maze = task.kind == "maze"
    hard = "far" if "far" in level_set_names(task) else "test"
    first_move_levels = named_levels(task, hard, budget.num_first_moves) if knows_first_moves(task) else None
    far, wide = far_ladder(task, budget.num_layouts), wide_ladder(task, budget.num_matched_rows)
    return Material(
        make_env=env_maker(task),
        make_first_step_env=env_maker(replace(task, eval_time_limit=1)),
        levels=levels,
        moves=count_optimal_moves(levels, task.kind),
        # on mazes the solve rate stands beside D1's judged first moves, and whole episodes are dear
        hard_levels=named_levels(task, hard, max(MIN_LEVELS, budget.num_levels // 2) if is_maze else budget.num_levels),
        first_move_levels=first_move_levels,
        first_moves=optimal_first_moves(first_move_levels, task.kind) if first_move_levels is not None else None,
        probe_levels=named_levels(task, PROBE_SPLIT, budget.num_probe_levels),
        # in open rooms controls redirect an agent on about half of the boards, where they spread the most
        routes=two_route_levels(task, levels.height, budget.num_route_levels * (1 if is_maze else 2)),
        far_ladder=far,
        far_moves=None if far is None else optimal_first_moves(far.levels, task.kind),
        wide_ladder=wide,
        wide_moves=None if wide is None else optimal_first_moves(wide.levels, task.kind),
        # a table that falls back to a reflex where a wall has moved made two of three new moves without this
        changes=task_pairs(task, "toggle-wall", budget.num_changes, away=is_maze or _is_roomy(task)),
        # Boxoban's optimal plans take a second each to find, and a study asks for thousands
        planner=observation_planner(task.kind, observation=task.observation) if task.kind != "boxoban" else None,
        geometry=observation_geometry(observation=task.observation),
    )


def knows_first_moves(task: TaskRecipe) -> bool:
    """Whether every optimal first move is found in no time: of more than two boxes the solver takes a second each."""
    return task.kind == "maze" or (task.kind == "sokoban" and task.num_boxes[1] <= 2)


def far_ladder(task: TaskRecipe, num_layouts: int) -> DistanceLadder | None:
    """Rungs four moves apart: 4 to 20 in mazes of 11 x 11, 4 to 12 on one-box boards."""
    if task.kind == "maze" and task.size > TINY_MAZE:
        return distance_ladder(range(4, 2 * task.size - 1, 4), num_layouts, size=task.size, seed=LADDER_SEED)
    if _is_roomy(task):
        return sokoban_distance_ladder((4, 8, 12), num_layouts, size=task.size, seed=LADDER_SEED)
    return None


def _is_roomy(task: TaskRecipe) -> bool:
    """Sokoban that shows boards of one box, which have exact answers in a table, and room for ladders and detours."""
    return task.kind == "sokoban" and task.size >= ROOMY_SOKOBAN and task.num_boxes[0] == 1


def wide_ladder(task: TaskRecipe, num_rows: int) -> CandidateLadder | None:
    """In mazes, at a distance that the smallest of them has."""
    if task.kind != "maze" or task.size <= TINY_MAZE:
        return None
    return candidate_ladder(CANDIDATES, num_rows, distance=task.size + 1, size=task.size, seed=LADDER_SEED)


def two_route_levels(task: TaskRecipe, size: int, num_levels: int) -> TwoRouteLevels:
    """Mazes, or one-box boards, of the task's size, on layouts of the test split."""
    make = two_route_mazes if task.kind == "maze" else two_route_sokoban
    return make(num_levels, size=size, seed=TWO_ROUTE_SEED)


def count_optimal_moves(levels: LevelSet, kind: str) -> Tensor:
    """Moves of an optimal solution, (N,) int64; -1 where none was found."""
    if kind == "maze":
        return distances_to_goal(levels)[1]
    solutions = solve_levels(levels, metric="moves" if kind == "sokoban" else "pushes")
    return torch.tensor([len(each.actions) if each.status == "solved" else -1 for each in solutions])


def untrained_net(recipe: Recipe, make_env: EnvMaker, levels: LevelSet, number: int) -> Policy:
    """The same architecture with random weights, the `number`-th draw: what a read-out owes to wiring alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED + 1 + number)
        return make_net_for(recipe.net, make_env(levels[:1], 1)).eval()


def untrained_nets(agent: Agent, material: Material) -> list[Policy]:
    """`NUM_UNTRAINED` of them; none for a foreign agent from a factory, since no recipe tells its architecture."""
    if isinstance(agent.net, CodedNet | Untrained):
        return [untrained_like(agent.net, seed=UNTRAINED_SEED + 1 + number) for number in range(NUM_UNTRAINED)]
    if agent.folder is None:
        return []
    return [untrained_net(agent.recipe, material.make_env, material.levels, number) for number in range(NUM_UNTRAINED)]


def clone_of(agent: Agent, budget: Budget) -> Policy | None:
    """A memoryless net that imitates the agent on levels of the train split, where the budget has room for one."""
    if not budget.clone:
        return None
    levels = named_levels(agent.task, "train", NUM_CLONE_LEVELS)
    return clone_policy(agent.net, agent.make_env, levels, seed=budget.seed)[0]


def behaviour_rows(arms: dict[str, Rollout], moves: Tensor) -> list[Row]:
    """Share of levels solved by optimal length, in bins of equal numbers of levels, one row a bin and arm."""
    known = (moves >= 0).nonzero().squeeze(1)
    order = known[moves[known].argsort(stable=True)]
    bins = [part for part in order.chunk(NUM_BINS) if len(part)]
    return [
        {"arm": arm, "moves": float(moves[ids].double().mean()), **_share(rollout.solved[ids])}
        for arm, rollout in arms.items()
        for ids in bins
    ]


def _share(solved: Tensor) -> Row:
    effect = proportion(solved.numpy())
    return {"value": effect.value, "low": effect.low, "high": effect.high, "n": effect.n}
