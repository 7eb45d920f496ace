"""Sampler of the hidden goal: one goal drawn from the exact belief, and the way there. It plans: sampled worlds.

Why: at the start of an episode, and whenever the goal it goes for has been ruled out, one goal is drawn with a noise
input (a hash of the clock and of what is seen) from the belief, and kept; the moves are those of a shortest way in the
world in which that is the goal. Another clock draws another goal from the same belief.
Source: posterior sampling, Osband et al. 2013.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.rng import draw_uniform
from planprobe.subjects.organisms.base import Tick
from planprobe.subjects.organisms.goal_belief_net import GoalBeliefNet, GoalView

_DRAW = 413  # stream of the counter-based draws


class GoalSampler(GoalBeliefNet):
    """See the module."""

    def choose(self, view: GoalView, belief: Tensor, target: Tensor, tick: Tick) -> Tensor:
        luck = draw_uniform(self.style.seed, _DRAW, tick.keys)
        drawn = (belief.cumsum(1) > (luck * belief.sum(1) * (1 - 1e-6))[:, None]).to(torch.uint8).argmax(1)
        held = target.argmax(1)
        alive = belief.gather(1, held[:, None]).squeeze(1) > 0
        keep = (target.amax(1) > 0.5) & alive & ~(view.ended & (tick.number == 0))
        return torch.nn.functional.one_hot(torch.where(keep, held, drawn), self.num_squares)
