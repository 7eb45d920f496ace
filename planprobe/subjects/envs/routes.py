"""Shortest and second-best routes, for whole banks of boards at once.

The second-best route is the shortest one that never enters the square of the best first move: the way one would go if
that move were not there. It is what an experiment offers an agent in place of its own plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES, move_offsets
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.distance import UNREACHABLE, distance_maps, optimal_action_mask

PAD = -1


@dataclass(frozen=True)
class RoutePair:
    """The best and the second-best route of N boards, from a start to a goal.

    short_route, long_route: (N, R) int64 flat squares, start and goal included, padded with -1; a row of -1 where there
        is no such route.
    short_length, long_length: (N,) int64 moves, -1 where there is no such route.
    short_action, long_action: (N,) int64 first moves, -1 where there is no such route.
    short_unique, long_unique: (N,) bool, no other route is as short (of those that avoid the short first move).
    """

    short_route: Tensor
    long_route: Tensor
    short_length: Tensor
    long_length: Tensor
    short_action: Tensor
    long_action: Tensor
    short_unique: Tensor
    long_unique: Tensor


def find_two_routes(walls: Tensor, starts: Tensor, goals: Tensor) -> RoutePair:
    """Best and second-best routes on N boards.

    Args: walls (N, H, W) bool with every border square a wall; starts, goals (N,) int64, distinct squares.
    """
    width = walls.shape[-1]
    distance = distance_maps(walls, goals)
    short_route, short_action, short_unique = trace_routes(distance, starts)
    step = move_offsets(width, walls.device)[short_action.clamp(min=0)]
    # without a short route there is nothing to block: the start itself is walled off
    first_square = torch.where(short_action >= 0, starts + step, starts)
    blocked = walls.flatten(1).scatter(1, first_square[:, None], True).view_as(walls)
    detour = distance_maps(blocked, goals)
    long_route, long_action, long_unique = trace_routes(detour, starts)
    num_squares = max(short_route.shape[1], long_route.shape[1])
    return RoutePair(
        pad_routes(short_route, num_squares), pad_routes(long_route, num_squares),
        _at(distance, starts), _at(detour, starts), short_action, long_action, short_unique, long_unique,
    )  # fmt: skip


def trace_routes(distance: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Walk downhill from `starts` (N,) to the goals of `distance` (N, H, W); ties go to the lower action number.

    Returns: squares (N, R) padded with -1, first action (N,) with -1 where there is no move to make, and whether no
    other route is as short (N,) bool.
    """
    optimal = optimal_action_mask(distance).flatten(2)
    offsets = move_offsets(distance.shape[-1], distance.device)[:NUM_MOVES]
    length = _at(distance, starts)
    squares = starts.clone()
    routes = [torch.where(length >= 0, squares, PAD)]
    first_action = torch.full_like(starts, -1)
    unique = length >= 0
    for moved in range(int(length.max()) if len(length) else 0):
        options = optimal.gather(2, squares[:, None, None].expand(-1, NUM_MOVES, 1)).squeeze(2)
        action = options.to(torch.uint8).argmax(1)
        walking = moved < length
        if moved == 0:
            first_action = torch.where(walking, action, first_action)
        unique &= ~walking | (options.sum(1) == 1)
        squares = torch.where(walking, squares + offsets[action], squares)
        routes.append(torch.where(walking, squares, PAD))
    return torch.stack(routes, dim=1), first_action, unique


def shared_fraction(route: Tensor, other: Tensor, num_squares: int) -> Tensor:
    """Share of the squares strictly inside `route` (N, R) that `other` (N, R) visits too, (N,) float32 in [0, 1]."""
    length = (route != PAD).sum(1)
    inside = (route != PAD) & (torch.arange(route.shape[1], device=route.device) < length[:, None] - 1)
    inside[:, 0] = False
    # one spare square takes the padding
    visited = torch.zeros(len(other), num_squares + 1, dtype=torch.bool, device=route.device)
    visited.scatter_(1, torch.where(other == PAD, num_squares, other), True)
    met = visited.gather(1, route.clamp(min=0)) & inside
    return met.sum(1) / inside.sum(1).clamp(min=1)


def count_options(walls: Tensor) -> Tensor:
    """Open neighbours of every square, (N, H, W) uint8; 0 on walls. The border must be wall."""
    free = (~walls).to(torch.uint8)
    options = torch.zeros_like(free)
    inner = free[:, 1:-1, 1:-1]
    around = free[:, :-2, 1:-1] + free[:, 2:, 1:-1] + free[:, 1:-1, :-2] + free[:, 1:-1, 2:]
    options[:, 1:-1, 1:-1] = inner * around
    return options


def draw_square(mask: Tensor, seed: int, *counters: Tensor | int) -> Tensor:
    """A uniform draw among the true squares of each row of mask (N, H*W), counted by `counters`; 0 if none is true."""
    num_true = mask.sum(1)
    rank = draw_below(num_true.clamp(min=1), seed, *counters)
    return (mask.cumsum(1) > rank[:, None]).to(torch.uint8).argmax(1)


def pad_routes(routes: Tensor, num_squares: int) -> Tensor:
    return torch.nn.functional.pad(routes, (0, num_squares - routes.shape[1]), value=PAD)


def _at(distance: Tensor, squares: Tensor) -> Tensor:
    """Distance on one square of each board, (N,) int64."""
    found = distance.flatten(1).gather(1, squares[:, None]).squeeze(1).to(torch.int64)
    assert UNREACHABLE == PAD
    return found
