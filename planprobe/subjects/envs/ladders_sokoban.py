"""A ladder of one-box Sokoban boards on which only the distance to the solution grows: for the distance law.

As on ladders of mazes, every layout and target stands on every rung. What moves is the box and the player: of all their
places those are taken from which the shortest solution has the rung's number of moves. Two moves can be made on each
board, and one of them is optimal, hence guessing is right half the time on each rung. A board with the box elsewhere is
a board of its own, so it must fall into the split that was asked for by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet, split_names
from planprobe.core.rng import draw_bits
from planprobe.subjects.envs.ladders import NUM_OPTIONS, DistanceLadder, check_rungs
from planprobe.subjects.envs.one_box import count_moves_to_solve, squares_of
from planprobe.subjects.envs.stimuli_sokoban import stream_sokoban

MIN_YIELD, FEWEST_LAYOUTS = 1 / 200, 2000  # fewer accepted layouts than that, once so many were tried: give up

_DRAW_PLACE = 133


def sokoban_distance_ladder(
    distances: Sequence[int], num_per_rung: int, *, size: int = 7, seed: int, split: str | None = "test"
) -> DistanceLadder:
    """Boards whose shortest solution takes exactly d moves, for each d, on the same layouts with the same target.

    Args: as `ladders.distance_ladder`; size as `generate_sokoban`.
    Returns: `detour` is moves beyond those that the player needs to the box, and the box to the target, as the crow
        flies. Raises: RecipeError (a rung below 1, none, or twice the same); TooFewLevelsError (no such boards).
    """
    rungs = check_rungs(distances, num_per_rung)
    walls, targets, places = [], [], []
    found = tried = 0
    for layouts in stream_sokoban(size, seed, split):
        wall, target = (layouts.boards & WALL) != 0, squares_of(layouts.boards, TARGET)
        drawn = _draw_places(wall, target, rungs, tried + torch.arange(len(layouts)), seed, split)
        rows = (drawn >= 0).all(1).nonzero().squeeze(1)
        walls.append(wall[rows])
        targets.append(target[rows])
        places.append(drawn[rows])
        found, tried = found + len(rows), tried + len(layouts)
        if found >= num_per_rung:
            break
        if tried >= FEWEST_LAYOUTS and found < MIN_YIELD * tried:
            raise TooFewLevelsError(
                f"{num_per_rung} boards of size {size} with every rung of distances {rungs.tolist()} were asked for: "
                f"{found} of the first {tried} layouts have them all.\n  Take fewer rungs, or a bigger size."
            )
    parts = (torch.cat(part)[:num_per_rung] for part in (walls, targets, places))
    return _set_up(*parts, rungs, f"sokoban{size}-distance-ladder/{split or 'all'}")


def _draw_places(
    walls: Tensor, targets: Tensor, rungs: Tensor, numbers: Tensor, seed: int, split: str | None
) -> Tensor:
    """A fair place at each distance, as box * H*W + player: (N, rungs), -1 where there is none."""
    moves = count_moves_to_solve(walls, targets).to(torch.int64)
    fair = _is_fair(walls, moves) & torch.isin(moves, rungs)
    if split is not None:
        fair &= _boxes_of_split(walls, targets, fair.any(2), split)[:, :, None]
    num_places = fair[0].numel()
    chance = draw_bits(seed, _DRAW_PLACE, numbers[:, None], torch.arange(num_places)).view_as(moves)
    drawn = []
    for rung in rungs.tolist():
        here = fair & (moves == rung)
        best = chance.masked_fill(~here, -1).flatten(1).max(1)
        drawn.append(torch.where(here.flatten(1).any(1), best.indices, -1))
    return torch.stack(drawn, dim=1)


def _boxes_of_split(walls: Tensor, targets: Tensor, asked: Tensor, split: str) -> Tensor:
    """Which places of the box, of those asked about (N, H*W), make a board of the split, wherever the player is."""
    layouts, boxes = asked.nonzero(as_tuple=True)
    boards = _make_boards(walls[layouts], targets[layouts], boxes)
    names = split_names(LevelSet(boards, boxes, "places"), with_player=False)
    found = torch.zeros_like(asked)
    found[layouts, boxes] = torch.as_tensor(names == split)
    return found


def _is_fair(walls: Tensor, moves: Tensor) -> Tensor:
    """(N, H*W box, H*W player) bool: two moves can be made, and exactly one of them is optimal.

    A push against a wall is no move that can be made; one that leaves no solution is.
    """
    num_squares, floor = walls[0].numel(), ~walls.flatten(1)
    squares = torch.arange(num_squares)
    can_move, is_best = torch.zeros_like(moves), torch.zeros_like(moves)
    for offset in move_offsets(walls.shape[2]).tolist()[:NUM_MOVES]:
        ahead, beyond = ((squares + times * offset).clamp(0, num_squares - 1) for times in (1, 2))
        walks = floor[:, None, ahead].expand_as(moves).clone()
        after = moves[:, :, ahead].clone()
        # the player stands before the box: box square = ahead, and it goes to the square beyond
        walks[:, ahead, squares] = floor[:, ahead] & floor[:, beyond]
        after[:, ahead, squares] = moves[:, beyond, ahead]
        can_move += walks
        is_best += walks & (after >= 0) & (after == moves - 1)
    return (moves > 0) & (can_move == NUM_OPTIONS) & (is_best == 1)


def _set_up(walls: Tensor, targets: Tensor, places: Tensor, rungs: Tensor, name: str) -> DistanceLadder:
    """Rows of rungs as levels, rung after rung: walls (M, H, W), targets (M,), places (M, rungs)."""
    num_rows, num_rungs, width = len(walls), len(rungs), walls.shape[2]
    boxes, players = (part.T.flatten() for part in (places // walls[0].numel(), places % walls[0].numel()))
    targets, walls = targets.repeat(num_rungs), walls.repeat(num_rungs, 1, 1)
    distance = rungs.repeat_interleave(num_rows)
    # the player ends beside the box, from where it pushes
    as_crow_flies = _city_block(players, boxes, width) - 1 + _city_block(boxes, targets, width)
    layout_ids = torch.arange(num_rows).repeat(num_rungs)
    return DistanceLadder(
        LevelSet(_make_boards(walls, targets, boxes), players, name), distance, distance - as_crow_flies, layout_ids
    )


def _make_boards(walls: Tensor, targets: Tensor, boxes: Tensor) -> Tensor:
    """(N, H, W) uint8."""
    boards = walls.flatten(1).to(torch.uint8) * WALL
    for squares, thing in ((targets, TARGET), (boxes, BOX)):
        boards.scatter_add_(1, squares[:, None], torch.full_like(squares[:, None], thing, dtype=torch.uint8))
    return boards.view_as(walls)


def _city_block(first: Tensor, second: Tensor, width: int) -> Tensor:
    return (first // width - second // width).abs() + (first % width - second % width).abs()
