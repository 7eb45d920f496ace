"""Sweeper: the exact belief, and a fixed order in which squares are visited. It adapts without planning.

Why: which square comes next is the first in a serpentine order that is not ruled out, whatever the way there costs, and
after a find it is the goal. So later episodes are better for what was learnt in earlier ones, while no two ways are
ever compared: the order stands in the code, and the move is the direction of one square as seen from another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.subjects.organisms.base import Tick
from planprobe.subjects.organisms.goal_belief_net import GoalBeliefNet, GoalView


def serpentine(size: int) -> Tensor:
    """The squares of a room row by row, every other row backwards, (size**2,) int64."""
    rows = torch.arange(size**2).view(size, size)
    rows[1::2] = rows[1::2].flip(1)
    return rows.flatten()


def first_alive(belief: Tensor, order: Tensor) -> Tensor:
    """The first square (B,) in an order (S,) that a belief (B, S) leaves."""
    return order[(belief[:, order] > 0).to(torch.uint8).argmax(1)]


class Sweeper(GoalBeliefNet):
    """See the module."""

    order: Tensor

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.register_buffer("order", serpentine(self.size), persistent=False)

    def choose(self, view: GoalView, belief: Tensor, target: Tensor, tick: Tick) -> Tensor:
        return torch.nn.functional.one_hot(first_alive(belief, self.order), self.num_squares)
