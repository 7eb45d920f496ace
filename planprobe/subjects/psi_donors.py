"""Whose memory to give to whom, and what is a best course then: the task's part in D8 within trials.

For maze trials psi is the goal. Donors begin where the receiver begins, and walked in another maze, so that no way of
theirs is a way there but by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from planprobe.core.play_trials import TrialRollout
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.organisms.waves import at_square, look_ahead
from planprobe.subjects.references.straight_walks import luck_suffices


@dataclass(frozen=True)
class GoalDonors:
    """For each trial the number of a donor, (N,) int64, -1 = none; see `instruments.detectors.psi_patching.Donors`."""

    donor: Tensor
    wrong: Tensor
    same: Tensor


def find_goal_donors(rollout: TrialRollout) -> GoalDonors:
    """The next trial, in a circle, that found its goal in the first episode, from the same start, and in another maze.

    donor: with another goal; wrong: with one that is neither the own nor the donor's; same: with the own goal.
    """
    goals, starts = rollout.latents["goal"], rollout.extras["square_before"][:, 0]
    found = _found_first(rollout)
    fits = found & (starts == starts[:, None])
    if "level" in rollout.latents:
        fits &= rollout.latents["level"] != rollout.latents["level"][:, None]
    other = goals != goals[:, None]
    donor = _next(fits & other)
    third = goals[donor.clamp(min=0)][:, None]
    return GoalDonors(donor, _next(fits & other & (goals != third)), _next(fits & ~other))


def score_goal_courses(walk: TrialRollout, plain: TrialRollout, donors: Tensor, *, wait: int = 0) -> np.ndarray:
    """Whether the second episode, from its second step on, is a shortest way to the donor's goal, (N,) 0 or 1.

    wait: steps that it stood still after its first one, before it could choose.

    nan where that would tell nothing: the agent stands there by then; its own goal, on which episodes end, lies on
    every such way; the donor's goal lies on a shortest way to its own; or who walks straight for it, and on past what
    is in the way, could go a shortest one by luck: who remembers the donor's goal and plans nothing often does.
    """
    goals = plain.latents["goal"][donors.clamp(min=0)]
    walls = plain.latents["walls"]
    second, first = _second_episode(walk)
    rows, there = torch.arange(len(goals)), _where_memory_is_given(walk)
    away = distance_maps(walls, goals).flatten(1).gather(1, there[:, None]).squeeze(1).to(torch.int64)
    blocked = walls.flatten(1).scatter(1, plain.latents["goal"][:, None], True).view_as(walls)
    detour = distance_maps(blocked, goals).flatten(1)
    possible = (away > 0) & (detour.gather(1, there[:, None]).squeeze(1) == away)
    possible &= ~luck_suffices(walls, there, goals, walk.extras["square_before"][rows, first])
    own = plain.latents["goal"]
    to_own = distance_maps(walls, own).flatten(1)
    possible &= to_own.gather(1, there[:, None]).squeeze(1) < away + to_own.gather(1, goals[:, None]).squeeze(1)
    last = first + wait + away
    inside = last < second.shape[1]
    last = last.clamp(max=second.shape[1] - 1)
    arrives = inside & second[rows, last] & (walk.extras["square"][rows, last] == goals)
    return np.where(possible.numpy(), arrives.double().numpy(), np.nan)


def find_wall_beside(rollout: TrialRollout) -> Tensor:
    """The first move into a wall from where each trial's second step of its second episode begins, (N,); -1 = none."""
    walls = at_square(look_ahead(rollout.latents["walls"], fill=1), _where_memory_is_given(rollout))
    return torch.where(walls.any(1), walls.to(torch.uint8).argmax(1), -1)


def _second_episode(rollout: TrialRollout) -> tuple[Tensor, Tensor]:
    """Which steps are of it, (N, T) bool, and its first step, (N,)."""
    second = (rollout.episodes == 1) & rollout.active
    return second, second.to(torch.uint8).argmax(1)


def _where_memory_is_given(rollout: TrialRollout) -> Tensor:
    """The square after the first step of the second episode, (N,)."""
    first = _second_episode(rollout)[1]
    return rollout.extras["square"][torch.arange(len(first)), first]


def _found_first(rollout: TrialRollout) -> Tensor:
    """Whether the goal was stepped on in the first episode, (N,) bool."""
    on_goal = rollout.extras["square"] == rollout.latents["goal"][:, None]
    return (on_goal & (rollout.episodes == 0) & rollout.active).any(1)


def _next(fits: Tensor) -> Tensor:
    """For each row of fits (N, N) the first true column after its own number, in a circle; -1 where none is."""
    num_trials = len(fits)
    order = (torch.arange(num_trials)[:, None] + 1 + torch.arange(num_trials)) % num_trials
    turned = fits.gather(1, order)
    first = turned.to(torch.uint8).argmax(1)
    return torch.where(turned.any(1), order.gather(1, first[:, None]).squeeze(1), -1)
