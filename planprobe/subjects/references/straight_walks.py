"""Who knows the goal and walks straight for it, as a reflex does: the rule of thumb beside planners in mazes.

It comes nearer to the goal as the crow flies wherever no wall is in the way, and gives way where one is; where it has
been in this walk it goes last of all. There are two such walkers: along the longer axis first, or the shorter one. On
small mazes that is often the best way, so a best way is a sign of planning only where neither finds it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.grid import move_offsets
from planprobe.subjects.organisms.base import View
from planprobe.subjects.organisms.rules import reflex_scores
from planprobe.subjects.organisms.waves import at_square, look_ahead

BEEN_THERE = -3.0  # score of a square of the same walk: less than any way that leads on, more than a wall
_BOTH_AXES = 2.5  # scores of two moves that come nearer: 1.5 along the longer axis and 1 along the other


def walk_straight(
    walls: Tensor, starts: Tensor, goals: Tensor, num_steps: int, *, longer_axis_first: bool = True
) -> Tensor:
    """After how many moves who walks straight for the goal arrives, (N,) int64; -1 where it does not.

    Args: walls (N, H, W) bool; starts, goals (N,) flat squares.
    """
    offsets = move_offsets(walls.shape[2], walls.device)
    targets = torch.zeros_like(walls.flatten(1)).scatter_(1, goals[:, None], True).view_as(walls)
    players, arrived, been = starts.clone(), torch.full_like(starts, -1), torch.zeros(walls.shape, device=walls.device)
    for t in range(1, num_steps + 1):
        been.flatten(1).scatter_(1, players[:, None], 1.0)
        scores = reflex_scores(View(walls, targets, torch.zeros_like(walls), players))
        if not longer_axis_first:
            scores = torch.where(scores > 0, _BOTH_AXES - scores, scores)
        move = (scores + BEEN_THERE * at_square(look_ahead(been), players)).argmax(1)
        players = torch.where(arrived < 0, players + offsets[move], players)
        arrived = torch.where((arrived < 0) & (players == goals), t, arrived)
    return arrived


def straight_moves(walls: Tensor, starts: Tensor, goals: Tensor, num_steps: int) -> Tensor:
    """`walk_straight` of both walkers, (2, N) int64, the one along the longer axis first."""
    walks = [walk_straight(walls, starts, goals, num_steps, longer_axis_first=first) for first in (True, False)]
    return torch.stack(walks)
