"""Named level sets and the environments on them: the one place that knows what 'test' means for a task.

Splits of generated levels are disjoint up to symmetry by construction (a hash of the layout decides the split), so no
other split is ever generated to be subtracted.
"""

from __future__ import annotations

from functools import lru_cache

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.board_env import BoardEnv
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.recipe import TaskRecipe

SPLITS = ("train", "valid", "test")
TASKS = ("maze", "sokoban", "boxoban")
LEVEL_SEEDS = {"train": 1, "valid": 2, "test": 3}


@lru_cache(maxsize=8)
def task_levels(task: TaskRecipe, split: str, num_levels: int) -> LevelSet:
    """`num_levels` levels of a split of a task. Raises: RecipeError (unknown task or split)."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, error=RecipeError)
    seed = LEVEL_SEEDS[split]
    if task.kind == "maze":
        distinct = task.size > 7  # 3x3 cells have too few layouts
        return generate_mazes(
            num_levels, size=task.size, braid=task.braid, seed=seed, split=split, distinct_layouts=distinct
        )
    if task.kind == "sokoban":
        return generate_sokoban(num_levels, size=task.size, num_boxes=task.num_boxes, seed=seed, split=split)
    if task.kind == "boxoban":
        from planprobe.subjects.envs.level_text import boxoban_levels

        levels = boxoban_levels(task.difficulty, split, num_files=-(-num_levels // 1000))
        return levels[:num_levels]
    raise unknown_name("task", task.kind, TASKS, error=RecipeError)


def make_env(
    task: TaskRecipe, levels: LevelSet, num_boards: int, *, training: bool, seed: int = 0, device: str = "cpu"
) -> BoardEnv:
    """An environment on `levels`: in training with drawn limits, starts and thinking steps; else each level as it is."""
    options: dict = {"num_boards": num_boards, "seed": seed, "device": device, "noop": task.noop}
    options["observation"] = task.observation
    options["time_limit"] = task.time_limit if training else task.eval_time_limit
    options["autoreset"] = training
    if training:
        options |= {"thinking_steps": task.thinking_steps, "thinking_fraction": task.thinking_fraction}
    if task.kind == "maze":
        if training:
            options |= {"redraw": True, "near_fraction": task.near_fraction, "max_walk": task.max_walk}
        return Maze(levels, **options)
    return Sokoban(levels, **options)
