"""Sokoban: push every box onto a target. Rules and rewards as Guez et al. 2019."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from planprobe.core.grid import BOX, NOOP, NUM_MOVES, TARGET, WALL, move_offsets
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
        self._reach = torch.stack([self._offsets, 2 * self._offsets])
        self._first_cells = self._board_ids * self.cells.shape[1]
        self._dead = dead_square_maps(self.levels.boards).flatten(1) if end_when_lost else None

    def _move(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        # squares ahead and beyond, (2, B); beyond is only out of range where ahead is border wall, and nothing moves
        squares = (self.players + self._reach.index_select(1, actions)).clamp_(0, self.cells.shape[1] - 1)
        addresses, cells = squares + self._first_cells, self.cells.view(-1)
        found = cells.take(addresses)
        has_box = (found[0] & BOX) != 0
        blocked = torch.where(has_box, found[1] & (WALL | BOX), found[0] & WALL) != 0
        moved = active & ~blocked & (actions != NOOP)
        pushed = moved & has_box
        # the box ahead is taken away and put down beyond: both squares flip their box
        cells.scatter_(0, addresses.view(-1), (found ^ (BOX * pushed.to(torch.uint8))).view(-1))
        self.players = torch.where(moved, squares[0], self.players)
        solved = self._find_solved(active, pushed)
        on_target = (found & TARGET).to(torch.float32) / TARGET
        gained = ON_TARGET_REWARD * (on_target[1] - on_target[0]) * pushed
        reward = STEP_REWARD * active + gained + SOLVED_REWARD * solved
        extras = {"moved": moved, "pushed": pushed}
        if self._dead is not None:
            beyond = squares[1]
            lost = pushed & self._dead[self.level_ids, beyond] & ~solved
            reward += STEP_REWARD * lost * (self.limits - self.elapsed)
            extras["lost"] = lost
        return reward, solved, extras

    def _find_solved(self, active: Tensor, pushed: Tensor) -> Tensor:
        """Boards without a pair of an empty target and a box beside targets, (B,) bool.

        Only a push can change that, so that after the first step of an episode the other boards are not looked at.
        """
        rows = (pushed | (active & (self.elapsed == 1))).nonzero().squeeze(1)
        pairs = self.cells[rows] & (TARGET | BOX)
        waiting = (pairs == BOX).any(1) & (pairs == TARGET).any(1)
        return torch.zeros_like(active).index_copy_(0, rows, ~waiting)


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
