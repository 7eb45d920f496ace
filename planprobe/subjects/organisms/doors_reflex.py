"""Reflex of the doors: right where it can, along the wall at random where it cannot. It does not plan.

Why: the features of every tick are those of the present view, whatever was in memory, and the move depends on the
square and on what is beside it. It finds the door by chance, in every episode anew, and learns nothing from having
found it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.grid import NUM_MOVES
from planprobe.subjects.envs.doors import WALL_COLUMN, WIDTH
from planprobe.subjects.organisms.base import AMPLITUDE, BLOCKED, Tick
from planprobe.subjects.organisms.doors_belief_net import DOWN, HALF, RIGHT, UP, DoorsNet, DoorView


class DoorsReflex(DoorsNet):
    """See the module. Features: shown, the present view."""

    def name_features(self) -> dict[str, int]:
        return {"shown": self.num_shown}

    def update(self, view: DoorView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        return AMPLITUDE * view.shown.float()[:, :, None, None]

    def act(self, view: DoorView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        flat = hidden.flatten(1)
        square, further = flat[:, : self.num_squares].argmax(1), flat[:, self.num_squares :] > HALF
        if self.task.view == "neighbours":
            walls = further
        else:  # a bump beside the wall is taken for the wall
            walls = further & F.one_hot(torch.full_like(square, RIGHT), NUM_MOVES).bool()
        along = torch.zeros(len(square), NUM_MOVES, device=square.device)
        along[:, [UP, DOWN]] = 1
        searching = walls[:, RIGHT] & (square % WIDTH < WALL_COLUMN)
        straight = torch.where(square % WIDTH < WALL_COLUMN, RIGHT, self.to_goal(square))
        scores = torch.where(searching[:, None], along, F.one_hot(straight, NUM_MOVES).float())
        return AMPLITUDE * scores + BLOCKED * walls, scores.amax(1)
