"""Levels on which two ways lead to the goal, made in numbers, for steering, patching and the read-out of second plans.

Breadth-first search finds and checks them by the thousand, where published studies drew a few dozen by hand. The short
way is better by at least `min_gap` moves than every route that avoids its first square, hence its first move is the
only optimal one, and an agent that leaves by the other move has changed its plan, not broken a tie.

All levels made to order can be had from here; ladders and Sokoban boards are made in files of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.grid import TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.generate_maze import stream_mazes
from planprobe.subjects.envs.ladders import CandidateLadder, DistanceLadder, candidate_ladder, distance_ladder
from planprobe.subjects.envs.routes import (
    RouteDemands,
    TwoRouteLevels,
    check_supply,
    count_options,
    draw_square,
    find_two_routes,
)
from planprobe.subjects.envs.stimuli_sokoban import BoxRouteLevels, two_route_boxes, two_route_sokoban

__all__ = [
    "BoxRouteLevels",
    "CandidateLadder",
    "DistanceLadder",
    "TwoRouteLevels",
    "candidate_ladder",
    "distance_ladder",
    "two_route_boxes",
    "two_route_mazes",
    "two_route_sokoban",
]

BRAID = (0.2, 0.8)  # second ways need loops
ATTEMPTS = 8  # draws of start and goal on each layout

_DRAW_START, _DRAW_GOAL = 121, 122


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
        check_supply(num_levels, found, tried, f"mazes of size {size}", demands)
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
