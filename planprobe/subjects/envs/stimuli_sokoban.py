"""One-box Sokoban boards with two ways: for the player to the first push, or for the box to its target.

Both are checked against exact move counts of every state. A board of the first kind changes where the agent walks and
not what it does with the box; one of the second kind changes what it does with the box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.one_box import count_moves_by_push, count_moves_to_solve, squares_of, trace_box
from planprobe.subjects.envs.routes import (
    PAD,
    RouteDemands,
    TwoRouteLevels,
    check_supply,
    draw_square,
    find_two_routes,
    pad_routes,
    shared_fraction,
)

ATTEMPTS = 8  # draws of the start on each layout
BLOCK = 512  # layouts asked for first; each later block is as long as all before it
_FAR = torch.iinfo(torch.int64).max

_DRAW_START = 123

Draw = Callable[[LevelSet, Tensor, int, RouteDemands], tuple[Tensor, ...]]
"""Layouts, their numbers, seed and demands -> rows of the layouts that meet them, and what was drawn for each, (M,)."""


@dataclass(frozen=True)
class BoxRouteLevels:
    """N boards whose best two first pushes send the box on different ways to the target; no layout occurs twice.

    levels: the boards.
    short_route, long_route: (N, R) int64 squares of the box, its own and the target included, padded with -1. Where
        solutions tie, the one that prefers the lower action number.
    short_action, long_action: (N,) int64, the first pushes; the short one begins every move-optimal solution.
    short_moves, long_moves: (N,) int64, moves of the best solution that begins with that push, walks included.
    """

    levels: LevelSet
    short_route: Tensor
    long_route: Tensor
    short_action: Tensor
    long_action: Tensor
    short_moves: Tensor
    long_moves: Tensor

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def gap(self) -> Tensor:
        """Moves that the long way costs more, (N,) int64."""
        return self.long_moves - self.short_moves


def two_route_sokoban(
    num_levels: int,
    *,
    size: int = 7,
    seed: int,
    min_gap: int = 2,
    max_gap: int = 12,
    min_length: int = 3,
    max_shared: float = 0.5,
    split: str | None = "test",
) -> TwoRouteLevels:
    """One-box boards on which the player walks to the first push of the optimal solution by a short or a long way.

    The box stands in the way like a wall until it is pushed. The first push is that of every move-optimal solution, so
    both routes end on the same square for the same reason; open rooms often have several ways of the same length, see
    `short_unique` and `long_unique`. The start is drawn anew on each layout.

    Args, Returns, Raises: as `two_route_mazes`; size as `generate_sokoban`; `push_action` is filled.
    Source: the agent-shortcut levels of Bush et al. 2025, there drawn by hand.
    """
    demands = RouteDemands(min_gap, max_gap, min_length, max_shared)
    what = f"one-box Sokoban boards of size {size}"
    found = _gather(num_levels, _draw_walks_to_push, what, size=size, seed=seed, split=split, demands=demands)
    boards, starts, goals, pushes = found
    pair = find_two_routes((boards & (WALL | BOX)) != 0, starts, goals)
    levels = LevelSet(boards, starts, f"sokoban{size}-two-route/{split or 'all'}")
    return TwoRouteLevels(levels=levels, push_action=pushes, **vars(pair))


def _gather(
    num_levels: int, draw: Draw, what: str, *, size: int, seed: int, split: str | None, demands: RouteDemands
) -> tuple[Tensor, ...]:
    """The first layouts that meet the demands, with what `draw` gives for them: boards, then (num_levels,) each."""
    parts: list[tuple[Tensor, ...]] = []
    found = tried = 0
    for layouts in stream_sokoban(size, seed, split):
        rows, *drawn = draw(layouts, tried + torch.arange(len(layouts)), seed, demands)
        parts.append((layouts.boards[rows], *drawn))
        found, tried = found + len(rows), tried + len(layouts)
        if found >= num_levels:
            break
        check_supply(num_levels, found, tried, what, demands)
    return tuple(torch.cat(part)[:num_levels] for part in zip(*parts, strict=True))


def _draw_walks_to_push(layouts: LevelSet, numbers: Tensor, seed: int, demands: RouteDemands) -> tuple[Tensor, ...]:
    """The layouts that meet the demands with one of a few starts: rows, starts, push squares and pushes, (M,) each."""
    table = count_moves_to_solve((layouts.boards & WALL) != 0, squares_of(layouts.boards, TARGET))
    by_push = count_moves_by_push(layouts, table)
    obstacles = (layouts.boards & (WALL | BOX)) != 0
    in_reach = _squares_in_reach(layouts)
    push_squares = squares_of(layouts.boards, BOX)[:, None] - move_offsets(layouts.width)[:NUM_MOVES]
    drawn = torch.full((len(layouts), 3), -1)
    waiting = torch.arange(len(layouts))
    for attempt in range(ATTEMPTS):
        start = draw_square(in_reach[waiting], seed, _DRAW_START, numbers[waiting], attempt)
        moves, pushes = _solution_moves(layouts[waiting], start, by_push[waiting]).sort(dim=1, stable=True)
        goal = push_squares[waiting].gather(1, pushes[:, :1]).squeeze(1)
        pair = find_two_routes(obstacles[waiting], start, goal)
        good = demands.met_by(pair, layouts.height * layouts.width) & (moves[:, 0] < moves[:, 1])
        drawn[waiting[good]] = torch.stack([start, goal, pushes[:, 0]], dim=1)[good]
        waiting = waiting[~good]
    rows = (drawn[:, 0] >= 0).nonzero().squeeze(1)
    return rows, *drawn[rows].unbind(1)


def two_route_boxes(
    num_levels: int,
    *,
    size: int = 7,
    seed: int,
    min_gap: int = 2,
    max_gap: int = 12,
    min_pushes: int = 2,
    max_shared: float = 0.5,
    split: str | None = "test",
) -> BoxRouteLevels:
    """One-box boards on which the box can take a short or a long way to the target, beginning with different pushes.

    Args: min_gap, max_gap count moves of the whole solution; min_pushes of the short way; max_shared squares of the
        box; the rest as `two_route_sokoban`. The long way never brings the box back to where it stood.
    Returns: N levels; a bigger request starts with the smaller one.
    Raises: RecipeError (demands); GenerationError (size, split); TooFewLevelsError (hardly any board does).
    Source: the box-shortcut levels of Bush et al. 2025, there drawn by hand.
    """
    demands = RouteDemands(min_gap, max_gap, min_pushes, max_shared)
    what = f"box routes on one-box Sokoban boards of size {size}"
    found = _gather(num_levels, _draw_starts_between_pushes, what, size=size, seed=seed, split=split, demands=demands)
    boards, starts, *pushes = found
    levels = LevelSet(boards, starts, f"sokoban{size}-two-box-routes/{split or 'all'}")
    table = count_moves_to_solve((boards & WALL) != 0, squares_of(boards, TARGET))
    short_route, long_route = (trace_box(table, levels, push) for push in pushes)
    num_squares = max(short_route.shape[1], long_route.shape[1])
    moves = _solution_moves(levels, starts, count_moves_by_push(levels, table))
    short_moves, long_moves = (moves.gather(1, push[:, None]).squeeze(1) for push in pushes)
    return BoxRouteLevels(
        levels,
        short_route=pad_routes(short_route, num_squares),
        long_route=pad_routes(long_route, num_squares),
        short_action=pushes[0],
        long_action=pushes[1],
        short_moves=short_moves,
        long_moves=long_moves,
    )


def _draw_starts_between_pushes(
    layouts: LevelSet, numbers: Tensor, seed: int, demands: RouteDemands
) -> tuple[Tensor, ...]:
    """The layouts that meet the demands with one of a few starts: rows, starts, short and long pushes, (M,) each."""
    table = count_moves_to_solve((layouts.boards & WALL) != 0, squares_of(layouts.boards, TARGET))
    by_push = count_moves_by_push(layouts, table)
    routes = [trace_box(table, layouts, torch.full_like(numbers, push)) for push in range(NUM_MOVES)]
    longest = max(route.shape[1] for route in routes)
    routes_by_push = torch.stack([pad_routes(route, longest) for route in routes], dim=1)
    in_reach = _squares_in_reach(layouts)
    drawn = torch.full((len(layouts), 3), -1)
    waiting = torch.arange(len(layouts))
    for attempt in range(ATTEMPTS):
        some = layouts[waiting]
        start = draw_square(in_reach[waiting], seed, _DRAW_START, numbers[waiting], attempt)
        moves, pushes = _solution_moves(some, start, by_push[waiting]).sort(dim=1, stable=True)
        rows = torch.arange(len(waiting))
        short_route, long_route = (routes_by_push[waiting][rows, pushes[:, rank]] for rank in (0, 1))
        gap = moves[:, 1] - moves[:, 0]
        shared = shared_fraction(short_route, long_route, layouts.height * layouts.width)
        good = (moves[:, 1] < _FAR) & (gap >= demands.min_gap) & (gap <= demands.max_gap)
        good &= ((short_route != PAD).sum(1) > demands.min_length) & (shared <= demands.max_shared)
        good &= (long_route == long_route[:, :1]).sum(1) == 1  # the box never comes back to where it stood
        drawn[waiting[good]] = torch.stack([start, pushes[:, 0], pushes[:, 1]], dim=1)[good]
        waiting = waiting[~good]
    rows = (drawn[:, 0] >= 0).nonzero().squeeze(1)
    return rows, *drawn[rows].unbind(1)


def _solution_moves(levels: LevelSet, starts: Tensor, by_push: Tensor) -> Tensor:
    """Moves of the best solution that begins with each push, walks included, (N, 4) int64; huge where there is none."""
    obstacles = (levels.boards & (WALL | BOX)) != 0
    push_squares = squares_of(levels.boards, BOX)[:, None] - move_offsets(levels.width)[:NUM_MOVES]
    walk = distance_maps(obstacles, starts).flatten(1).gather(1, push_squares).to(torch.int64)
    return torch.where((walk >= 0) & (by_push >= 0), walk + by_push, _FAR)


def _squares_in_reach(levels: LevelSet) -> Tensor:
    """Squares that the player can walk to without a push, (N, H*W) bool."""
    return distance_maps((levels.boards & (WALL | BOX)) != 0, levels.players).flatten(1) >= 0


def stream_sokoban(size: int, seed: int, split: str | None) -> Iterator[LevelSet]:
    """Blocks of one-box levels, each level once: a longer request starts with the shorter one, so ask for ever more."""
    done, total = 0, BLOCK
    while True:
        yield generate_sokoban(total, size=size, num_boxes=(1, 1), seed=seed, split=split)[done:]
        done, total = total, 2 * total
