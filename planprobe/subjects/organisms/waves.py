"""Moves on whole boards at once: what lies ahead, one Bellman backup, the way that a field of moves leads.

Fields of moves are (B, 4, H, W), up, down, left, right. An *entry* is marked on the square that a move leads to, an
*exit* on the square it leaves; off the board there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, OPPOSITE, ROW_OFFSETS, move_offsets

FAR = 255  # cost of a square that no wave has reached; what eight binary channels can hold
NUM_BITS = 8
STAY = NUM_MOVES  # the index of a move of offset 0


def look_ahead(planes: Tensor, *, fill: float = 0) -> Tensor:
    """What lies one move ahead: (B, H, W) -> (B, 4, H, W)."""
    return _shift_each(planes[:, None].expand(-1, NUM_MOVES, -1, -1), range(NUM_MOVES), fill)


def as_exits(entries: Tensor) -> Tensor:
    """Each move's mark, found on the square it leads to, put on the square it leaves; both (B, 4, H, W)."""
    return _shift_each(entries, range(NUM_MOVES))


def as_entries(exits: Tensor) -> Tensor:
    """Each move's mark, found on the square it leaves, put on the square it leads to; both (B, 4, H, W)."""
    return _shift_each(exits, OPPOSITE)


def back_up(cost: Tensor, sources: Tensor, floor: Tensor) -> Tensor:
    """One Bellman backup on every square: 1 + the least cost one move ahead, at most what a source says itself.

    Args: cost, sources (B, H, W) int16, FAR = not known, no source; floor (B, H, W) bool, where one can stand.
    """
    nearest, _ = best_move(-look_ahead(cost, fill=FAR))
    return torch.minimum(1 - nearest, sources).clamp(max=FAR).masked_fill(~floor, FAR)


def best_move(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of four (B, 4, ...) and its move, the lower in a tie; far faster than max over a short axis."""
    best, move = scores[:, 0], torch.zeros_like(scores[:, 0], dtype=torch.int64)
    for number in range(1, NUM_MOVES):
        better = scores[:, number] > best
        best, move = torch.where(better, scores[:, number], best), move.masked_fill(better, number)
    return best, move


def walk(moves: Tensor, starts: Tensor) -> Tensor:
    """Squares on the way from `starts` (B,) when every square sends one on by its move, (B, H, W) bool, start included.

    moves (B, H, W) int64 in 0..4, STAY ends the way; none may lead off the board. Doubles the length of every jump in
    each round, so a way of any length takes log2 of it.
    """
    flat = moves.flatten(1)
    num_squares = flat.shape[1]
    offsets = move_offsets(moves.shape[2], moves.device)
    jump = (torch.arange(num_squares, device=moves.device) + offsets[flat]).clamp(0, num_squares - 1)
    step, way = jump, starts[:, None]
    for _ in range(num_squares.bit_length()):
        way = torch.cat([way, jump.gather(1, way)], dim=1)
        last = way[:, -1:]
        if torch.equal(step.gather(1, last), last):
            break
        jump = jump.gather(1, jump)
    return torch.zeros(flat.shape, dtype=torch.bool, device=moves.device).scatter_(1, way, True).view_as(moves)


def step_marks(visited: Tensor, moves: Tensor) -> Tensor:
    """Exits of a way: (B, 4, H, W) bool from its squares and the move on each, (B, H, W)."""
    return torch.stack([visited & (moves == move) for move in range(NUM_MOVES)], dim=1)


def at_square(planes: Tensor, squares: Tensor) -> Tensor:
    """Planes (B, ..., H, W) on one square each (B,): (B, ...)."""
    flat = planes.flatten(-2)
    index = squares.view(-1, *[1] * (flat.ndim - 1)).expand(*flat.shape[:-1], 1)
    return flat.gather(-1, index).squeeze(-1)


def to_bits(numbers: Tensor) -> Tensor:
    """(B, H, W) int16 in 0..255 -> (B, 8, H, W) bool, the lowest bit first."""
    return torch.stack([(numbers >> bit) & 1 for bit in range(NUM_BITS)], dim=1).bool()


def from_bits(bits: Tensor) -> Tensor:
    """The inverse of `to_bits`, for any number of bits."""
    numbers = torch.zeros_like(bits[:, 0], dtype=torch.int16)
    for bit in range(bits.shape[1]):
        numbers += bits[:, bit].to(torch.int16) << bit
    return numbers


def _shift_each(planes: Tensor, moves: Sequence[int], fill: float = 0) -> Tensor:
    """What each plane (B, 4, H, W) has ahead by a move of its own."""
    shifted = torch.empty_like(planes, memory_format=torch.contiguous_format)
    for number, move in enumerate(moves):
        plane = shifted[:, number]
        (rows, rows_ahead, row_off), (columns, columns_ahead, column_off) = (
            _SLICES[offset] for offset in (ROW_OFFSETS[move], COLUMN_OFFSETS[move])
        )
        plane[:, rows, columns] = planes[:, number, rows_ahead, columns_ahead]
        if row_off is not None:
            plane[:, row_off] = fill
        if column_off is not None:
            plane[:, :, column_off] = fill
    return shifted


# offset of a move along an axis -> where something lies ahead, what that is, the line that has nothing ahead
_SLICES = {
    -1: (slice(1, None), slice(None, -1), 0),
    0: (slice(None), slice(None), None),
    1: (slice(None, -1), slice(1, None), -1),
}
