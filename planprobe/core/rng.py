"""Counter-based random draws: the value depends on (seed, counters) alone, never on batch size, order or device."""

from __future__ import annotations

import torch
from torch import Tensor

_INCREMENT = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_ALL = (1 << 64) - 1


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts int64 arithmetically; this one is logical


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _mix_number(x: int) -> int:
    """`_mix` of one number, without the cost of a dozen tensor operations."""
    x &= _ALL
    x = (x ^ x >> 30) * _MIX_1 & _ALL
    x = (x ^ x >> 27) * _MIX_2 & _ALL
    return _signed(x ^ x >> 31)


def _signed(x: int) -> int:
    """The 64-bit integer with the same last 64 bits."""
    x &= _ALL
    return x - (1 << 64) if x >> 63 else x


def draw_bits(seed: int, *counters: Tensor | int) -> Tensor:
    """63 random bits for every element of the (broadcast) counters, int64 >= 0. Source: SplitMix64, Steele 2014."""
    state: Tensor | int = _mix_number(seed + _INCREMENT)
    for counter in counters:
        if isinstance(counter, Tensor):
            state = _mix(state + (counter.to(torch.int64) * _INCREMENT + _MIX_2))
        elif isinstance(state, int):
            state = _mix_number(state + int(counter) * _INCREMENT + _MIX_2)
        else:  # a number stays one: as a tensor it would have to be brought to the others' device
            state = _mix(state + _signed(int(counter) * _INCREMENT + _MIX_2))
    if isinstance(state, int):
        state = torch.tensor(state, dtype=torch.int64)
    return state & 0x7FFFFFFFFFFFFFFF


def draw_below(bound: Tensor | int, seed: int, *counters: Tensor | int) -> Tensor:
    """Integers in [0, bound); the bias of the remainder is under bound / 2**63."""
    return draw_bits(seed, *counters) % bound


def draw_uniform(seed: int, *counters: Tensor | int) -> Tensor:
    """float32 in [0, 1)."""
    return to_uniform(draw_bits(seed, *counters))


def to_uniform(bits: Tensor) -> Tensor:
    """What `draw_uniform` makes of `draw_bits`."""
    return (bits >> 39).to(torch.float32) / float(1 << 24)


def draw_normal(seed: int, *counters: Tensor | int) -> Tensor:
    """Standard normal, float32. Source: Box & Muller 1958."""
    radius = (-2 * torch.log1p(-draw_uniform(seed, *counters, 0))).sqrt()
    return radius * torch.cos(2 * torch.pi * draw_uniform(seed, *counters, 1))
