"""Ladders of mazes on which one thing grows and chance stays put: for the distance law and the candidate law.

Every layout stands on every rung, with another start (and, for candidates, another goal), so that a rung is compared
with the others on the same mazes: walls, loops and size cannot explain a difference. On every level the start has two
open neighbours and one optimal move, hence guessing is right half the time on each rung.

Guessing by heading for the goal is not: which of the two moves looks better depends on where the goal lies, and by luck
that may be the right one more often on one rung than on another. Candidate ladders are therefore matched: what stands
on one row of rungs has heading right on all of them, or wrong on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, TooFewLevelsError
from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, OPPOSITE, ROW_OFFSETS, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_bits
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.generate_maze import stream_mazes
from planprobe.subjects.envs.routes import count_options, draw_square

NUM_OPTIONS = 2  # open neighbours of every start
BRAID = (0.1, 0.6)
ATTEMPTS = 16  # goals drawn on each layout
LAYOUTS_AT_ONCE = 512  # all starts and goals of so many are held at a time
FEWEST_ROWS = 40
MOST_ROWS = 2  # of one layout and heading on a candidate ladder
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
    heading: (N,) bool, the optimal first move is the one that comes closer to the goal as the crow flies; the same on
        all rungs of a row. A layout has up to `MOST_ROWS` rows of each kind.
    """

    candidates: Tensor
    live: Tensor
    heading: Tensor


