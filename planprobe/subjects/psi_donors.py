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
from planprobe.subjects.references.straight_walks import straight_moves


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


def score_goal_courses(walk: TrialRollout, plain: TrialRollout, donors: Tensor) -> np.ndarray:
    """Whether the second episode, from its second step on, is a shortest way to the donor's goal, (N,) 0 or 1.

    nan where that would tell nothing: the agent stands there by then; its own goal, on which episodes end, lies on
    every such way; the donor's goal lies on a shortest way to its own; or who walks straight goes a shortest way.
    """
    goals = plain.latents["goal"][donors.clamp(min=0)]
    walls = plain.latents["walls"]
    second = (walk.episodes == 1) & walk.active
    rows, first = torch.arange(len(goals)), second.to(torch.uint8).argmax(1)
    there = walk.extras["square"][rows, first]  # after the first step, before memory is given
    away = distance_maps(walls, goals).flatten(1).gather(1, there[:, None]).squeeze(1).to(torch.int64)
    blocked = walls.flatten(1).scatter(1, plain.latents["goal"][:, None], True).view_as(walls)
    detour = distance_maps(blocked, goals).flatten(1)
    possible = (away > 0) & (detour.gather(1, there[:, None]).squeeze(1) == away)
    possible &= ~(straight_moves(walls, there, goals, int(away.max())) == away).any(0)
    own = plain.latents["goal"]
    to_own = distance_maps(walls, own).flatten(1)
    possible &= to_own.gather(1, there[:, None]).squeeze(1) < away + to_own.gather(1, goals[:, None]).squeeze(1)
    last = first + away
    inside = last < second.shape[1]
    last = last.clamp(max=second.shape[1] - 1)
    arrives = inside & second[rows, last] & (walk.extras["square"][rows, last] == goals)
    return np.where(possible.numpy(), arrives.double().numpy(), np.nan)


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
