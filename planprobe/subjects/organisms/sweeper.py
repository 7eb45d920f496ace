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


class Sweeper(GoalBeliefNet):
    """See the module."""

    order: Tensor

    def __init__(self, **options) -> None:
        super().__init__(**options)
        rows = torch.arange(self.num_squares).view(self.size, self.size)
        rows[1::2] = rows[1::2].flip(1)
        self.register_buffer("order", rows.flatten(), persistent=False)

    def choose(self, view: GoalView, belief: Tensor, target: Tensor, tick: Tick) -> Tensor:
        first = (belief[:, self.order] > 0).to(torch.uint8).argmax(1)
        return torch.nn.functional.one_hot(self.order[first], self.num_squares)
