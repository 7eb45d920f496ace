"""Sokoban: push every box onto a target. Rules and rewards as Guez et al. 2019."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.board_env import BoardEnv

STEP_REWARD, ON_TARGET_REWARD, SOLVED_REWARD = -0.1, 1.0, 10.0


class Sokoban(BoardEnv):
    """Batched Sokoban of any size and number of boxes; arguments of `BoardEnv`, and:

    end_when_lost: an episode is also cut when a box is pushed where it can reach no target any more (for levels with as
        many targets as boxes); the step rewards up to the time limit are paid at once, so that being lost is worth what
        it is worth without the cut. Training on small boards otherwise spends most of its steps in positions that
        nothing can save.
    Reward: -0.1 a step, +1 / -1 for a box pushed on / off a target, +10 when the last box is on a target, or the last
    target under a box where there are more boxes.
    """

    planes = ("wall", "target", "box", "player")

    def __init__(self, levels: LevelSet, num_boards: int, *, end_when_lost: bool = False, **options: Any) -> None:
        super().__init__(levels, num_boards, **options)
        self._dead = dead_square_maps(self.levels.boards).flatten(1) if end_when_lost else None

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
        pairs = self.cells & (TARGET | BOX)
        solved = active & ~((pairs == BOX).any(1) & (pairs == TARGET).any(1))
        gained = ((cell_beyond & TARGET) != 0).to(torch.float32) - ((cell_ahead & TARGET) != 0).to(torch.float32)
        reward = STEP_REWARD * active.to(torch.float32) + ON_TARGET_REWARD * gained * pushed + SOLVED_REWARD * solved
        extras = {"moved": moved, "pushed": pushed}
        if self._dead is not None:
            lost = pushed & self._dead[self.level_ids, beyond] & ~solved
            reward += STEP_REWARD * lost * (self.limits - self.elapsed)
            extras["lost"] = lost
        return reward, solved, extras


def dead_square_maps(boards: Tensor) -> Tensor:
    """Floor squares from which a box, alone on the board, reaches no target: (N, H, W) uint8 boards -> (N, H, W) bool.

    Backwards from the targets: a box can be pushed from s to s + d where both and s - d, for the pusher, are floor.
    """
    num_boards, _, width = boards.shape
    floor = ((boards & WALL) == 0).flatten(1)
    alive = ((boards & TARGET) != 0).flatten(1) & floor
    offsets = move_offsets(width)[:NUM_MOVES].tolist()
    while True:
        # walls on the border: what rolls over an edge comes from a wall square and is masked
        reached = [alive.roll(-step, 1) & floor.roll(step, 1) & floor for step in offsets]
        grown = alive | torch.stack(reached).any(0)
        if torch.equal(grown, alive):
            return (floor & ~alive).view(num_boards, -1, width)
        alive = grown
