"""Reflex: straight towards the goal, as far as the walls beside it allow, and nothing kept. It does not plan.

Why: the features of every tick are the planes of the present observation, whatever was in memory, and the move is a
function of the goal's direction and of the four squares beside the agent. No square further away has any influence, so
there is nothing that more ticks or a longer look could add.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.subjects.organisms.base import AMPLITUDE, CodedNet, Tick, View, read_view
from planprobe.subjects.organisms.rules import reflex_scores, sokoban_reflex_scores


class Reflex(CodedNet):
    """See the module. Features: the planes of the observation, which is what the rule reads them from."""

    features: ClassVar[dict[str, int]] = {"wall": 1, "target": 1, "player": 1}

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        things = {"wall": view.walls, "target": view.targets, "box": view.boxes, "player": view.player_mask}
        return AMPLITUDE * torch.stack([things[name] for name in self.features], dim=1).float()

    def act(self, view: View, hidden: Tensor) -> tuple[Tensor, Tensor]:
        scores = AMPLITUDE * self.rule(read_view(hidden))
        return scores, scores.amax(1)

    def rule(self, view: View) -> Tensor:
        """Scores of the moves, (B, 4), in units of the amplitude."""
        return reflex_scores(view)


class SokobanReflex(Reflex):
    """Behind the box, on the side that brings it nearer to the target, and push; straight there, round no corner."""

    features: ClassVar[dict[str, int]] = {"wall": 1, "target": 1, "box": 1, "player": 1}

    def rule(self, view: View) -> Tensor:
        return sokoban_reflex_scores(view)
