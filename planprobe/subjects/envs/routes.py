"""Shortest and second-best routes, for whole banks of boards at once.

The second-best route is the shortest one that never enters the square of the best first move: the way one would go if
that move were not there. It is what an experiment offers an agent in place of its own plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, TooFewLevelsError
from planprobe.core.grid import NUM_MOVES, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.distance import UNREACHABLE, distance_maps, optimal_action_mask

PAD = -1
MIN_YIELD, FEWEST_LAYOUTS = 1 / 500, 4000  # fewer accepted layouts than that, once so many were tried: give up


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


@dataclass(frozen=True, kw_only=True)
class TwoRouteLevels(RoutePair):
    """N levels with both ways from the start, see `RoutePair`; no layout occurs twice.

    levels: the boards; both routes begin on the player's square and end on the same square.
    push_action: (N,) int64, Sokoban only: the push that an optimal solution makes where both ways end.
    """

    levels: LevelSet
    push_action: Tensor | None = None

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def gap(self) -> Tensor:
        """Moves that the long way costs more, (N,) int64; even, as every detour on a grid is."""
        return self.long_length - self.short_length


@dataclass(frozen=True)
class RouteDemands:
    """What makes two routes clearly different.

    min_gap, max_gap: moves that the long way costs more, ends included.
    min_length: moves of the short way; below it there is hardly a route to decode.
    max_shared: share of the short way's inner squares that the long way may visit too.
    """

    min_gap: int = 2
    max_gap: int = 12
    min_length: int = 4
    max_shared: float = 0.5

    def __post_init__(self) -> None:
        # a gap of 0 would leave two optimal first moves, so that taking either would be no evidence
        if not (1 <= self.min_gap <= self.max_gap and self.min_length >= 2 and 0 <= self.max_shared <= 1):
            raise RecipeError(f"{self}: needs 1 <= min_gap <= max_gap, min_length >= 2 and max_shared within [0, 1].")

    def met_by(self, pair: RoutePair, num_squares: int) -> Tensor:
        """(N,) bool."""
        gap = pair.long_length - pair.short_length
        shared = shared_fraction(pair.short_route, pair.long_route, num_squares)
        two_ways = (pair.short_length >= self.min_length) & (pair.long_length > 0)
        return two_ways & (gap >= self.min_gap) & (gap <= self.max_gap) & (shared <= self.max_shared)


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
    """Routes (N, R) with -1 appended up to (N, num_squares)."""
    return torch.nn.functional.pad(routes, (0, num_squares - routes.shape[1]), value=PAD)


def _at(distance: Tensor, squares: Tensor) -> Tensor:
    """Distance on one square of each board, (N,) int64."""
    found = distance.flatten(1).gather(1, squares[:, None]).squeeze(1).to(torch.int64)
    assert UNREACHABLE == PAD
    return found


def check_supply(num_levels: int, found: int, tried: int, what: str, demands: object) -> None:
    """Give up on levels that hardly ever turn up. Raises: TooFewLevelsError."""
    if tried >= FEWEST_LAYOUTS and found < MIN_YIELD * tried:
        raise TooFewLevelsError(
            f"{num_levels} two-route {what} were asked for: {found} of the first {tried} layouts meet {demands}.\n"
            "  Widen the gap, lower min_length, raise max_shared, or take a bigger size."
        )
