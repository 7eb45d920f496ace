"""What the tasks with a walking agent share: tables of moves, one-hot squares, the squares around the agent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, ROW_OFFSETS

STEP_REWARD, GOAL_REWARD = -0.04, 1.0
"""Of mazes with a hidden goal and of doors. Source: Duan et al. 2016 (visual navigation)."""


def next_squares(walls: Tensor, *, noop: bool = False) -> Tensor:
    """Where each action leads from each square; walls and the edge of the board leave one where one is.

    Args: walls (N, H, W) bool. noop: add a fifth action that stays.
    Returns: (N, H*W, A) int64 flat squares.
    """
    num_boards, height, width = walls.shape
    here = torch.arange(height * width, device=walls.device)
    rows, columns = here // width, here % width
    flat, tables = walls.flatten(1), []
    for down, right in zip(ROW_OFFSETS, COLUMN_OFFSETS, strict=True):
        ahead = (rows + down).clamp(0, height - 1) * width + (columns + right).clamp(0, width - 1)
        tables.append(torch.where(flat[:, ahead], here, ahead))
    if noop:
        tables.append(here.expand(num_boards, -1))
    return torch.stack(tables, dim=2)


def walls_around(walls: Tensor) -> Tensor:
    """Whether the square up, down, left and right of each square is a wall, (N, H*W, 4) bool; outside is wall.

    Args: walls (N, H, W) bool.
    """
    height, width = walls.shape[1:]
    padded = F.pad(walls, (1, 1, 1, 1), value=True)
    sides = [
        padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        for down, right in zip(ROW_OFFSETS, COLUMN_OFFSETS, strict=True)
    ]
    assert len(sides) == NUM_MOVES
    return torch.stack(sides, dim=3).flatten(1, 2)


def wall_windows(walls: Tensor, view_size: int) -> Tensor:
    """The walls around each square, (N, H, W, view_size, view_size) bool, a view of little memory; outside is wall.

    Args: walls (N, H, W) bool. view_size: odd, the square itself amidst.
    """
    padded = F.pad(walls, (view_size // 2,) * 4, value=True)
    return padded.unfold(1, view_size, 1).unfold(2, view_size, 1)


def one_hot_squares(squares: Tensor, num_squares: int) -> Tensor:
    """(B, num_squares) float32."""
    return F.one_hot(squares, num_squares).to(torch.float32)


def walk_extras(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """What a step adds to `StepResult.extras`, (B,) each: moved, and the squares it began and ended on.

    Where an episode ends, the agent is put elsewhere in the same step, so that its last square is to be had here alone.
    """
    return {"moved": after != before, "square_before": before.clone(), "square": after.clone()}
