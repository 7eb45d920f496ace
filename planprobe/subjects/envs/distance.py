"""Geodesic distance and every optimal move, for whole banks of boards at once: the exact answer of the maze tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, ROW_OFFSETS

UNREACHABLE = -1


def distance_maps(walls: Tensor, goals: Tensor) -> Tensor:
    """Steps from every square to its board's goal, by a breadth-first wave that spreads on all boards together.

    Walking is symmetric, so the same map holds the steps *from* the square `goals` to every other one.

    Args:
        walls: (N, H, W) bool, true where one cannot stand. The edge of the board counts as wall.
        goals: (N,) int64, flat index.
    Returns: (N, H, W) int16; -1 on walls and where the goal cannot be reached (everywhere if the goal is a wall).
    Raises: ShapeError (the inputs disagree about N, or a goal lies off the board).
    """
    _check_squares(walls, goals)
    height, width = walls.shape[1:]
    unseen = (~walls).to(torch.uint8)
    wave = torch.zeros_like(unseen).flatten(1).scatter(1, goals[:, None], 1).view_as(unseen) & unseen
    distance = torch.zeros(walls.shape, dtype=torch.int16, device=walls.device)
    for _ in range(height * width):
        unseen -= wave
        # one step more for everything the wave has not reached; squares it never reaches are overwritten below
        distance += unseen
        wave = _spread(wave) & unseen
        if not wave.any():
            break
    return distance.masked_fill_(walls | unseen.bool(), UNREACHABLE)


def optimal_action_mask(distance: Tensor) -> Tensor:
    """Every move that comes exactly one step closer: (N, 4, H, W) bool, in the order up, down, left, right.

    A maze with loops often has several optimal moves on a square, so scoring against a single one would call good moves
    wrong. Nothing is optimal on the goal itself, on walls or on unreachable squares.

    Args: distance: (N, H, W) integer, as `distance_maps` returns it.
    """
    rows, columns = distance.shape[-2:]
    padded = torch.nn.functional.pad(distance, (1, 1, 1, 1), value=UNREACHABLE)
    ahead = [
        padded[:, 1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
        for down, right in zip(ROW_OFFSETS, COLUMN_OFFSETS, strict=True)
    ]
    neighbours = torch.stack(ahead, dim=1)
    assert neighbours.shape[1] == NUM_MOVES
    return (neighbours == distance[:, None] - 1) & (distance > 0)[:, None]


def squares_in_sight(walls: Tensor, goals: Tensor) -> Tensor:
    """Squares from which one can walk straight to the goal, the goal itself left out, (N, H, W) bool.

    Args: as `distance_maps`; the edge of every board must be wall.
    """
    _check_squares(walls, goals)
    goal = torch.zeros_like(walls).flatten(1).scatter(1, goals[:, None], True).view_as(walls)
    seen = torch.zeros_like(walls)
    for shift, axis in ((-1, 1), (1, 1), (-1, 2), (1, 2)):
        ahead = goal
        for _ in range(max(walls.shape[1:]) - 3):
            ahead = ahead.roll(shift, axis) & ~walls
            seen |= ahead
    return seen


def _spread(wave: Tensor) -> Tensor:
    """The wave and its four neighbours, (N, H, W) uint8."""
    out = wave.clone()
    out[:, 1:] |= wave[:, :-1]
    out[:, :-1] |= wave[:, 1:]
    out[:, :, 1:] |= wave[:, :, :-1]
    out[:, :, :-1] |= wave[:, :, 1:]
    return out


def _check_squares(walls: Tensor, squares: Tensor) -> None:
    if walls.ndim != 3 or squares.shape != walls.shape[:1]:
        raise ShapeError(f"walls {tuple(walls.shape)} and goals {tuple(squares.shape)}: need (N, H, W) and (N,).")
    num_squares = walls.shape[1] * walls.shape[2]
    # a negative index would wrap around and give a distance to another square
    if len(squares) and (int(squares.min()) < 0 or int(squares.max()) >= num_squares):
        raise ShapeError(f"goals must lie in 0..{num_squares - 1}, got {int(squares.min())}..{int(squares.max())}.")
