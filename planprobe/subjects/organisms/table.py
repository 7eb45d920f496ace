"""Table: the optimal moves of a fixed set of mazes, looked up, and the reflex elsewhere. It does not plan.

Why: the moves were worked out when it was built and stand in a table under a hash of the board. At run time the board
is hashed and the agent's square is looked up: no square's value is ever worked out from another's. On its mazes it is
perfect at once; a wall moved, a goal moved or a maze it was not given, and it knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from planprobe.core.levels import LevelSet
from planprobe.subjects.organisms.base import View
from planprobe.subjects.organisms.reflex import Reflex, SokobanReflex
from planprobe.subjects.organisms.rules import Lookup, SokobanLookup


class Table(Reflex):
    """See the module. level_sets: the mazes it knows."""

    def __init__(self, *, level_sets: Sequence[LevelSet], **options) -> None:
        super().__init__(**options)
        self.lookup = Lookup(level_sets)

    def rule(self, view: View) -> Tensor:
        return look_up(self.lookup, view)


class SokobanTable(SokobanReflex):
    """The same for one-box boards: the optimal move of every square of box and player. level_sets: boards it knows."""

    def __init__(self, *, level_sets: Sequence[LevelSet], **options) -> None:
        super().__init__(**options)
        self.lookup = SokobanLookup(level_sets)

    def rule(self, view: View) -> Tensor:
        return look_up(self.lookup, view)


def look_up(table: Lookup, view: View) -> Tensor:
    """The table's scores where it knows the board, the reflex's elsewhere, (B, 4)."""
    scores, known = table(view)
    return torch.where(known[:, None], scores, table.otherwise(view))
