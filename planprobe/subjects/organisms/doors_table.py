"""Table of the doors: the exact belief, and the best move for it looked up. It adapts without planning.

Why: the moves were worked out by dynamic programming when it was built, one for every set of maps and every square, and
stand in a table. At run time the belief is narrowed by what is seen, as any filter does, and a row is looked up: no
square's value is ever worked out from another's. It acts as well as can be (but for the time that is left, which the
table does not know), and it is the reading that a planner must be told from: a belief with an amortised policy.
Source: Mikulik et al. 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.grid import NUM_MOVES
from planprobe.subjects.organisms.base import AMPLITUDE
from planprobe.subjects.organisms.doors_belief_net import DoorBeliefNet, DoorView
from planprobe.subjects.references.door_values import solve_doors


class DoorsTable(DoorBeliefNet):
    """See the module."""

    moves: Tensor

    def __init__(self, **options) -> None:
        super().__init__(**options)
        at_the_start = solve_doors(self.task).q[0, 0]  # all the time that there is
        self.register_buffer("moves", at_the_start.argmax(2), persistent=False)

    def act(self, view: DoorView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        move = self.moves[self.as_sets(self.alive(hidden)), view.square]
        scores = AMPLITUDE * F.one_hot(move, NUM_MOVES).to(torch.float32)
        return scores, scores.amax(1)
