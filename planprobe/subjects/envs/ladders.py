"""Ladders of mazes on which one thing grows and chance stays put: for the distance law and the candidate law.

Every layout stands on every rung, with another start (and, for candidates, another goal), so that a rung is compared
with the others on the same mazes: walls, loops and size cannot explain a difference. On every level the start has two
open neighbours and one optimal move, hence guessing is right half the time on each rung.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, TooFewLevelsError
from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, OPPOSITE, ROW_OFFSETS, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.generate_maze import stream_mazes
from planprobe.subjects.envs.routes import count_options, draw_square

NUM_OPTIONS = 2  # open neighbours of every start
BRAID = (0.1, 0.6)
ATTEMPTS = 16  # goals drawn on each layout
MIN_YIELD, FEWEST_LAYOUTS = 1 / 500, 4000  # fewer accepted layouts than that, once so many were tried: give up

_DRAW_START, _DRAW_GOAL = 131, 132


@dataclass(frozen=True)
class DistanceLadder:
    """N = rungs x num_per_rung mazes, rung after rung.

    levels: the mazes.
    distance: (N,) int64, moves from start to goal: the rung.
    detour: (N,) int64, moves beyond the city-block distance; large where heading for the goal misleads.
    layout_ids: (N,) int64, equal for the levels that share their walls (and goal): the unit to resample.
    """

    levels: LevelSet
    distance: Tensor
    detour: Tensor
    layout_ids: Tensor

    def __len__(self) -> int:
        return len(self.levels)


@dataclass(frozen=True)
class CandidateLadder(DistanceLadder):
    """A ladder of one distance.

    candidates: (N,) int64, the rung: routes of at most `distance` moves from the start that never turn round, each run
        until it is that long or in a dead end. It is what a serial search has to tell apart.
    live: (N,) int64, those of them that do not end in a dead end.
    """

    candidates: Tensor
    live: Tensor


def distance_ladder(
    distances: Sequence[int], num_per_rung: int, *, size: int = 11, seed: int, split: str | None = "test"
) -> DistanceLadder:
    """Mazes whose start lies exactly d moves from the goal, for each d; the goal of a layout is the same on each rung.

    Args: distances, one rung each; size as `generate_mazes`; split None takes layouts of every split.
    Raises: RecipeError (a rung below 1, none, or twice the same); TooFewLevelsError (no such mazes of this size).
    """
    rungs = _check_rungs(distances, num_per_rung)
    return _climb(rungs, num_per_rung, size, seed, split, fixed_distance=None)


def candidate_ladder(
    counts: Sequence[int],
    num_per_rung: int,
    *,
    distance: int = 12,
    size: int = 11,
    seed: int,
    split: str | None = "test",
) -> CandidateLadder:
    """Mazes with exactly c candidate routes at the start, for each c, the goal always `distance` moves away.

    Args: counts, one rung each, see `CandidateLadder.candidates`; the rest as `distance_ladder`.
    Raises: RecipeError (rungs or distance below 1); TooFewLevelsError (no such mazes of this size).
    """
    rungs = _check_rungs(counts, num_per_rung)
    if distance < 1:
        raise RecipeError(f"distance {distance}: the goal must be at least one move away.")
    ladder = _climb(rungs, num_per_rung, size, seed, split, fixed_distance=distance)
    starts = ladder.levels.players[:, None]
    both = count_candidates(ladder.levels.boards == WALL, distance)
    candidates, live = (count.flatten(1).gather(1, starts).squeeze(1) for count in both)
    return CandidateLadder(**vars(ladder), candidates=candidates, live=live)


def count_candidates(walls: Tensor, num_moves: int) -> tuple[Tensor, Tensor]:
    """Routes of at most `num_moves` that never turn round, from each square: all, and those not in a dead end.

    A route ends when it is `num_moves` long or cannot go on. Counted backwards, from the last move to the first.

    Args: walls (N, H, W) bool, every border square a wall. Returns: two of (N, H, W) int64; 0 on walls.
    """
    free = (~walls).to(torch.int64)
    dead_end = (count_options(walls) <= 1)[:, None]
    # routes left after entering a square by each move, (N, 4, H, W)
    left = torch.ones(len(walls), NUM_MOVES, *walls.shape[1:], dtype=torch.int64, device=walls.device)
    live = left.clone()
    for _ in range(num_moves - 1):
        left = _all_but_turning(left, free).masked_fill(dead_end, 1)
        live = _all_but_turning(live, free).masked_fill(dead_end, 0)
    return _by_move(left, free).sum(1) * free, _by_move(live, free).sum(1) * free


def _by_move(left: Tensor, free: Tensor) -> Tensor:
    """Routes that go on by each move, (N, 4, H, W): those left on the square that the move enters."""
    ahead = [
        (left[:, move] * free).roll((-ROW_OFFSETS[move], -COLUMN_OFFSETS[move]), (1, 2)) for move in range(NUM_MOVES)
    ]
    return torch.stack(ahead, dim=1)


def _all_but_turning(left: Tensor, free: Tensor) -> Tensor:
    """Routes that go on after a square was entered by each move, turning round excepted, (N, 4, H, W)."""
    by_move = _by_move(left, free)
    return by_move.sum(1, keepdim=True) - by_move[:, list(OPPOSITE)]


def _climb(
    rungs: Tensor, num_per_rung: int, size: int, seed: int, split: str | None, *, fixed_distance: int | None
) -> DistanceLadder:
    """Both kinds of ladder. Without `fixed_distance` the rung is the distance, otherwise the number of candidates."""
    walls, starts, goals = [], [], []
    found = tried = 0
    for layouts in stream_mazes(size=size, braid=BRAID, seed=seed, split=split):
        block = layouts.boards == WALL
        numbers = tried + torch.arange(len(block))
        if fixed_distance is None:
            ends = _draw_starts_around_goal(block, rungs, numbers, seed)
        else:
            ends = _draw_goals_around_starts(block, rungs, numbers, seed, fixed_distance)
        rows = (ends >= 0).all(2).all(1).nonzero().squeeze(1)
        for part, value in zip((walls, starts, goals), (block, ends[..., 0], ends[..., 1]), strict=True):
            part.append(value[rows])
        found, tried = found + len(rows), tried + len(layouts)
        if found >= num_per_rung:
            break
        _check_supply(rungs, num_per_rung, found, tried, size, fixed_distance)
    # (layout, rung) -> rung after rung
    starts = torch.cat(starts)[:num_per_rung].T.flatten()
    goals = torch.cat(goals)[:num_per_rung].T.flatten()
    walls = torch.cat(walls)[:num_per_rung].repeat(len(rungs), 1, 1)
    boards = walls.flatten(1).to(torch.uint8).scatter(1, goals[:, None], TARGET).view_as(walls)
    distance = distance_maps(walls, goals).flatten(1).gather(1, starts[:, None]).squeeze(1).to(torch.int64)
    city_block = (starts // size - goals // size).abs() + (starts % size - goals % size).abs()
    kind = "distance" if fixed_distance is None else "candidate"
    levels = LevelSet(boards, starts, f"maze{size}-{kind}-ladder/{split or 'all'}")
    layout_ids = torch.arange(num_per_rung).repeat(len(rungs))
    return DistanceLadder(levels, distance, distance - city_block, layout_ids)


def _draw_starts_around_goal(walls: Tensor, rungs: Tensor, numbers: Tensor, seed: int) -> Tensor:
    """One goal a layout and a start at each distance: (N, rungs, 2) start and goal, -1 where no goal offers all."""
    ends = torch.full((len(walls), len(rungs), 2), -1)
    for attempt in range(ATTEMPTS):
        waiting = (ends < 0).flatten(1).any(1).nonzero().squeeze(1)
        some = walls[waiting]
        goals = draw_square(~some.flatten(1), seed, _DRAW_GOAL, numbers[waiting], attempt)
        distance = distance_maps(some, goals)
        eligible = _is_fair_start(some, distance)[:, None] & (distance.flatten(1)[:, None] == rungs[:, None])
        starts = _draw_for_each_rung(eligible, seed, _DRAW_START, numbers[waiting], attempt)
        good = eligible.any(2).all(1)
        drawn = torch.stack([starts, goals[:, None].expand_as(starts)], dim=2)
        ends[waiting[good]] = drawn[good]
    return ends


def _draw_goals_around_starts(walls: Tensor, rungs: Tensor, numbers: Tensor, seed: int, distance: int) -> Tensor:
    """A start with each number of candidates and a goal `distance` moves away: (N, rungs, 2) start and goal, or -1."""
    num_levels, num_rungs = len(walls), len(rungs)
    candidates = count_candidates(walls, distance)[0].flatten(1)
    eligible = (count_options(walls) == NUM_OPTIONS).flatten(1)[:, None] & (candidates[:, None] == rungs[:, None])
    ends = torch.full((num_levels * num_rungs, 2), -1)
    # most layouts lack a rung, which is known before any search
    waiting = eligible.any(2).all(1).repeat_interleave(num_rungs).nonzero().squeeze(1)
    for attempt in range(ATTEMPTS):
        layout_ids, rung_ids = waiting // num_rungs, waiting % num_rungs
        some, counters = walls[layout_ids], (numbers[layout_ids], rung_ids, attempt)
        starts = draw_square(eligible[layout_ids, rung_ids], seed, _DRAW_START, *counters)
        at_distance = (distance_maps(some, starts) == distance).flatten(1)
        goals = draw_square(at_distance, seed, _DRAW_GOAL, *counters)
        fair = _is_fair_start(some, distance_maps(some, goals)).gather(1, starts[:, None]).squeeze(1)
        good = fair & at_distance.any(1)
        ends[waiting[good]] = torch.stack([starts[good], goals[good]], dim=1)
        waiting = waiting[~good]
    return ends.view(num_levels, num_rungs, 2)


def _is_fair_start(walls: Tensor, distance: Tensor) -> Tensor:
    """Squares with two open neighbours of which exactly one is a step closer, (N, H*W) bool."""
    one_best = optimal_action_mask(distance).sum(1) == 1
    return (one_best & (count_options(walls) == NUM_OPTIONS)).flatten(1)


def _draw_for_each_rung(eligible: Tensor, seed: int, stream: int, numbers: Tensor, attempt: int) -> Tensor:
    """A uniform draw among the eligible squares (N, rungs, H*W) of each layout and rung, (N, rungs)."""
    num_levels, num_rungs, _ = eligible.shape
    rung_ids = torch.arange(num_rungs).repeat(num_levels)
    drawn = draw_square(eligible.flatten(0, 1), seed, stream, numbers.repeat_interleave(num_rungs), rung_ids, attempt)
    return drawn.view(num_levels, num_rungs)


def _check_rungs(rungs: Sequence[int], num_per_rung: int) -> Tensor:
    if not rungs or min(rungs) < 1 or len(set(rungs)) < len(rungs) or num_per_rung < 1:
        raise RecipeError(
            f"{num_per_rung} levels on rungs {list(rungs)}: needs at least one, and different rungs from 1 up."
        )
    return torch.tensor(list(rungs))


def _check_supply(
    rungs: Tensor, num_per_rung: int, found: int, tried: int, size: int, fixed_distance: int | None
) -> None:
    if tried >= FEWEST_LAYOUTS and found < MIN_YIELD * tried:
        what = "distances" if fixed_distance is None else f"candidates {fixed_distance} moves from the goal"
        raise TooFewLevelsError(
            f"{num_per_rung} mazes of size {size} with every rung of {what} {rungs.tolist()} were asked for:"
            f" {found} of the first {tried} layouts have them all.\n"
            "  Take rungs closer together, fewer of them, or a bigger size."
        )
