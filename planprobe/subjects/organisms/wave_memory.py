"""A wave of costs held in numbers rather than on a board: for organisms that see the number of their square alone."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES
from planprobe.subjects.organisms.base import AMPLITUDE, BLOCKED
from planprobe.subjects.organisms.waves import FAR, at_square, best_move, from_bits, look_ahead, to_bits

COST_BITS = 5
LONGEST_WAY = 2**COST_BITS - 1  # moves: rooms of 16 x 16, or eight doors


def wave_features(num_squares: int) -> dict[str, int]:
    """Names of the features with their numbers of channels: which squares a wave has reached, at what cost."""
    return {"reached": num_squares, "cost": COST_BITS * num_squares}


def pack_wave(cost: Tensor, squares: Tensor) -> Tensor:
    """Costs (B, H, W) int16, FAR = not reached, on squares (S,) as features (B, (1 + COST_BITS) * S) bool."""
    held = cost.flatten(1)[:, squares]
    known = held < FAR
    bits = to_bits(held.masked_fill(~known, 0))[:, :COST_BITS]
    return torch.cat([known, bits.flatten(1)], dim=1)


def read_wave(reached: Tensor, bits: Tensor, squares: Tensor, board: tuple[int, int]) -> Tensor:
    """The inverse of `pack_wave`: (B, H, W) int16 from reached (B, S) and bits (B, COST_BITS * S) bool."""
    costs = from_bits(bits.unflatten(1, (COST_BITS, len(squares)))).masked_fill(~reached, FAR)
    whole = costs.new_full((len(costs), board[0] * board[1]), FAR)
    whole[:, squares] = costs
    return whole.unflatten(1, board)


def downhill_scores(cost: Tensor, floor: Tensor, square: Tensor) -> Tensor:
    """Scores (B, 4) at squares (B,): the amplitude for the first of the moves to the least cost (B, H, W), `BLOCKED`
    off the floor (B, H, W) bool; where no cost is known beside it, open moves are all alike."""
    nearest, move = best_move(-at_square(look_ahead(cost, fill=FAR), square))
    there = torch.nn.functional.one_hot(move, NUM_MOVES) * (nearest > -FAR)[:, None]
    open_ahead = at_square(look_ahead(floor.float()), square)
    return AMPLITUDE * there + BLOCKED * (1 - open_ahead)
