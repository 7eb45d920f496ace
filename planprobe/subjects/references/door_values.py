"""Exact belief and exact values of the doors task: dynamic programming over (square, set of maps, step, episode).

Every map is as likely as every other and nothing is noisy, so the belief is uniform over the maps that fit all that was
seen: a set, kept as a bit mask (bit m for map m). The values look through the end of an episode to the next, as an
agent must that is paid for the whole trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES
from planprobe.subjects.envs.cell_world import GOAL_REWARD, STEP_REWARD, next_squares, walls_around
from planprobe.subjects.envs.doors import DoorsTask, door_maps

_CODES = 1 << NUM_MOVES  # what the four neighbours can look like


@dataclass(frozen=True)
class DoorModel:
    """What every action does and shows under every map, and so which maps an outcome leaves.

    following: (M, S, A) int64, the next square. at_goal: (M, S, A) bool, it is the goal.
    seen: (M, S, A) int64 code of what is shown after the move; at_start: (M, S) int64 code of an episode's first view.
    """

    task: DoorsTask
    following: Tensor
    at_goal: Tensor
    seen: Tensor
    at_start: Tensor

    @classmethod
    def of(cls, task: DoorsTask) -> DoorModel:
        maps = door_maps(task.num_doors)
        following = next_squares(maps)
        if task.view == "neighbours":
            around = (walls_around(maps).to(torch.int64) << torch.arange(NUM_MOVES)).sum(2)
        else:
            around = torch.zeros(following.shape[:2], dtype=torch.int64)
        squares = torch.arange(following.shape[1])
        code = squares * _CODES + around
        seen = code.gather(1, following.flatten(1)).view_as(following)
        return cls(task, following, following == task.goal, seen, code)

    @property
    def full_set(self) -> int:
        """The belief before anything was seen."""
        return (1 << self.task.num_doors) - 1

    def codes_of(self, view: Tensor) -> Tensor:
        """The code (B,) of what the task shows (B, F)."""
        num_squares = self.following.shape[1]
        square, further = view[:, :num_squares].argmax(1), view[:, num_squares:].to(torch.int64)
        if self.task.view == "neighbours":
            return square * _CODES + (further << torch.arange(NUM_MOVES, device=view.device)).sum(1)
        return square * _CODES

    def start(self, sets: Tensor, view: Tensor) -> Tensor:
        """Maps of `sets` (B,) that fit the first view (B, F) of an episode."""
        codes = self.codes_of(view)
        return sets & _as_mask(codes[:, None] == self.at_start[:, codes // _CODES].T)

    def after(
        self, sets: Tensor, squares: Tensor, actions: Tensor, *, view: Tensor, solved: Tensor, episode_done: Tensor
    ) -> Tensor:
        """Maps of `sets` (B,) that fit what a step from `squares` brought.

        Where an episode ends, the view (B, F) is of the next one: then all that is known is whether it was solved.
        """
        fits = self.codes_of(view)[:, None] == self.seen[:, squares, actions].T
        fits_end = solved[:, None] == self.at_goal[:, squares, actions].T
        left = sets & _as_mask(torch.where(episode_done[:, None], fits_end, fits))
        return torch.where(episode_done, self.start(left, view), left)


def door_posterior(sets: Tensor, num_doors: int) -> Tensor:
    """Probability of each map, (B, M) float64, from sets (B,)."""
    member = (sets[:, None] >> torch.arange(num_doors, device=sets.device) & 1).to(torch.float64)
    return member / member.sum(1, keepdim=True)


@dataclass(frozen=True)
class DoorValues:
    """Exact values of the Bayes-optimal policy.

    q: (E, T, 2**M, S, A) float32, return to the end of the trial of each action, by episode, steps done in it, set of
    maps and square; meaningless for the empty set. trial_return: expected return of a trial.
    """

    q: Tensor
    trial_return: float


@lru_cache(maxsize=4)
def solve_doors(task: DoorsTask) -> DoorValues:
    """Bayes-adaptive values by backward induction over all episodes of a trial."""
    model = DoorModel.of(task)
    num_sets = 1 << task.num_doors
    sets = torch.arange(num_sets)
    member = sets[:, None] >> torch.arange(task.num_doors) & 1  # (sets, M)
    weights = member.to(torch.float64) / member.sum(1, keepdim=True).clamp(min=1)
    same = (model.seen[:, None] == model.seen[None]).permute(2, 3, 0, 1)  # (S, A, M, M')
    same_end = (model.at_goal[:, None] == model.at_goal[None]).permute(2, 3, 0, 1)
    same_start = (model.at_start[:, None] == model.at_start[None]).permute(2, 0, 1)  # (S, M, M')
    left = sets[:, None, None, None] & _as_mask(same)  # (sets, S, A, M)
    left_end = sets[:, None, None, None] & _as_mask(same_end)
    left_start = sets[:, None, None] & _as_mask(same_start)  # (sets, S, M)
    following, solved = model.following.permute(1, 2, 0), model.at_goal.permute(1, 2, 0)  # (S, A, M)
    reward = STEP_REWARD + GOAL_REWARD * solved.to(torch.float64)
    starts = task.starts()
    q = torch.zeros(task.num_episodes, task.episode_steps, num_sets, following.shape[0], NUM_MOVES)
    next_start = torch.zeros(num_sets, dtype=torch.float64)  # value of the episodes to come, by set
    for episode in reversed(range(task.num_episodes)):
        values = torch.zeros(num_sets, following.shape[0], dtype=torch.float64)
        for step in reversed(range(task.episode_steps)):
            is_last = step == task.episode_steps - 1
            go_on = (
                next_start[left_end] if is_last else torch.where(solved, next_start[left_end], values[left, following])
            )
            step_q = ((reward + go_on) * weights[:, None, None]).sum(3)
            q[episode, step] = step_q
            values = step_q.max(2).values
        at_start = values[left_start, torch.arange(values.shape[1])[:, None]]  # (sets, S, M)
        next_start = (at_start * weights[:, None]).sum(2)[:, starts].mean(1)
    return DoorValues(q, float(next_start[-1]))


def _as_mask(fits: Tensor) -> Tensor:
    """Bit masks (...) of the maps that fit, (..., M) bool."""
    return (fits.to(torch.int64) << torch.arange(fits.shape[-1], device=fits.device)).sum(-1)
