"""Which squares of a two-route level an intervention writes on, and what.

Squares are flat indices; padding is -1. A class is that of plan concepts: 0 = never, 1..4 = up, down, left, right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from planprobe.core.errors import AddressError
from planprobe.core.grid import BOX, NUM_MOVES, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_bits

ARMS = ("none", "block", "direct", "both")
NEVER, NUM_CLASSES, PAD = 0, 1 + NUM_MOVES, -1
_SHUFFLE, _ELSEWHERE = 211, 212  # streams of the counter-based draws

Convention = Literal["entry", "exit"]


class TwoRoutes(Protocol):
    """N levels with a short and a long way, as `subjects.envs.stimuli.TwoRouteLevels` has them.

    short_route, long_route: (N, R) flat squares from the start to where both ways end, padded with -1.
    """

    @property
    def levels(self) -> LevelSet: ...

    @property
    def short_route(self) -> Tensor: ...

    @property
    def long_route(self) -> Tensor: ...


@dataclass(frozen=True)
class RoutesOfLevels:
    """`TwoRoutes` and no more."""

    levels: LevelSet
    short_route: Tensor
    long_route: Tensor


@dataclass(frozen=True)
class RouteEdits:
    """What to write where: squares (N, D, S) flat, -1 = nothing, the same for all tables if D is 1; classes (N, S)."""

    squares: Tensor
    classes: Tensor


def route_edits(routes: TwoRoutes, arm: str, *, num_squares: int, convention: Convention = "entry") -> RouteEdits:
    """The edits of one arm on the first `num_squares` squares of each way.

    The start is never blocked, nor a square that the long way needs.
    """
    if arm not in ARMS:
        raise AddressError(f"there is no arm '{arm}'. Choose {', '.join(ARMS)}.")
    empty = routes.short_route[:, :0]
    blocked, directed, moves = empty, empty, empty
    if arm in ("block", "both"):
        blocked = _first(short_only(routes), num_squares)
    if arm in ("direct", "both"):
        directed, moves = long_squares(routes, convention)
        directed, moves = directed[:, :num_squares], moves[:, :num_squares]
    classes = torch.cat([torch.full_like(blocked, NEVER), moves], dim=1)
    return RouteEdits(torch.cat([blocked, directed], dim=1)[:, None], classes)


def short_only(routes: TwoRoutes) -> Tensor:
    """The short way without the start and without squares of the long way, (N, R) in order, -1 padded."""
    short = routes.short_route
    shared = (short[:, :, None] == routes.long_route[:, None, :]).any(2)
    return _first(short.masked_fill(shared, PAD), short.shape[1])


def long_squares(routes: TwoRoutes, convention: Convention) -> tuple[Tensor, Tensor]:
    """Squares of the long way that carry a move, and its class 1..4, both (N, R - 1), -1 padded."""
    route = routes.long_route
    here, after = route[:, :-1], route[:, 1:]
    offsets = move_offsets(routes.levels.width)[:NUM_MOVES]
    moves = 1 + ((after - here)[:, :, None] == offsets).to(torch.int64).argmax(2)
    gone = after < 0
    return (after if convention == "entry" else here).masked_fill(gone, PAD), moves.masked_fill(gone, PAD)


def swap_routes(routes: TwoRoutes) -> TwoRoutes:
    """The same levels with both ways under each other's name."""
    return RoutesOfLevels(routes.levels, routes.long_route, routes.short_route)


def shuffled_edits(edits: RouteEdits, routes: TwoRoutes, num_tables: int, *, seed: int) -> RouteEdits:
    """The same edits on random floor squares off both ways, (N, num_tables, S); fewer where a board has fewer."""
    ranked = _floor_off_routes(routes, num_tables, seed, _SHUFFLE)
    num_squares = edits.squares.shape[2]
    ranked = pad(ranked, (0, max(0, num_squares - ranked.shape[2])), value=PAD)[..., :num_squares]
    return RouteEdits(ranked.masked_fill(edits.squares < 0, PAD), edits.classes)


def players_elsewhere(routes: TwoRoutes, *, seed: int) -> LevelSet:
    """The same boards with the agent on a random floor square off both ways (its start where there is none)."""
    drawn = _floor_off_routes(routes, 1, seed, _ELSEWHERE)[:, 0, 0]
    levels = routes.levels
    return LevelSet(levels.boards, torch.where(drawn >= 0, drawn, levels.players), f"{levels.name}/elsewhere")


def free_floor(routes: TwoRoutes) -> Tensor:
    """Where there is floor off both ways, without a box, (N, H*W) bool."""
    free = (routes.levels.boards.flatten(1) & (WALL | BOX)) == 0
    for route in (routes.short_route, routes.long_route):
        free &= ~squares_on(route, free.shape[1])
    return free


def squares_on(route: Tensor, num_squares: int) -> Tensor:
    """Where a way (N, R) goes, (N, num_squares) bool."""
    on_way = torch.zeros(len(route), num_squares + 1, dtype=torch.bool)
    return on_way.scatter_(1, torch.where(route < 0, num_squares, route), True)[:, :-1]


def _floor_off_routes(routes: TwoRoutes, num_draws: int, seed: int, stream: int) -> Tensor:
    """Floor squares off both ways in random order, (N, num_draws, H*W), -1 padded; a row depends on its index alone."""
    free = free_floor(routes)[:, None]
    num_levels, _, num_cells = free.shape
    counters = torch.arange(num_levels)[:, None, None], torch.arange(num_draws)[:, None], torch.arange(num_cells)
    keys = draw_bits(seed, stream, *counters).masked_fill(~free, torch.iinfo(torch.int64).max)
    order = keys.argsort(dim=2)
    return order.masked_fill(~free.expand_as(order).gather(2, order), PAD)


def _first(squares: Tensor, number: int) -> Tensor:
    """The first `number` squares that are not padding, (N, number), in order."""
    order = (squares < 0).to(torch.uint8).argsort(dim=1, stable=True)
    return squares.gather(1, order)[:, :number]
