"""Sokoban: push every box onto a target. Rules and rewards as Guez et al. 2019."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.subjects.envs.board_env import BoardEnv

STEP_REWARD, ON_TARGET_REWARD, SOLVED_REWARD = -0.1, 1.0, 10.0


class Sokoban(BoardEnv):
    """Batched Sokoban of any size and number of boxes; arguments of `BoardEnv`.

    Reward: -0.1 a step, +1 / -1 for a box pushed on / off a target, +10 when the last box is on a target.
    """

    planes = ("wall", "target", "box", "player")

    def _move(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        offset = self._offsets[actions]
        ahead = self.players + offset
        beyond = (ahead + offset).clamp_(0, self.cells.shape[1] - 1)  # only out of range where `ahead` is border wall
        cell_ahead = self.cells.gather(1, ahead[:, None]).squeeze(1)
        cell_beyond = self.cells.gather(1, beyond[:, None]).squeeze(1)
        has_box = (cell_ahead & BOX) != 0
        free_beyond = (cell_beyond & (WALL | BOX)) == 0
        moved = active & (offset != 0) & ((cell_ahead & WALL) == 0) & (~has_box | free_beyond)
        pushed = moved & has_box
        change = pushed.to(torch.uint8) * BOX
        self.cells.scatter_(1, ahead[:, None], (cell_ahead - change)[:, None])
        cell_beyond = torch.where(pushed, cell_beyond | BOX, self.cells.gather(1, beyond[:, None]).squeeze(1))
        self.cells.scatter_(1, beyond[:, None], cell_beyond[:, None])
        self.players = torch.where(moved, ahead, self.players)
        left = ((self.cells & (TARGET | BOX)) == BOX).any(1)
        solved = active & ~left
        gained = ((cell_beyond & TARGET) != 0).to(torch.float32) - ((cell_ahead & TARGET) != 0).to(torch.float32)
        reward = STEP_REWARD * active.to(torch.float32) + ON_TARGET_REWARD * gained * pushed + SOLVED_REWARD * solved
        return reward, solved, {"moved": moved, "pushed": pushed}
