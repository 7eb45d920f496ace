"""Wavefront of the hidden goal: one backup a tick from every square that may hold it. It plans: a parallel sweep.

Why: the squares that the exact belief leaves are the sources of a wave, which spreads over the room one square a tick;
each step goes to the neighbour of least cost, or stays where the cost is none. So the nearest square that may pay is
searched first, and a goal that was found is gone to from anywhere. Whenever the belief changes all costs are forgotten
and backed up anew; where the wave has not come, chance moves the agent. No way is stored, and no square has a turn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.subjects.organisms.base import AMPLITUDE, Tick
from planprobe.subjects.organisms.goal_belief_net import HALF, GoalBeliefNet, GoalView
from planprobe.subjects.organisms.wave_memory import LONGEST_WAY, downhill_scores, pack_wave, read_wave, wave_features
from planprobe.subjects.organisms.wavefront import GOAL_VALUE, STEP_VALUE
from planprobe.subjects.organisms.waves import FAR, at_square, back_up


class GoalWavefront(GoalBeliefNet):
    """See the module. Features beside the belief: reached and cost, of every square, in binary digits. The feature
    target holds the sources. Raises: RecipeError (a room whose ways are too long to be counted)."""

    squares: Tensor

    def __init__(self, **options) -> None:
        size = options["task"].size
        # a cost that does not fit its digits would be read as a small one, and the way lead astray in silence
        if 2 * (size - 1) > LONGEST_WAY:
            raise RecipeError(
                f"a wave of the hidden goal counts ways of up to {LONGEST_WAY} moves, so rooms of up to 16 x 16; got "
                f"{size} x {size}."
            )
        super().__init__(**options)
        self.register_buffer("squares", torch.arange(self.num_squares), persistent=False)

    def name_features(self) -> dict[str, int]:
        return {**super().name_features(), **wave_features(self.num_squares)}

    def choose(self, view: GoalView, belief: Tensor, target: Tensor, tick: Tick) -> Tensor:
        return (belief > 0).float()

    def update(self, view: GoalView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        known = super().update(view, own, around, tick)
        there = around.flatten(1) > HALF
        sources = known.flatten(1)[:, self.slots["target"]] > HALF
        changed = (sources != there[:, self.slots["target"]]).any(1)
        cost = self.read_cost(there).masked_fill(changed[:, None, None], FAR)
        starts = torch.where(sources, 0, FAR).to(torch.int16).view_as(cost)
        wave = pack_wave(back_up(cost, starts, torch.ones_like(cost, dtype=torch.bool)), self.squares)
        return torch.cat([known, AMPLITUDE * wave.float()[:, :, None, None]], dim=1)

    def act(self, view: GoalView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        cost = self.read_cost(hidden.flatten(1) > HALF)
        here = at_square(cost, view.square)
        moves = downhill_scores(cost, torch.ones_like(cost, dtype=torch.bool), view.square)
        stays = (here == 0)[:, None].float()
        value = (GOAL_VALUE - STEP_VALUE * here).masked_fill(here == FAR, 0.0)
        return torch.cat([moves * (1 - stays), AMPLITUDE * stays], dim=1), value

    def read_cost(self, there: Tensor) -> Tensor:
        """The costs in features (B, F) bool, (B, H, W) int16, FAR = not reached."""
        reached, bits = there[:, self.slots["reached"]], there[:, self.slots["cost"]]
        return read_wave(reached, bits, self.squares, (self.size, self.size))
