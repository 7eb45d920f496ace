"""Bystander of the hidden goal: a wavefront in memory, beside a sweeper that never reads it. Present but unused.

Why: `update` is the wavefront's, so costs are backed up tick by tick as a planner's are. `act` is the sweeper's and
reads the belief alone, as so many yes and no: the logits of `without_planner()` are the same bit for bit.
"""

from __future__ import annotations

import copy
from typing import Self

from torch import Tensor

from planprobe.subjects.organisms.base import AMPLITUDE, Tick
from planprobe.subjects.organisms.goal_belief_net import HALF, GoalView
from planprobe.subjects.organisms.goal_wavefront import GoalWavefront
from planprobe.subjects.organisms.sweeper import first_alive, serpentine


class GoalBystander(GoalWavefront):
    """See the module."""

    order: Tensor

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.register_buffer("order", serpentine(self.size), persistent=False)
        self.has_planner = True

    def update(self, view: GoalView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        features = super().update(view, own, around, tick)
        if not self.has_planner:
            features[:, self.slots["reached"].start :] = 0
        return features

    def act(self, view: GoalView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        there = hidden.flatten(1) > HALF
        belief = self.belief(there[:, self.slots["ruled_out"]], there[:, self.slots["goal"]])
        scores = AMPLITUDE * self.ways_to(first_alive(belief, self.order), view.square)
        return scores, scores.amax(1)

    def without_planner(self) -> Self:
        """A copy whose planner is cut out."""
        bare = copy.deepcopy(self)
        bare.has_planner = False
        return bare
