"""Bystander: a wavefront planner in memory, beside a table that moves and never reads it. Plan present but unused.

Why: `update` is the wavefront's, so the way is worked out tick by tick and marked in the code as a planner's is. `act`
reads the encoded observation alone, never h or c: there is no path from the plan to the move, and the logits of
`without_planner()` are the same bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from planprobe.core.levels import LevelSet
from planprobe.subjects.organisms.base import AMPLITUDE, Tick, View
from planprobe.subjects.organisms.rules import Lookup, SokobanLookup
from planprobe.subjects.organisms.sokoban_wavefront import SokobanWavefront
from planprobe.subjects.organisms.table import look_up
from planprobe.subjects.organisms.wavefront import Wavefront


class Bystander(Wavefront):
    """See the module. level_sets: mazes that the table knows; elsewhere it goes by the reflex."""

    lookup_class: type[Lookup] = Lookup

    def __init__(self, *, level_sets: Sequence[LevelSet], **options) -> None:
        super().__init__(**options)
        self.lookup, self.has_planner = self.lookup_class(level_sets), True

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        return super().update(view, own, around, tick) if self.has_planner else torch.zeros_like(own)

    def act(self, view: View, hidden: Tensor) -> tuple[Tensor, Tensor]:
        scores = AMPLITUDE * look_up(self.lookup, view)
        return scores, scores.amax(1)

    def without_planner(self) -> Self:
        """A copy whose planner is cut out: its memory holds nothing but padding."""
        bare = copy.deepcopy(self)
        bare.has_planner = False
        return bare


class SokobanBystander(Bystander, SokobanWavefront):
    """The same with the planner and the table of Sokoban."""

    lookup_class = SokobanLookup
