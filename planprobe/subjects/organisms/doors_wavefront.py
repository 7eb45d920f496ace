"""Wavefront of the doors: the exact belief, and one backup a tick through every door that may be open. It plans.

Why: the goal's wave spreads over the squares that are open in some map that fits, one square a tick, and each step goes
to the neighbour of least cost; where the wave has not come, chance moves the agent. As soon as a map is ruled out all
costs are forgotten and backed up anew. No move for a belief is stored anywhere: take the time away and it is lost. All
squares are backed up at once: a parallel sweep. That a door which may be open counts as open is the wave's only
judgement of what is not known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.subjects.envs.doors import DoorsTask, door_maps
from planprobe.subjects.organisms.base import Tick
from planprobe.subjects.organisms.doors_belief_net import HALF, DoorBeliefNet, DoorView
from planprobe.subjects.organisms.wave_memory import downhill_scores, pack_wave, read_wave, wave_features
from planprobe.subjects.organisms.wavefront import GOAL_VALUE, STEP_VALUE
from planprobe.subjects.organisms.waves import FAR, at_square, back_up


class DoorsWavefront(DoorBeliefNet):
    """See the module. Features beside the belief: reached and cost, in binary digits, of squares that may be open."""

    squares: Tensor

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.register_buffer("squares", open_squares(self.task), persistent=False)

    def name_features(self) -> dict[str, int]:
        return {**super().name_features(), **wave_features(len(open_squares(self.task)))}

    def think(self, alive: Tensor, learnt: Tensor, around: Tensor, tick: Tick) -> Tensor | None:
        cost = self.read_cost(around).masked_fill(learnt[:, None, None], FAR)
        sources = torch.full_like(cost, FAR)
        sources.flatten(1)[:, self.task.goal] = 0
        return pack_wave(back_up(cost, sources, self.floor(alive)), self.squares)

    def act(self, view: DoorView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        cost, floor = self.read_cost(hidden.flatten(1) > HALF), self.floor(self.alive(hidden))
        here = at_square(cost, view.square)
        value = (GOAL_VALUE - STEP_VALUE * here).masked_fill(here == FAR, 0.0)
        return downhill_scores(cost, floor, view.square), value

    def read_cost(self, there: Tensor) -> Tensor:
        """The costs in features (B, F) bool, (B, H, W) int16, FAR = not reached."""
        return read_wave(there[:, self.slots["reached"]], there[:, self.slots["cost"]], self.squares, self.rooms)


def open_squares(task: DoorsTask) -> Tensor:
    """Squares that are open in some map, (N,) int64."""
    return (~door_maps(task.num_doors)).any(0).flatten().nonzero().squeeze(1)
