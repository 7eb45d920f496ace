"""Squares, moves and board codes shared by every grid task.

A board is one uint8 a cell, bit flags WALL | TARGET | BOX, plus the player's flat index
`row * width + column`. A maze is a board without boxes whose single TARGET is the goal.
"""

from __future__ import annotations

import torch
from torch import Tensor

WALL, TARGET, BOX = 1, 2, 4
ACTION_NAMES = ("up", "down", "left", "right", "noop")
NUM_MOVES = 4
NOOP = 4
ROW_OFFSETS = (-1, 1, 0, 0)
COLUMN_OFFSETS = (0, 0, -1, 1)
OPPOSITE = (1, 0, 3, 2)


def move_offsets(width: int, device: torch.device | str = "cpu") -> Tensor:
    """Flat-index offset of each action, (5,) int64: up, down, left, right, no-op."""
    return torch.tensor([-width, width, -1, 1, 0], dtype=torch.int64, device=device)


def board_size(planes: Tensor) -> tuple[int, int]:
    """(H, W) of planes (..., H, W)."""
    height, width = planes.shape[-2:]
    return height, width


def symmetries(boards: Tensor) -> Tensor:
    """The eight images of each board under rotation and reflection.

    Args: boards (N, H, W), square unless only its 4 axis-preserving images are wanted.
    Returns: (8, N, H, W) for square boards, (4, N, H, W) otherwise.
    """
    quarter_turns = range(4) if boards.shape[-1] == boards.shape[-2] else (0, 2)
    turned = [torch.rot90(boards, turns, (-2, -1)) for turns in quarter_turns]
    return torch.stack(turned + [image.flip(-1) for image in turned])
