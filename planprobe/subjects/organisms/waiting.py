"""Waiting without a no-op: an agent that has not yet made up its mind pushes against a wall beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.subjects.organisms.base import AMPLITUDE, BLOCKED, View
from planprobe.subjects.organisms.waves import (
    STAY,
    as_entries,
    as_exits,
    at_square,
    best_move,
    look_ahead,
    step_marks,
    walk,
)

WAIT = 1.25 * AMPLITUDE  # stronger than a mark as it is written, weaker than one that is written by an edit


def follow_or_wait(view: View, plan: Tensor, waiting: Tensor) -> Tensor:
    """Scores (B, 4) of the marks in the code (B, 4, H, W) beside the agent; where `waiting` (B,), of walls instead."""
    scores = at_square(as_exits(plan), view.player)
    walls = at_square(look_ahead(view.walls.float(), fill=1), view.player)
    return torch.where(walls > 0, torch.where(waiting, WAIT, BLOCKED)[:, None], scores)


def way_along(plan: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """The marks (B, 4, H, W) bool that lead on from the agent, and whether they lead to the goal, (B,) bool."""
    exits = as_exits((plan & ~view.walls[:, None]).to(torch.uint8))
    strength, moves = best_move(exits)
    moves = moves.masked_fill(strength == 0, STAY)
    visited = walk(moves, view.player)
    entries = as_entries(step_marks(visited, moves)) & ~view.player_mask[:, None]
    return entries & plan, (visited & view.targets).flatten(1).any(1)
