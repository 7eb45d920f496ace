"""Sweeper of the doors: the exact belief, and doors tried from the top. It adapts without planning.

Why: which door comes next is the first from the top that is not ruled out, however long the way, and after a find it is
that door. The move is the direction of the door's row, then right, then that of the goal. No two ways are compared.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.grid import NUM_MOVES
from planprobe.subjects.envs.doors import WALL_COLUMN, WIDTH
from planprobe.subjects.organisms.base import AMPLITUDE
from planprobe.subjects.organisms.doors_belief_net import DOWN, RIGHT, UP, DoorBeliefNet, DoorView


class DoorsSweeper(DoorBeliefNet):
    """See the module."""

    def act(self, view: DoorView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        door_row = 2 * self.alive(hidden).to(torch.uint8).argmax(1) + 1
        row, column = view.square // WIDTH, view.square % WIDTH
        to_door = torch.where(row < door_row, DOWN, torch.where(row > door_row, UP, RIGHT))
        move = torch.where(column < WALL_COLUMN, to_door, self.to_goal(view.square))
        scores = AMPLITUDE * F.one_hot(move, NUM_MOVES).float()
        return scores, scores.amax(1)
