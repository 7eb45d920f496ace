"""Sampler of the doors: one map drawn from the exact belief, and a wave in that world. It plans: sampled worlds.

Why: at the start of an episode, and whenever the map it believed in has been ruled out, one that fits is drawn with a
noise input (a hash of the clock and of what is seen) and kept; the wave spreads through the door of that map alone.
Another clock draws another door from the same belief.
Source: posterior sampling, Osband et al. 2013.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.rng import draw_uniform
from planprobe.subjects.organisms.base import Tick
from planprobe.subjects.organisms.doors_belief_net import DoorView
from planprobe.subjects.organisms.doors_wavefront import DoorsWavefront

_DRAW = 415  # stream of the counter-based draws


class DoorsSampler(DoorsWavefront):
    """See the module. Feature drawn: the map that it believes in."""

    def name_features(self) -> dict[str, int]:
        return {**super().name_features(), "drawn": self.task.num_doors}

    def update(self, view: DoorView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        if tick.number == 0:  # another episode, another draw
            around = around.clone()
            around[:, self.slots["drawn"]] *= ~view.ended.view(-1, 1, 1, 1)
        return super().update(view, own, around, tick)

    def think(self, alive: Tensor, learnt: Tensor, around: Tensor, tick: Tick) -> Tensor | None:
        held = around[:, self.slots["drawn"]] & alive
        weights = alive.double().cumsum(1)
        luck = draw_uniform(self.style.seed, _DRAW, tick.keys) * (1 - 1e-6)
        drawn = F.one_hot((weights > (luck * weights[:, -1])[:, None]).to(torch.uint8).argmax(1), alive.shape[1]).bool()
        keeps = held.sum(1) == 1
        world = torch.where(keeps[:, None], held, drawn)
        wave = super().think(world, ~keeps, around, tick)
        assert wave is not None  # a wavefront's
        return torch.cat([wave, world], dim=1)
