"""Mixture: what to do under every goal at once, weighted by the exact belief. It plans: a parallel sweep over worlds.

Why: for every goal that may be, the moves of the shortest ways there are found side by side, and each votes with the
belief in its goal: P(move) = sum over goals of P(goal) P(move | goal). No goal is chosen and none is kept; nothing is
drawn, so the same history gives the same votes. The belief itself is read back from memory for it, square by square.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.subjects.organisms.base import AMPLITUDE, Tick
from planprobe.subjects.organisms.goal_belief_net import GoalBeliefNet, GoalView

LEAST = 0.02  # of a probability that is read from a noisy code


class Mixture(GoalBeliefNet):
    """See the module. The feature target holds the belief, as a share of the likeliest square's."""

    def choose(self, view: GoalView, belief: Tensor, target: Tensor, tick: Tick) -> Tensor:
        return belief / belief.amax(1, keepdim=True).clamp(min=1e-9)

    def act(self, view: GoalView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        weights = (hidden.flatten(1)[:, self.slots["target"]] / AMPLITUDE - 0.5).clamp(min=0)  # noise stays under 0.5
        ways = self.ways_to(torch.arange(self.num_squares, device=weights.device), view.square[:, None])
        votes = (weights[:, :, None] * ways / ways.sum(-1, keepdim=True)).sum(1)
        shares = votes / votes.sum(1, keepdim=True).clamp(min=1e-6)
        logits = shares.clamp(min=LEAST).log()
        return self.style.temperature * logits, weights.amax(1)  # its policy is the votes, at no temperature
