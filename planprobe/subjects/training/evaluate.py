"""Solve rates on named level sets, one greedy (or sampled) episode a level."""

from __future__ import annotations

from functools import partial

from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker, Rollout, play_levels
from planprobe.core.protocols import Policy
from planprobe.subjects.envs.catalog import make_env
from planprobe.subjects.recipe import TaskRecipe


def env_maker(task: TaskRecipe, *, device: str = "cpu") -> EnvMaker:
    """Environments for evaluation: each level as it is, the task's evaluation time limit, no autoreset."""
    return partial(make_env, task, training=False, device=device)


def evaluate(policy: Policy, task: TaskRecipe, levels: LevelSet, *, device: str = "cpu", **options) -> Rollout:
    """Play every level once; options of `core.play.play` (thinking_steps, reset_memory, greedy, seed, ...)."""
    return play_levels(policy, env_maker(task, device=device), levels, **options)


def solve_rate(rollout: Rollout) -> float:
    """Fraction of levels solved."""
    return float(rollout.solved.float().mean())
