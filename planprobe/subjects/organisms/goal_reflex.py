"""Reflex of the hidden goal: the next square of a fixed tour, and staying where it was just paid. It does not plan.

Why: the features of every tick are the present square and whether the last step paid, whatever was in memory, so its
move is a function of these. It comes upon the goal on its tour, as late in every episode as in the first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.grid import NOOP
from planprobe.subjects.organisms.base import AMPLITUDE, Tick
from planprobe.subjects.organisms.goal_belief_net import HALF, NUM_ACTIONS, GoalBeliefNet, GoalView
from planprobe.subjects.organisms.sweeper import serpentine


class GoalReflex(GoalBeliefNet):
    """See the module. Features: square, where it stands; paid, by the last step of this episode."""

    tour: Tensor

    def __init__(self, **options) -> None:
        super().__init__(**options)
        order = serpentine(self.size)
        following = torch.empty_like(order).scatter_(0, order, order.roll(-1))
        leads_to = self.next_square == following[:, None]  # the last square leads nowhere: its first move is up
        self.register_buffer("tour", leads_to.to(torch.uint8).argmax(1), persistent=False)

    def name_features(self) -> dict[str, int]:
        return {"square": self.num_squares, "paid": 1}

    def update(self, view: GoalView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        paid = (view.paid & ~view.ended)[:, None]
        return AMPLITUDE * torch.cat([F.one_hot(view.square, self.num_squares), paid], dim=1).float()[:, :, None, None]

    def act(self, view: GoalView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        flat = hidden.flatten(1)
        move = self.tour[flat[:, self.slots["square"]].argmax(1)].masked_fill(flat[:, -1] > HALF, NOOP)
        scores = AMPLITUDE * F.one_hot(move, NUM_ACTIONS).float()
        return scores, scores.amax(1)
