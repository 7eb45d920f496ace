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


def count_moves_by_push(levels: LevelSet, table: Tensor | None = None) -> Tensor:
    """Moves to solve, the push included, once the player stands ready to push the box up, down, left or right.

    Args: table: what `count_moves_to_solve` says of these levels, where it is at hand.
    Returns: (N, 4) int64, -1 where that push cannot be made or leaves the board unsolvable.
    Raises: ShapeError (a level without exactly one box and one target).
    """
    for kind, name in ((BOX, "box"), (TARGET, "target")):
        counts = ((levels.boards & kind) != 0).sum((1, 2))
        if not (counts == 1).all():
            raise ShapeError(f"one-box values need exactly one {name} a level, got {counts.min()} to {counts.max()}.")
    walls, boxes = (levels.boards & WALL) != 0, squares_of(levels.boards, BOX)
    if table is None:
        table = count_moves_to_solve(walls, squares_of(levels.boards, TARGET))
    rows = torch.arange(len(levels), device=walls.device)
    by_push = []
    for offset in move_offsets(levels.width).tolist()[:NUM_MOVES]:
        left = table[rows, boxes + offset, boxes].to(torch.int64)
        can_push = ~walls.flatten(1)[rows, boxes - offset] & (left != UNSOLVABLE)
        by_push.append(torch.where(can_push, left + 1, UNSOLVABLE))
    return torch.stack(by_push, dim=1)


def trace_box(table: Tensor, levels: LevelSet, pushes: Tensor) -> Tensor:
    """Squares of the box in the best solution that begins with the given pushes (N,); ties go to the lower action.

    Returns: (N, R) int64, from the box's own square to the target, padded with -1 (all but the first where the push
    cannot be made or leads nowhere).
    """
    rows = torch.arange(len(levels), device=table.device)
    offsets = move_offsets(levels.width, table.device)[:NUM_MOVES]
    boxes = squares_of(levels.boards, BOX)
    routes = [boxes]
    players, boxes = boxes, boxes + offsets[pushes]
    left = table[rows, boxes, players].to(torch.int64)
    routes.append(torch.where(left >= 0, boxes, -1))
    while bool((left > 0).any()):
        ahead = players[:, None] + offsets
        box_ahead = torch.where(ahead == boxes[:, None], boxes[:, None] + offsets, boxes[:, None])
        box_ahead.clamp_(0, table.shape[1] - 1)  # off the board only where the first push went into the border
        action = (table[rows[:, None], box_ahead, ahead] == left[:, None] - 1).to(torch.uint8).argmax(1)
        going = left > 0
        players = torch.where(going, ahead[rows, action], players)
        moved_to = torch.where(going, box_ahead[rows, action], boxes)
        routes.append(torch.where(moved_to != boxes, moved_to, -1))
        boxes, left = moved_to, left - 1
    return _close_gaps(torch.stack(routes, dim=1))


def squares_of(boards: Tensor, kind: int) -> Tensor:
    """Flat square of the first BOX or TARGET of each board (N, H, W), (N,) int64."""
    return ((boards & kind) != 0).flatten(1).to(torch.uint8).argmax(1)


def _close_gaps(routes: Tensor) -> Tensor:
    """Move the padding of (N, T) to the end of each row, and cut what no row needs."""
    order = (routes < 0).to(torch.uint8).argsort(dim=1, stable=True)
    longest = int((routes >= 0).sum(1).max()) if len(routes) else 0
    return routes.gather(1, order)[:, : max(longest, 2)]


def _walk_one_move(moves: Tensor) -> Tensor:
    """One walk by the player: 1 + the fewest moves among the four neighbours, (M, H, W) int16."""
    best = torch.full_like(moves, _FAR)
    best[:, 1:] = moves[:, :-1]
    best[:, :-1] = torch.minimum(best[:, :-1], moves[:, 1:])
    best[:, :, 1:] = torch.minimum(best[:, :, 1:], moves[:, :, :-1])
    best[:, :, :-1] = torch.minimum(best[:, :, :-1], moves[:, :, 1:])
    return best + 1
