"""Exact move counts of every state of one-box Sokoban boards, all boards at once.

A 7x7 board has 49 x 49 (box, player) states, few enough to hold the whole value table. It says how many moves each
possible push leaves to go, which a search from the start alone would not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet

UNSOLVABLE = -1
BLOCK = 128  # levels swept together: their table fits a core's cache
_FAR = 20_000  # int16, above any move count, and still no overflow with one move added


def count_moves_to_solve(walls: Tensor, targets: Tensor) -> Tensor:
    """Fewest moves, walks included, until the box stands on the target, from every state.

    Args: walls (N, H, W) bool, every border square a wall; targets (N,) int64.
    Returns: (N, H*W box, H*W player) int16; -1 where the box can never get there or the state cannot occur.
    """
    width = walls.shape[2]
    inner_targets = (targets // width - 1) * (width - 2) + targets % width - 1
    tables = [
        _sweep(~inner, block_targets)
        for inner, block_targets in zip(walls[:, 1:-1, 1:-1].split(BLOCK), inner_targets.split(BLOCK), strict=True)
    ]
    # neither box nor player is ever on the border: those rows and columns of the table are put back last
    return torch.nn.functional.pad(torch.cat(tables), (1,) * 8, value=UNSOLVABLE).flatten(3).flatten(1, 2)


def _sweep(free: Tensor, targets: Tensor) -> Tensor:
    """Backward value sweeps, one move each: (N, h, w box, h, w player) int16 of inner boards free (N, h, w) bool."""
    num_levels, height, width = free.shape
    num_squares = height * width
    flat = free.flatten(1)
    possible = flat[:, :, None] & flat[:, None, :] & ~torch.eye(num_squares, dtype=torch.bool, device=free.device)
    floor = torch.where(possible, 0, _FAR).to(torch.int16)  # no state costs less; impossible ones stay far away
    moves = torch.full_like(floor, _FAR)
    levels = torch.arange(num_levels, device=free.device)
    moves[levels, targets] = floor[levels, targets]
    pushes = _list_pushes(height, width, free.device)
    while True:
        # read before the walk, so that a sweep is one move for both
        after_push = [moves[:, ahead, boxes] + 1 for _, boxes, ahead in pushes]
        fewer = _walk_one_move(moves.view(-1, height, width)).view_as(moves)
        for (behind, boxes, _), cost in zip(pushes, after_push, strict=True):
            fewer[:, boxes, behind] = torch.minimum(fewer[:, boxes, behind], cost)
        fewer = torch.minimum(torch.maximum(fewer, floor), moves)
        if torch.equal(fewer, moves):
            return torch.where(moves < _FAR, moves, UNSOLVABLE).view(num_levels, height, width, height, width)
        moves = fewer


def _list_pushes(height: int, width: int, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each move: player square, box square and square ahead of every push that stays on the inner board."""
    squares = torch.arange(height * width, device=device).view(height, width)
    return [
        (squares[2:].flatten(), squares[1:-1].flatten(), squares[:-2].flatten()),
        (squares[:-2].flatten(), squares[1:-1].flatten(), squares[2:].flatten()),
        (squares[:, 2:].flatten(), squares[:, 1:-1].flatten(), squares[:, :-2].flatten()),
        (squares[:, :-2].flatten(), squares[:, 1:-1].flatten(), squares[:, 2:].flatten()),
    ]


def count_moves_by_push(levels: LevelSet) -> Tensor:
    """Moves to solve, the push included, once the player stands ready to push the box up, down, left or right.

    Returns: (N, 4) int64, -1 where that push cannot be made or leaves the board unsolvable.
    Raises: ShapeError (a level without exactly one box and one target).
    """
    boards = levels.boards.flatten(1)
    is_box, is_target = (boards & BOX) != 0, (boards & TARGET) != 0
    if not ((is_box.sum(1) == 1).all() and (is_target.sum(1) == 1).all()):
        raise ShapeError("one-box values need exactly one box and one target on every level.")
    free = (boards & WALL) == 0
    boxes, targets = is_box.to(torch.uint8).argmax(1), is_target.to(torch.uint8).argmax(1)
    moves = count_moves_to_solve(~free.view(levels.boards.shape), targets)
    rows = torch.arange(len(levels), device=boards.device)
    by_push = []
    for offset in move_offsets(levels.width).tolist()[:NUM_MOVES]:
        left = moves[rows, boxes + offset, boxes].to(torch.int64)
        can_push = free[rows, boxes - offset] & (left != UNSOLVABLE)
        by_push.append(torch.where(can_push, left + 1, UNSOLVABLE))
    return torch.stack(by_push, dim=1)


def _walk_one_move(moves: Tensor) -> Tensor:
    """One walk by the player: 1 + the fewest moves among the four neighbours, (M, H, W) int16."""
    best = torch.full_like(moves, _FAR)
    best[:, 1:] = moves[:, :-1]
    best[:, :-1] = torch.minimum(best[:, :-1], moves[:, 1:])
    best[:, :, 1:] = torch.minimum(best[:, :, 1:], moves[:, :, :-1])
    best[:, :, :-1] = torch.minimum(best[:, :, :-1], moves[:, :, 1:])
    return best + 1
