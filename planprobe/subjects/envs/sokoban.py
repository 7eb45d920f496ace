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
        self._can_push, self._can_move, self._fills, self._rewards = (
            table.to(self.device) for table in _outcome_tables()
        )
        self._no_reward = torch.zeros((), device=self.device)
        self._dead = dead_square_maps(self.levels.boards).flatten(1) if end_when_lost else None

    def _move(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        # squares ahead and beyond, (2, B); beyond is only out of range where ahead is border wall, and nothing moves
        squares = (self.players + self._reach.index_select(1, actions)).clamp_(0, self.cells.shape[1] - 1)
        addresses, cells = squares + self._first_cells, self.cells.view(-1)
        found = cells.take(addresses)
        outcomes = (found[0] * _NUM_CODES + found[1]).to(torch.int64)
        moved = active & self._can_move.take(outcomes)
        if self.num_actions > NUM_MOVES:
            moved &= actions != NOOP
        pushed = moved & self._can_push.take(outcomes)
        # the box ahead is taken away and put down beyond: both squares flip their box
        cells.scatter_(0, addresses.view(-1), (found ^ (pushed.view(torch.uint8) * BOX)).view(-1))
        self.players = torch.where(moved, squares[0], self.players)
        solved = self._find_solved(active, moved & self._fills.take(outcomes))
        reward = torch.where(active, self._rewards.take(outcomes), self._no_reward).add_(solved, alpha=SOLVED_REWARD)
        extras = {"moved": moved, "pushed": pushed}
        if self._dead is not None:
            beyond = squares[1]
            lost = pushed & self._dead[self.level_ids, beyond] & ~solved
            reward += STEP_REWARD * lost * (self.limits - self.elapsed)
            extras["lost"] = lost
        return reward, solved, extras

    def _find_solved(self, active: Tensor, filled: Tensor) -> Tensor:
        """Boards without a pair of an empty target and a box beside targets, (B,) bool.

        Only a box pushed onto a target can end that, so that after the first step of an episode no other board is
        looked at. filled (B,) bool: on these boards one was.
        """
        rows = (filled | (active & (self.elapsed == 1))).nonzero().squeeze(1)
        solved = torch.zeros_like(active)
        if len(rows):
            pairs = self.cells.index_select(0, rows) & (TARGET | BOX)
            waiting = (pairs == BOX).any(1) & (pairs == TARGET).any(1)
            solved.index_copy_(0, rows, ~waiting)
        return solved


_NUM_CODES = 8  # of a square: any sum of WALL, TARGET and BOX


def _outcome_tables() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the codes of the squares ahead and beyond, at 8 * ahead + beyond, decide, (64,) each.

    Whether there is a box to be pushed, whether the agent moves, whether a box comes onto a target from beside (bool),
    and the reward but for the last box (float32).
    """
    codes = torch.arange(_NUM_CODES, dtype=torch.uint8)
    ahead, beyond = codes.repeat_interleave(_NUM_CODES), codes.repeat(_NUM_CODES)
    has_box = (ahead & BOX) != 0
    can_move = torch.where(has_box, beyond & (WALL | BOX), ahead & WALL) == 0
    gained = ((beyond & TARGET).float() - (ahead & TARGET).float()) / TARGET * (has_box & can_move)
    return has_box, can_move, gained > 0, STEP_REWARD + ON_TARGET_REWARD * gained


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