def distance_ladder(
    distances: Sequence[int], num_per_rung: int, *, size: int = 11, seed: int, split: str | None = "test"
) -> DistanceLadder:
    """Mazes whose start lies exactly d moves from the goal, for each d; the goal of a layout is the same on each rung.

    Args: distances, one rung each; size as `generate_mazes`; split None takes layouts of every split.
    Raises: RecipeError (a rung below 1, none, or twice the same); TooFewLevelsError (no such mazes of this size).
    """
    rungs = check_rungs(distances, num_per_rung)
    walls, ends = [], []
    found = tried = 0
    for layouts in stream_mazes(size=size, braid=BRAID, seed=seed, split=split):
        block = layouts.boards == WALL
        drawn = _draw_starts_around_goal(block, rungs, tried + torch.arange(len(block)), seed)
        rows = (drawn >= 0).all(2).all(1).nonzero().squeeze(1)
        walls.append(block[rows])
        ends.append(drawn[rows])
        found, tried = found + len(rows), tried + len(layouts)
        if found >= num_per_rung:
            break
        _check_supply(rungs, num_per_rung, found, tried, size, None)
    some_walls, some_ends = (torch.cat(part)[:num_per_rung] for part in (walls, ends))
    name = f"maze{size}-distance-ladder/{split or 'all'}"
    return _set_up(some_walls, some_ends, torch.arange(num_per_rung), name)


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

    Args: counts, one rung each, see `CandidateLadder.candidates`; num_per_rung, or all where so few layouts exist that
        there are fewer, but `FEWEST_ROWS`; the rest as `distance_ladder`.
    Raises: RecipeError (rungs or distance below 1); TooFewLevelsError (no such mazes of this size).
    """
    rungs = check_rungs(counts, num_per_rung)
    if distance < 1:
        raise RecipeError(f"distance {distance}: the goal must be at least one move away.")
    rows: list[_Rows] = []
    found = tried = 0
    stream = stream_mazes(size=size, braid=BRAID, seed=seed, split=split)
    while found < num_per_rung:
        try:
            layouts = next(stream)
        except TooFewLevelsError:
            if found < FEWEST_ROWS:
                raise
            break
        numbers = tried + torch.arange(len(layouts))
        for part in numbers.split(LAYOUTS_AT_ONCE):
            block = layouts.boards[part - tried] == WALL
            rows.append(_match_places(block, rungs, part, seed, distance))
            found += len(rows[-1].ends)
        tried += len(layouts)
        _check_supply(rungs, num_per_rung, found, tried, size, distance)
    walls, ends, layout_ids, heading = (torch.cat(part)[:num_per_rung] for part in zip(*rows, strict=True))
    ladder = _set_up(walls, ends, layout_ids, f"maze{size}-candidate-ladder/{split or 'all'}")
    both = count_candidates(ladder.levels.boards == WALL, distance)
    candidates, live = (count.flatten(1).gather(1, ladder.levels.players[:, None]).squeeze(1) for count in both)
    return CandidateLadder(**vars(ladder), candidates=candidates, live=live, heading=heading.repeat(len(rungs)))


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


def _set_up(walls: Tensor, ends: Tensor, layouts: Tensor, name: str) -> DistanceLadder:
    """Rows of rungs as levels, rung after rung: walls (M, H, W), ends (M, rungs, 2) start and goal, layouts (M,)."""
    num_rungs, size = ends.shape[1], walls.shape[2]
    # (row, rung) -> rung after rung
    starts, goals = (ends[..., which].T.flatten() for which in (0, 1))
    walls = walls.repeat(num_rungs, 1, 1)
    boards = walls.flatten(1).to(torch.uint8).scatter(1, goals[:, None], TARGET).view_as(walls)
    distance = distance_maps(walls, goals).flatten(1).gather(1, starts[:, None]).squeeze(1).to(torch.int64)
    city_block = (starts // size - goals // size).abs() + (starts % size - goals % size).abs()
    layout_ids = layouts.unique(return_inverse=True)[1].repeat(num_rungs)
    return DistanceLadder(LevelSet(boards, starts, name), distance, distance - city_block, layout_ids)


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


class _Rows(NamedTuple):
    """M rows of a candidate ladder. walls (M, H, W) bool; ends (M, rungs, 2) start and goal; layouts (M,) their number
    in the stream; heading (M,) bool."""

    walls: Tensor
    ends: Tensor
    layouts: Tensor
    heading: Tensor


def _match_places(walls: Tensor, rungs: Tensor, numbers: Tensor, seed: int, distance: int) -> _Rows:
    """Rows of starts with each number of candidates and goals `distance` moves away, heading alike on all rungs."""
    layout, rung, ends, heading = _find_places(walls, rungs, distance)
    num_rungs, num_squares = len(rungs), walls.shape[1] * walls.shape[2]
    group = (2 * layout + heading) * num_rungs + rung
    chance = draw_bits(seed, _DRAW_START, numbers[layout], ends[:, 0] * num_squares + ends[:, 1])
    order = chance.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    counts = group.bincount(minlength=2 * len(walls) * num_rungs)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[group[order]]
    # as many rows as the rung has places that has the fewest
    num_rows = counts.view(-1, num_rungs).amin(1).clamp(max=MOST_ROWS)
    kept = (rank < num_rows[group // num_rungs]).nonzero().squeeze(1)
    row = group[kept] // num_rungs * MOST_ROWS + rank[kept]
    kept = kept[(row * num_rungs + rung[kept]).argsort()].view(-1, num_rungs)
    first = kept[:, 0]
    return _Rows(walls[layout[first]], ends[kept], numbers[layout[first]], heading[first])


def _find_places(walls: Tensor, rungs: Tensor, distance: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All fair starts on a rung with all goals `distance` moves away for which heading is right or wrong, not neither.

    Returns: layout (P,), rung (P,), ends (P, 2) start and goal, heading right (P,) bool.
    """
    candidates = count_candidates(walls, distance)[0].flatten(1)
    eligible = (count_options(walls) == NUM_OPTIONS).flatten(1)[:, None] & (candidates[:, None] == rungs[:, None])
    # most layouts lack a rung, which is known before any search
    layout, rung, starts = (eligible & eligible.any(2).all(1)[:, None, None]).nonzero(as_tuple=True)
    place, goals = (distance_maps(walls[layout], starts) == distance).flatten(1).nonzero(as_tuple=True)
    layout, rung, starts = layout[place], rung[place], starts[place]
    maps = distance_maps(walls[layout], goals)
    fair = _is_fair_start(walls[layout], maps).gather(1, starts[:, None]).squeeze(1)
    right = optimal_action_mask(maps).flatten(2).gather(2, starts[:, None, None].expand(-1, NUM_MOVES, 1)).squeeze(2)
    lead = _lead_of_heading(walls[layout].flatten(1), starts, goals, right, walls.shape[2])
    kept = fair & (lead != 0)
    ends = torch.stack([starts, goals], dim=1)
    return layout[kept], rung[kept], ends[kept], (lead > 0)[kept]


def _lead_of_heading(floorless: Tensor, starts: Tensor, goals: Tensor, right: Tensor, width: int) -> Tensor:
    """By how much the right first move comes closer to the goal than the other open one, (P,) squared squares.

    Args: floorless (P, H*W) bool, the walls; right (P, 4) bool.
    """
    ahead = starts[:, None] + move_offsets(width, starts.device)[:NUM_MOVES]
    far = torch.iinfo(torch.int64).max
    crow = (ahead // width - goals[:, None] // width) ** 2 + (ahead % width - goals[:, None] % width) ** 2
    crow = crow.masked_fill(floorless.gather(1, ahead), far)
    return crow.masked_fill(right, far).amin(1) - crow.masked_fill(~right, far).amin(1)


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


def check_rungs(rungs: Sequence[int], num_per_rung: int) -> Tensor:
    """Rungs (R,) int64. Raises: RecipeError (one below 1, none, or twice the same)."""
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
