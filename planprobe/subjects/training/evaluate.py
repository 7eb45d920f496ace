"""Solve rates on named level sets, one greedy (or sampled) episode a level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.levels import LevelSet
from planprobe.core.play import Rollout, play
from planprobe.core.protocols import Policy
from planprobe.subjects.envs.catalog import make_env
from planprobe.subjects.recipe import TaskRecipe

EVAL_BOARDS = 250  # fixed: convolutions may round differently in another batch size, and an argmax can flip


@dataclass(frozen=True)
class Evaluation:
    """Per level (N,): solved bool, lengths int64, returns float32, first_action int64."""

    solved: Tensor
    lengths: Tensor
    returns: Tensor
    first_action: Tensor

    @property
    def solve_rate(self) -> float:
        return float(self.solved.float().mean())


def rollouts(policy: Policy, task: TaskRecipe, levels: LevelSet, *, device: str = "cpu", **options) -> Iterator[Rollout]:
    """Play `levels` in batches of at most EVAL_BOARDS; options of `core.play.play`."""
    for ids in torch.arange(len(levels)).split(EVAL_BOARDS):
        env = make_env(task, levels, len(ids), training=False, device=device)
        yield play(policy, env, ids, **options)


def evaluate(policy: Policy, task: TaskRecipe, levels: LevelSet, **options) -> Evaluation:
    """Play every level once; options of `core.play.play` (thinking_steps, reset_memory, greedy, seed), or a device."""
    parts = [
        (r.solved, r.lengths, (r.rewards * r.active).sum(1), r.first_logits.argmax(-1))
        for r in rollouts(policy, task, levels, **options)
    ]
    return Evaluation(*(torch.cat(part) for part in zip(*parts, strict=True)))
