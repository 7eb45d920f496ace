"""A maze with signposts: four more planes show the best move on every square.

An agent trained here behaves like a planner and need not compute anything: it is told. What detectors say of it is what
they say of behaviour alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.maze import Maze

SIGNPOST = "signpost"
"""The preset of `TaskRecipe.observation`."""


class SignpostMaze(Maze):
    """Batched maze with signposts; arguments of `Maze`.

    Observation (B, 7, H, W): wall, target, best move is up, down, left, right, player. Of several best moves the one
    with the lowest number is shown, the same for as long as the goal stands.
    """

    def __init__(self, levels: LevelSet, num_boards: int, **options) -> None:
        super().__init__(levels, num_boards, **options)
        self.num_planes += NUM_MOVES
        self.signs = torch.zeros(num_boards, NUM_MOVES, self.height, self.width, dtype=torch.uint8, device=self.device)

    def observe(self) -> Tensor:
        board = super().observe()
        return torch.cat([board[:, :2], self.signs, board[:, 2:]], dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"signs": self.signs.clone()}

    def _load(self, ids: Tensor, level_ids: Tensor, goals: Tensor) -> None:
        super()._load(ids, level_ids, goals)
        cells = self.cells[ids]
        walls = ((cells & WALL) != 0).view(-1, self.height, self.width)
        best = optimal_action_mask(distance_maps(walls, (cells & TARGET).argmax(1)))
        first = best & (best.cumsum(1) == 1)
        self.signs[ids] = first.to(torch.uint8)


def without_signs(observations: Tensor) -> Tensor:
    """The planes of an ordinary maze in (M, 7, H, W)."""
    return torch.cat([observations[:, :2], observations[:, -1:]], dim=1)
