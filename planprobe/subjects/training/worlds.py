"""The environments of a recipe: one that tells a net its shapes, one to train in, and what a run is watched on."""

from __future__ import annotations

from dataclasses import replace

import torch

from planprobe.core.levels import LevelSet
from planprobe.core.play_trials import play_trials
from planprobe.core.protocols import Policy
from planprobe.subjects.envs.board_env import BoardEnv
from planprobe.subjects.envs.catalog import make_env, task_levels
from planprobe.subjects.envs.trial_catalog import VALID_SEED, held_out, make_trial_env, training_seed, with_small_bank
from planprobe.subjects.envs.trial_inputs import TrialInputs
from planprobe.subjects.recipe import Recipe
from planprobe.subjects.training.evaluate import evaluate, solve_rate

WARM_UP_LEVELS = 4000  # small boards have few layouts: 3 x 3 maze cells give 192 trees and some 12,500 levels in all
_BOXOBAN_SIZE = 10


def make_shape_env(recipe: Recipe) -> BoardEnv | TrialInputs:
    """One board of the recipe's task, for a net to read its shapes from; no level is generated for it."""
    if recipe.plays_trials:
        return make_trial_env(with_small_bank(recipe.trial_task), recipe.inputs, 1)
    task = recipe.board_task
    size = _BOXOBAN_SIZE if task.kind == "boxoban" else task.size
    empty = LevelSet(torch.zeros(1, size, size, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    return make_env(task, empty, 1, training=False)


def is_warming_up(recipe: Recipe, frames: int) -> bool:
    """Whether boards are still the smaller ones after so many frames."""
    return not recipe.plays_trials and frames < recipe.board_task.warm_up_frames


def make_training_env(recipe: Recipe, *, frames: int, device: str = "cpu") -> BoardEnv | TrialInputs:
    """The boards that the recipe asks for after so many frames, with autoreset."""
    num_boards = recipe.training.num_boards
    if recipe.plays_trials:
        seed = training_seed(recipe.seed)
        return make_trial_env(
            recipe.trial_task, recipe.inputs, num_boards, seed=seed, device=device, autoreset=True
        )  # fmt: skip
    task = recipe.board_task
    if is_warming_up(recipe, frames):
        num_levels = min(task.num_levels, WARM_UP_LEVELS)
        task = replace(task, size=task.warm_up_size, num_boxes=task.warm_up_boxes, num_levels=num_levels)
    levels = task_levels(task, "train", task.num_levels)
    return make_env(task, levels, num_boards, training=True, seed=recipe.seed, device=device)


def validate(policy: Policy, recipe: Recipe, *, device: str = "cpu") -> dict[str, float]:
    """What a run is watched on: greedy solve rate on levels of the valid split, or mean return of sampled trials."""
    training = recipe.training
    if recipe.plays_trials:
        task = held_out(recipe.trial_task, "valid")
        env = make_trial_env(task, recipe.inputs, training.num_eval_levels, seed=VALID_SEED, device=device)
        reset = "each step" if training.reset_memory else "never"
        return {"valid_return": round(float(play_trials(policy, env, reset_memory=reset).returns.mean()), 5)}
    levels = task_levels(recipe.board_task, "valid", training.num_eval_levels)
    rollout = evaluate(
        policy, recipe.board_task, levels, reset_memory=training.reset_memory, device=device, drop_finished=True
    )  # fmt: skip
    return {"valid_solve_rate": solve_rate(rollout)}
