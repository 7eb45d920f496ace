"""One-shot: plans until its plan is done, waiting, and executes it from memory ever after. It plans: a parallel sweep.

Why: until the way it has marked arrives at the goal it is the wavefront, one backup a tick, and stays where it is by
pushing against a wall. Then it commits: from the next tick on no cost is backed up and no board compared, the marks
alone move the agent, and a board that changes changes nothing. Where no mark leads on from the agent, which its own
policy never brings about, it goes by the reflex.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.subjects.organisms.base import AMPLITUDE, Tick, View
from planprobe.subjects.organisms.rules import reflex_scores
from planprobe.subjects.organisms.waiting import follow_or_wait, way_along
from planprobe.subjects.organisms.wavefront import HALF, Wavefront


class OneShot(Wavefront):
    """See the module. Feature done, the same on every square: the plan arrives, and is executed."""

    features: ClassVar[dict[str, int]] = {**Wavefront.features, "done": 1}

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        done = self._is_done(own)
        planned = super().update(view, own, around, tick)
        plan = self.slots["plan"]
        held = around[:, : planned.shape[1]] > HALF
        held[:, plan] &= ~view.player_mask[:, None]
        _, arrives = way_along(planned[:, plan] > HALF, view)
        features = torch.where(done.view(-1, 1, 1, 1), AMPLITUDE * held.float(), planned)
        flag = (done | arrives).view(-1, 1, 1, 1).expand(-1, 1, *view.walls.shape[1:])
        return torch.cat([features, AMPLITUDE * flag.float()], dim=1)

    def act(self, view: View, hidden: Tensor) -> tuple[Tensor, Tensor]:
        done = self._is_done(hidden)
        scores = follow_or_wait(view, hidden[:, self.slots["plan"]], ~done)
        lost = done & (scores.amax(1) < HALF)
        _, value = super().act(view, hidden)
        return torch.where(lost[:, None], AMPLITUDE * reflex_scores(view), scores), value

    def _is_done(self, plain: Tensor) -> Tensor:
        return plain[:, self.slots["done"]].mean((1, 2, 3)) > HALF
