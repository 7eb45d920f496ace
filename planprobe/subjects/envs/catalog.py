"""Named level sets and the environments on them: the one place that knows what 'test' means for a task.

Splits of generated levels are disjoint up to symmetry by construction (a hash of the layout decides the split), so no
other split is ever generated to be subtracted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.grid import COLUMN_OFFSETS, ROW_OFFSETS, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.board_env import BoardEnv
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask, squares_in_sight
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.signpost import SIGNPOST, SignpostMaze
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.recipe import TaskRecipe

SPLITS = ("train", "valid", "test")
TASKS = ("maze", "sokoban", "boxoban")
LEVEL_SEEDS = {"train": 1, "valid": 2, "test": 3}
HARDER_SETS = {"maze": ("far",), "sokoban": ("medium",), "boxoban": ("medium",)}
"""Held-out sets beside the splits, defined by the task alone, never by what an agent finds hard."""

TINY_MAZE = 7  # 3 x 3 cells: too few layouts to ask for distinct ones, and nothing on them is far
_FAR_SEED = 4
_START = 451  # stream of the counter-based draws


@lru_cache(maxsize=8)
def task_levels(task: TaskRecipe, split: str, num_levels: int) -> LevelSet:
    """`num_levels` levels of a split of a task. Raises: RecipeError (unknown task or split)."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, error=RecipeError)
    seed = LEVEL_SEEDS[split]
    if task.kind == "maze":
        return _maze_levels(task, split, num_levels)
    if task.kind == "sokoban":
        return generate_sokoban(num_levels, size=task.size, num_boxes=task.num_boxes, seed=seed, split=split)
    if task.kind == "boxoban":
        from planprobe.subjects.envs.level_text import boxoban_levels

        levels = boxoban_levels(cast(Any, task.difficulty), cast(Any, split), num_files=-(-num_levels // 1000))
        return levels[:num_levels]
    raise unknown_name("task", task.kind, TASKS, error=RecipeError)


def level_set_names(task: TaskRecipe) -> tuple[str, ...]:
    """The sets that `named_levels` knows for a task."""
    if task.kind == "maze" and task.size <= TINY_MAZE:
        return SPLITS
    return SPLITS + HARDER_SETS.get(task.kind, ())


@lru_cache(maxsize=8)
def named_levels(task: TaskRecipe, name: str, num_levels: int) -> LevelSet:
    """A split of a task, or one of its harder held-out sets.

    'medium', Sokoban: levels of the test split with one box more than training ever showed. Boxoban: medium/valid.
    'far', mazes: layouts and goals of the test split, the start redrawn among squares at least `far_distance` steps
    from the goal with an open move that is not optimal: in a dead end a first move decides nothing.
    Raises: RecipeError (unknown set or task).
    """
    if name not in level_set_names(task):
        raise unknown_name("level set", name, level_set_names(task), where=f"a {task.kind} task", error=RecipeError)
    if name == "far":
        return _far_mazes(task, num_levels)
    if name == "medium":
        levels = task_levels(_harder_task(task), "test" if task.kind == "sokoban" else "valid", num_levels)
        return replace(levels, name=f"{task.kind}{task.size}/medium")
    return task_levels(task, name, num_levels)


def far_distance(size: int) -> int:
    """Steps from start to goal from which a maze counts as far: 20 for 11 x 11, where one test level in 17 is."""
    return 2 * (size - 1)


def distances_to_goal(levels: LevelSet) -> tuple[Tensor, Tensor]:
    """Steps to the goal from every square (N, H, W) int16, -1 where there is no way, and from the start (N,) int64."""
    goals = ((levels.boards & TARGET) != 0).flatten(1).to(torch.uint8).argmax(1)
    maps = distance_maps((levels.boards & WALL) != 0, goals)
    return maps, maps.flatten(1).gather(1, levels.players[:, None]).squeeze(1).to(torch.int64)


def wrong_moves(distance: Tensor) -> Tensor:
    """Open moves that do not come closer to the goal, (N, 4, H, W) bool; distance as `distance_maps` returns it."""
    floor = torch.nn.functional.pad(distance >= 0, (1, 1, 1, 1))
    rows, columns = distance.shape[1:]
    ahead = [
        floor[:, 1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
        for down, right in zip(ROW_OFFSETS, COLUMN_OFFSETS, strict=True)
    ]
    return torch.stack(ahead, dim=1) & (distance >= 0)[:, None] & ~optimal_action_mask(distance)


def _maze_levels(task: TaskRecipe, split: str, num_levels: int) -> LevelSet:
    """Mazes of a split, with the starts that the task asks for."""
    source = "train" if task.pool else split
    levels = generate_mazes(
        task.pool or num_levels, size=task.size, braid=task.braid, seed=LEVEL_SEEDS[source], split=source,
        distinct_layouts=task.size > TINY_MAZE,
    )  # fmt: skip
    if not (task.pool or task.in_sight):
        return levels
    ids = torch.arange(num_levels)
    boards = levels.boards[ids % len(levels)]
    walls, goals = (boards & WALL) != 0, ((boards & TARGET) != 0).flatten(1).to(torch.uint8).argmax(1)
    squares = squares_in_sight(walls, goals) if task.in_sight else distance_maps(walls, goals) > 0
    starts = _draw_start(squares.flatten(1), LEVEL_SEEDS[split], _START, ids)
    return LevelSet(boards, starts, f"maze{task.size}/{split}")


def _draw_start(squares: Tensor, seed: int, *counters: Tensor | int) -> Tensor:
    """One of the squares marked in (N, H*W) bool, (N,)."""
    ranks = draw_below(squares.sum(1), seed, *counters)
    return (squares.cumsum(1) > ranks[:, None]).to(torch.uint8).argmax(1)


def _harder_task(task: TaskRecipe) -> TaskRecipe:
    most = task.num_boxes[1] + 1
    return replace(task, num_boxes=(most, most), difficulty="medium")


def _far_mazes(task: TaskRecipe, num_levels: int) -> LevelSet:
    pool_size, far = 3 * num_levels, torch.zeros(0, dtype=torch.int64)
    while True:
        pool = task_levels(task, "test", pool_size)
        distance = distances_to_goal(pool)[0]
        squares = ((distance >= far_distance(task.size)) & wrong_moves(distance).any(1)).flatten(1)
        far = squares.any(1).nonzero().squeeze(1)[:num_levels]
        if len(far) == num_levels:
            break
        pool_size *= 2
    starts = _draw_start(squares[far], _FAR_SEED, far)
    return LevelSet(pool.boards[far], starts, f"maze{task.size}/far")


def make_env(
    task: TaskRecipe, levels: LevelSet, num_boards: int, *, training: bool, seed: int = 0, device: str = "cpu"
) -> BoardEnv:
    """An environment on `levels`: in training with drawn limits, starts and thinking steps, else each level as is."""
    options: dict[str, Any] = {"num_boards": num_boards, "seed": seed, "device": device, "noop": task.noop}
    options["observation"] = task.observation
    options["time_limit"] = task.time_limit if training else task.eval_time_limit
    options["autoreset"] = training
    if training:
        options |= {"thinking_steps": task.thinking_steps, "thinking_fraction": task.thinking_fraction}
    if task.kind == "maze":
        if training:
            options |= {"redraw": True, "near_fraction": task.near_fraction, "max_walk": task.max_walk}
            options |= {"in_sight": task.in_sight, "keep_goals": task.pool > 0}
        if task.observation == SIGNPOST:
            options["observation"] = "planes"
            return SignpostMaze(levels, **options)
        return Maze(levels, **options)
    return Sokoban(levels, end_when_lost=training and task.end_when_lost, **options)
