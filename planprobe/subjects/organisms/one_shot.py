"""One-shot: plans in its first step until it is done, then executes from memory. It plans: a parallel sweep.

Why: in the first step every tick backs costs up until nothing changes, marks the whole way, and completes what of it
has been edited in the tick before. From the second step on no cost is read or backed up and the board is not looked at
for a plan: the marks alone move the agent, and a board that changes changes nothing. Where no mark leads on from the
agent, which its own policy never brings about, it goes by the reflex.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.subjects.organisms.base import AMPLITUDE, Tick, View
from planprobe.subjects.organisms.wavefront import FAR, HALF, Wavefront
from planprobe.subjects.organisms.waves import back_up


class OneShot(Wavefront):
    """See the module. Feature started, the same on every square: the first step is over."""

    features: ClassVar[dict[str, int]] = {**Wavefront.features, "started": 1}

    def __init__(self, **options) -> None:
        super().__init__(reflex=True, **options)

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        started = (own[:, self.slots["started"]].mean((1, 2, 3)) > HALF)[:, None, None]
        cost, marks = self.read_cost(around), around[:, self.slots["plan"]]
        held = (marks > HALF) & ~view.player_mask[:, None]
        if not bool(started.all()):
            swept = self._sweep(view)
            held = torch.where(started[:, None], held, self.complete(view, marks, swept))
            cost = torch.where(started, cost, swept)
        over = (started | tick.is_last).expand_as(view.walls)
        return torch.cat([self.pack(cost, held, view), AMPLITUDE * over[:, None].float()], dim=1)

    def _sweep(self, view: View) -> Tensor:
        """Costs of every square, (B, H, W), backed up until nothing changes."""
        cost, sources, floor = torch.full_like(self.sources(view), FAR), self.sources(view), self.floor(view)
        while True:
            backed = back_up(cost, sources, floor)
            if torch.equal(backed, cost):
                return cost
            cost = backed
