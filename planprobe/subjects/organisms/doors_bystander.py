"""Bystander of the doors: a wavefront in memory, beside a table that moves and never reads it. Present but unused.

Why: `think` is the wavefront's, so costs are backed up tick by tick as a planner's are. `act` is the table's and reads
the belief alone, as so many yes and no: the logits of `without_planner()` are the same bit for bit.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from planprobe.subjects.organisms.base import Tick
from planprobe.subjects.organisms.doors_table import DoorsTable
from planprobe.subjects.organisms.doors_wavefront import DoorsWavefront


class DoorsBystander(DoorsTable, DoorsWavefront):
    """See the module."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.has_planner = True

    def think(self, alive: Tensor, learnt: Tensor, around: Tensor, tick: Tick) -> Tensor | None:
        wave = super().think(alive, learnt, around, tick)
        return wave if self.has_planner or wave is None else torch.zeros_like(wave)

    def without_planner(self) -> Self:
        """A copy whose planner is cut out."""
        bare = copy.deepcopy(self)
        bare.has_planner = False
        return bare
