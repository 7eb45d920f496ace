"""Who knows the goal and walks straight for it, as a reflex does: the rule of thumb beside planners in mazes.

It comes nearer to the goal as the crow flies wherever no wall is in the way, and gives way where one is; where it has
been in this walk it goes last of all. There are two such walkers: along the longer axis first, or the shorter one. On
small mazes that is often the best way, so a best way is a sign of planning only where neither finds it.

Others of their kind leave to luck what the rule leaves open, and know a square that they were on before. All that any
of them could find by its luck is what `luck_suffices` leaves out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.grid import OPPOSITE, move_offsets
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.organisms.base import View
from planprobe.subjects.organisms.rules import reflex_scores
from planprobe.subjects.organisms.waves import as_entries, at_square, look_ahead

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


def luck_suffices(walls: Tensor, starts: Tensor, goals: Tensor, before: Tensor) -> Tensor:
    """Whether who walks straight for the goal, and is lucky where the rule leaves a choice, goes a shortest way: (N,).

    The rule: not back, nor to `before`, if it knows of that; nearer to the goal as the crow flies, by either axis,
    wherever no wall is in the way; and any open way where one is. Where no shortest way is like that, each of them at
    some square leaves aside an open square that is nearer to the goal, which only who looks further has a reason to do.

    Args: walls (N, H, W) bool; starts, goals (N,) flat squares; before (N,): where it was before `starts`.
    """
    away = distance_maps(walls, goals)
    shortest, straight = optimal_action_mask(away), _nearer_moves(walls, goals)
    turns = []  # (N, 4, H, W) by the move that led to a square, the last one for no move at all
    for back in (*OPPOSITE, None):
        onward = torch.ones_like(straight)
        if back is not None:
            onward[:, back] = False
        turns.append(shortest & onward & (straight | ~(straight & onward).any(1, keepdim=True)))
    come = starts[:, None] == before[:, None] + move_offsets(walls.shape[2], walls.device)
    come[:, -1] = True  # as one of those who know not where they came from
    here = torch.zeros(len(walls), *walls.shape[1:], dtype=torch.bool, device=walls.device)
    here = here.flatten(1).scatter(1, starts[:, None], True).view_as(walls)
    reached = here[:, None] & come[:, :, None, None]
    arrived = torch.zeros_like(come[:, 0])
    for _ in range(int(away.max()) + 1):
        arrived |= reached.any(1).flatten(1).gather(1, goals[:, None]).squeeze(1)
        leaves = torch.stack([reached[:, None, k] & turn for k, turn in enumerate(turns)]).any(0)
        reached[:, :-1], reached[:, -1] = as_entries(leaves), False
    return arrived


def _nearer_moves(walls: Tensor, goals: Tensor) -> Tensor:
    """Open moves that come nearer to the goal as the crow flies, (N, 4, H, W) bool."""
    rows, columns = (torch.arange(size, device=walls.device) for size in walls.shape[1:])
    down = (goals // walls.shape[2])[:, None, None] - rows[:, None]
    right = (goals % walls.shape[2])[:, None, None] - columns
    nearer = torch.stack([part.expand(walls.shape) for part in (down < 0, down > 0, right < 0, right > 0)], dim=1)
    return nearer & ~look_ahead(walls, fill=1)
