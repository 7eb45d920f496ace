"""Levels on which two ways lead to the goal, made in numbers, for steering, patching and the read-out of second plans.

Breadth-first search finds and checks them by the thousand, where published studies drew a few dozen by hand. The short
way is better by at least `min_gap` moves than every route that avoids its first square, hence its first move is the
only optimal one, and an agent that leaves by the other move has changed its plan, not broken a tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, TooFewLevelsError
from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.generate_maze import stream_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.ladders import CandidateLadder, DistanceLadder, candidate_ladder, distance_ladder
from planprobe.subjects.envs.one_box import count_moves_by_push
from planprobe.subjects.envs.routes import RoutePair, count_options, draw_square, find_two_routes, shared_fraction

__all__ = [
    "CandidateLadder", "DistanceLadder", "TwoRouteLevels", "candidate_ladder", "distance_ladder", "two_route_mazes",
    "two_route_sokoban",
]  # fmt: skip

BRAID = (0.2, 0.8)  # second ways need loops
ATTEMPTS = 8  # draws of start and goal on each layout
MIN_YIELD, FEWEST_LAYOUTS = 1 / 500, 4000  # fewer accepted layouts than that, once so many were tried: give up
SOKOBAN_BLOCK = 512  # asked for first; each later block is as long as all before it

_DRAW_START, _DRAW_GOAL = 121, 122


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


def two_route_mazes(
    num_levels: int,
    *,
    size: int = 11,
    seed: int,
    min_gap: int = 2,
    max_gap: int = 12,
    min_length: int = 4,
    max_shared: float = 0.5,
    split: str | None = "test",
) -> TwoRouteLevels:
    """Mazes with a short and a long way to the goal; both are the only ones of their length.

    Args: num_levels N; size as `generate_mazes`; the rest as `RouteDemands`; split None takes layouts of every split.
    Returns: N levels, routes of R squares; a bigger request starts with the smaller one.
    Raises: RecipeError (demands); ShapeError (size); TooFewLevelsError (hardly any maze meets the demands).
    """
    demands = RouteDemands(min_gap, max_gap, min_length, max_shared)
    boards, starts = [], []
    found = tried = 0
    for layouts in stream_mazes(size=size, braid=BRAID, seed=seed, split=split):
        walls = layouts.boards == WALL
        numbers = tried + torch.arange(len(layouts))
        rows, block_starts, goals = _draw_two_route_ends(walls, numbers, seed, demands)
        goal_flags = walls[rows].flatten(1).to(torch.uint8).scatter(1, goals[:, None], TARGET)
        boards.append(goal_flags.view(len(rows), size, size))
        starts.append(block_starts)
        found, tried = found + len(rows), tried + len(layouts)
        if found >= num_levels:
            break
        _check_supply(num_levels, found, tried, f"mazes of size {size}", demands)
    levels = LevelSet(
        torch.cat(boards)[:num_levels], torch.cat(starts)[:num_levels], f"maze{size}-two-route/{split or 'all'}"
    )
    goals = (levels.boards == TARGET).flatten(1).to(torch.uint8).argmax(1)
    return TwoRouteLevels(levels=levels, **vars(find_two_routes(levels.boards == WALL, levels.players, goals)))


def _draw_two_route_ends(
    walls: Tensor, numbers: Tensor, seed: int, demands: RouteDemands
) -> tuple[Tensor, Tensor, Tensor]:
    """The layouts that meet the demands with one of a few draws of both ends: rows, starts and goals, (M,) each."""
    num_squares = walls.shape[1] * walls.shape[2]
    starts, goals = torch.zeros_like(numbers), torch.zeros_like(numbers)
    waiting = torch.arange(len(numbers))
    for attempt in range(ATTEMPTS):
        some = walls[waiting]
        at_branch = (count_options(some) >= 2).flatten(1)
        start = draw_square(at_branch, seed, _DRAW_START, numbers[waiting], attempt)
        free = ~some.flatten(1).scatter(1, start[:, None], True)
        goal = draw_square(free, seed, _DRAW_GOAL, numbers[waiting], attempt)
        pair = find_two_routes(some, start, goal)
        good = demands.met_by(pair, num_squares) & pair.short_unique & pair.long_unique
        starts[waiting[good]], goals[waiting[good]] = start[good], goal[good]
        waiting = waiting[~good]
    accepted = torch.ones_like(numbers, dtype=torch.bool)
    accepted[waiting] = False
    rows = accepted.nonzero().squeeze(1)
    return rows, starts[rows], goals[rows]


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
    boards, starts, goals, pushes = [], [], [], []
    found = tried = 0
    for layouts in _stream_sokoban(size, seed, split):
        numbers = tried + torch.arange(len(layouts))
        rows, start, goal, push = _draw_walks_to_push(layouts, numbers, seed, demands)
        for part, value in zip((boards, starts, goals, pushes), (layouts.boards[rows], start, goal, push), strict=True):
            part.append(value)
        found, tried = found + len(rows), tried + len(layouts)
        if found >= num_levels:
            break
        _check_supply(num_levels, found, tried, f"one-box Sokoban boards of size {size}", demands)
    name = f"sokoban{size}-two-route/{split or 'all'}"
    levels = LevelSet(torch.cat(boards)[:num_levels], torch.cat(starts)[:num_levels], name)
    pair = find_two_routes((levels.boards & (WALL | BOX)) != 0, levels.players, torch.cat(goals)[:num_levels])
    return TwoRouteLevels(levels=levels, push_action=torch.cat(pushes)[:num_levels], **vars(pair))


def _draw_walks_to_push(
    layouts: LevelSet, numbers: Tensor, seed: int, demands: RouteDemands
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The layouts that meet the demands with one of a few starts: rows, starts, push squares and pushes, (M,) each."""
    by_push = count_moves_by_push(layouts)
    obstacles = (layouts.boards & (WALL | BOX)) != 0
    in_reach = distance_maps(obstacles, layouts.players).flatten(1) >= 0
    boxes = ((layouts.boards & BOX) != 0).flatten(1).to(torch.uint8).argmax(1)
    push_squares = boxes[:, None] - move_offsets(layouts.width)[:NUM_MOVES]
    starts, goals, pushes = torch.zeros_like(numbers), torch.zeros_like(numbers), torch.zeros_like(numbers)
    waiting = torch.arange(len(numbers))
    for attempt in range(ATTEMPTS):
        some = obstacles[waiting]
        start = draw_square(in_reach[waiting], seed, _DRAW_START, numbers[waiting], attempt)
        push, only_one = _best_push(distance_maps(some, start).flatten(1), push_squares[waiting], by_push[waiting])
        goal = push_squares[waiting].gather(1, push[:, None]).squeeze(1)
        pair = find_two_routes(some, start, goal)
        good = demands.met_by(pair, layouts.height * layouts.width) & only_one
        starts[waiting[good]], goals[waiting[good]], pushes[waiting[good]] = start[good], goal[good], push[good]
        waiting = waiting[~good]
    accepted = torch.ones_like(numbers, dtype=torch.bool)
    accepted[waiting] = False
    rows = accepted.nonzero().squeeze(1)
    return rows, starts[rows], goals[rows], pushes[rows]


def _best_push(walk: Tensor, push_squares: Tensor, by_push: Tensor) -> tuple[Tensor, Tensor]:
    """First push of a move-optimal solution (M,), and whether no other first push is as good (M,) bool.

    Args: walk (M, H*W) moves from the start, -1 out of reach; push_squares (M, 4); by_push (M, 4), -1 = no use.
    """
    to_square = walk.gather(1, push_squares).to(torch.int64)
    total = torch.where((to_square >= 0) & (by_push >= 0), to_square + by_push, torch.iinfo(torch.int64).max)
    best, push = total.min(1)
    return push, (total == best[:, None]).sum(1) == 1


def _stream_sokoban(size: int, seed: int, split: str | None) -> Iterator[LevelSet]:
    """Blocks of one-box levels, each level once: a longer request starts with the shorter one, so ask for ever more."""
    done, total = 0, SOKOBAN_BLOCK
    while True:
        yield generate_sokoban(total, size=size, num_boxes=(1, 1), seed=seed, split=split)[done:]
        done, total = total, 2 * total


def _check_supply(num_levels: int, found: int, tried: int, what: str, demands: RouteDemands) -> None:
    if tried >= FEWEST_LAYOUTS and found < MIN_YIELD * tried:
        raise TooFewLevelsError(
            f"{num_levels} two-route {what} were asked for: {found} of the first {tried} layouts meet {demands}.\n"
            "  Widen the gap, lower min_length, raise max_shared, or take a bigger size."
        )
