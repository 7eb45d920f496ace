"""Clean / corrupted pairs of levels: one small change of the board, and another first move is the only optimal one.

The task makes them, because only it knows what a change means: the goal of a maze moves, a wall opens or closes, a
Sokoban target trades places with a floor square. Optimal first moves come from distance maps, from exact tables of
one-box boards, or from the solver. A changed layout is a layout of its own, so it must fall into the same split as the
level that it was made of. The start is drawn anew among the squares from which the change matters and from which it is
not next door: what changes the move lies out of sight of a 3x3 kernel on the player's square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from planprobe.core.errors import RecipeError, TooFewLevelsError, unknown_name
from planprobe.core.grid import BOX, COLUMN_OFFSETS, NUM_MOVES, ROW_OFFSETS, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet, split_names
from planprobe.core.pairs import LevelPairs
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.catalog import SPLITS, distances_to_goal, named_levels
from planprobe.subjects.envs.first_moves import find_first_moves
from planprobe.subjects.envs.one_box import squares_of
from planprobe.subjects.envs.plans import optimal_futures
from planprobe.subjects.envs.routes import draw_square, trace_routes
from planprobe.subjects.recipe import TaskRecipe

ATTEMPTS = 40  # changes drawn for each level; nine in ten changed layouts fall into another split
BLOCK = 256  # levels looked at together
POOL = 64  # levels generated for each pair that is asked for, at most

_DRAW_SQUARE, _DRAW_KIND, _DRAW_TARGET, _DRAW_START = range(301, 305)


@dataclass(frozen=True)
class Candidates:
    """A changed board for each level (N, H, W), and whether the change could be made (N,) bool."""

    boards: Tensor
    possible: Tensor


DrawChange = Callable[[LevelSet, Tensor, int, int], Candidates]
"""(levels, their numbers (N,), attempt, seed) -> candidates, counted by number and attempt alone."""


def task_pairs(
    task: TaskRecipe, change: str, num_pairs: int, *, level_set: str = "test", seed: int = 0, **options
) -> LevelPairs:
    """Exactly `num_pairs` pairs made of a task's held-out levels, each of another level.

    Sokoban boards have as few boxes as the task shows: one-box boards have exact tables.

    Args: change, options: as `make_pairs`; level_set: as `catalog.named_levels`. More pairs begin with the fewer.
    Raises: RecipeError; UnknownNameError (change); TooFewLevelsError (too few levels can be changed in this way).
    """
    get_change(task.kind, change)
    if num_pairs < 1:
        raise RecipeError(f"{num_pairs} pairs were asked for: needs at least one.")
    split = level_set if level_set in SPLITS else "test"
    if task.kind == "boxoban":
        split = None  # a published split is a list of files, not a property of the layout
    few_boxes = replace(task, num_boxes=(task.num_boxes[0],) * 2)
    parts: list[LevelPairs] = []
    found = done = 0
    pool = 2 * num_pairs
    while found < num_pairs:
        levels = named_levels(few_boxes, level_set, max(BLOCK, pool))
        for ids in torch.arange(done, len(levels)).split(BLOCK):
            parts.append(
                make_pairs(levels[ids], change, kind=task.kind, seed=seed, split=split, numbers=ids, **options)
            )
            found += len(parts[-1])
            if found >= num_pairs:
                break
        done, pool = len(levels), 2 * max(BLOCK, pool)
        if found < num_pairs and done >= max(BLOCK, POOL * num_pairs):
            raise TooFewLevelsError(
                f"{num_pairs} pairs by '{change}' were asked for: {done} levels of '{level_set}' give {found}.\n"
                "  Ask for fewer, lower min_length or min_distance, or take another change."
            )
    return join_level_pairs(parts)[:num_pairs]


def make_pairs(
    levels: LevelSet,
    change: str,
    *,
    kind: str,
    seed: int,
    split: str | None = None,
    min_length: int = 4,
    min_distance: int = 2,
    away: bool = False,
    attempts: int = ATTEMPTS,
    numbers: Tensor | None = None,
) -> LevelPairs:
    """One pair of every level that allows it, by the first of `attempts` draws that does.

    Args:
        levels: the clean ones, whose starts are drawn anew (but not those of boards with several boxes).
        change: of `CHANGES[kind]`. kind: the task's. split: that every changed layout must fall into; None = any.
        min_length: moves that both optimal plans take at least.
        min_distance: rows plus columns between the start and every changed square, at least.
        away: nobody makes the new move by heading for it, in rows plus columns: for the target of a maze, or for a
            square from which a push brings the first box nearer to its target.
        numbers: (N,) names of the levels, which draws are counted by; default 0 .. N - 1.
    Returns: at most N pairs in the order of the levels; `level_ids` are their numbers.
    Raises: UnknownNameError (change); RecipeError (kind, split).
    """
    draw = get_change(kind, change)
    if split is not None and split not in SPLITS:
        raise unknown_name("split", split, SPLITS, error=RecipeError)
    numbers = torch.arange(len(levels)) if numbers is None else numbers
    clean = find_first_moves(levels, kind)
    can_start = (clean.optimal.sum(1) == 1) & (clean.lengths >= min_length)
    waiting = can_start.any(1).nonzero().squeeze(1)
    boards, starts, actions = levels.boards.clone(), levels.players.clone(), torch.full_like(levels.players, -1)
    for attempt in range(attempts):
        drawn = draw(levels[waiting], numbers[waiting], attempt, seed)
        rows = drawn.possible.nonzero().squeeze(1)
        changed = LevelSet(drawn.boards[rows], levels.players[waiting[rows]])
        inside = _is_of_split(changed, split, kind)
        ids, changed = waiting[rows[inside]], changed[inside]
        new = find_first_moves(changed, kind)
        options = can_start[ids] & (new.optimal.sum(1) == 1) & (new.lengths >= min_length)
        options &= ~(new.optimal & clean.optimal[ids]).any(1)
        options &= _distance_to_change(levels.boards[ids], changed.boards) >= min_distance
        if away:
            options &= ~(new.optimal & _heads_for_it(changed)).any(1)
        good = options.any(1)
        squares = draw_square(options, seed, _DRAW_START, numbers[ids], attempt)
        ids = ids[good]
        boards[ids], starts[ids], actions[ids] = changed.boards[good], squares[good], new.at(squares)[good]
        waiting = waiting[actions[waiting] < 0]
    kept = (actions >= 0).nonzero().squeeze(1)
    clean_levels = LevelSet(levels.boards[kept], starts[kept], levels.name)
    corrupted = LevelSet(boards[kept], starts[kept], f"{levels.name}/{change}")
    return LevelPairs(
        clean_levels, corrupted, clean_levels.boards != corrupted.boards, clean.at(starts)[kept], actions[kept],
        *_find_routes(clean_levels, corrupted, kind), numbers[kept], change,
    )  # fmt: skip


def get_change(kind: str, change: str) -> DrawChange:
    """Raises: RecipeError (no pairs for this kind of task); UnknownNameError (no such change of it)."""
    if kind not in CHANGES:
        raise unknown_name("kind of task with clean/corrupted pairs of levels", kind, CHANGES, error=RecipeError)
    if change not in CHANGES[kind]:
        raise unknown_name("change", change, CHANGES[kind], where=f"a {kind} task")
    return CHANGES[kind][change]


def join_level_pairs(parts: list[LevelPairs]) -> LevelPairs:
    """Concatenate pairs of one change, padding shorter routes."""
    longest = max(part.clean_routes.shape[1] for part in parts)
    joined: dict = {}
    for name in ("changed", "clean_actions", "corrupted_actions", "level_ids"):
        joined[name] = torch.cat([getattr(part, name) for part in parts])
    for name in ("clean", "corrupted"):
        sets = [getattr(part, name) for part in parts]
        boards, players = torch.cat([each.boards for each in sets]), torch.cat([each.players for each in sets])
        joined[name] = LevelSet(boards, players, sets[0].name)
        routes = [getattr(part, f"{name}_routes") for part in parts]
        joined[f"{name}_routes"] = torch.cat([pad(route, (0, longest - route.shape[1]), value=-1) for route in routes])
    return LevelPairs(**joined, change=parts[0].change)


# changes ---------------------------------------------------------------------------------------------------------
def move_goal(levels: LevelSet, numbers: Tensor, attempt: int, seed: int) -> Candidates:
    """The goal of a maze on another floor square, not the start."""
    cells = levels.boards.flatten(1)
    free = (cells == 0).scatter(1, levels.players[:, None], False)
    goals = draw_square(free, seed, _DRAW_SQUARE, numbers, attempt)
    boards = (cells & WALL).scatter(1, goals[:, None], TARGET)
    return Candidates(boards.view_as(levels.boards), free.any(1))


def swap_target(levels: LevelSet, numbers: Tensor, attempt: int, seed: int) -> Candidates:
    """One target of a Sokoban board trades places with an empty floor square, not the start."""
    cells = levels.boards.flatten(1)
    targets = cells == TARGET
    free = (cells == 0).scatter(1, levels.players[:, None], False)
    old = draw_square(targets, seed, _DRAW_TARGET, numbers, attempt)
    new = draw_square(free, seed, _DRAW_SQUARE, numbers, attempt)
    boards = cells.scatter(1, old[:, None], 0).scatter(1, new[:, None], TARGET)
    possible = targets.any(1) & free.any(1)
    return Candidates(torch.where(possible[:, None], boards, cells).view_as(levels.boards), possible)


def toggle_maze_wall(levels: LevelSet, numbers: Tensor, attempt: int, seed: int) -> Candidates:
    """A wall between two cells of a maze opens, or a passage on the shortest way closes; each half of the time."""
    cells = levels.boards.flatten(1)
    rows, columns = (torch.arange(side) for side in levels.boards.shape[1:])
    between = ((rows[:, None] + columns) % 2 == 1).flatten()
    between &= ((rows[:, None] > 0) & (rows[:, None] < levels.height - 1)).expand(-1, levels.width).flatten()
    between &= ((columns > 0) & (columns < levels.width - 1)).expand(levels.height, -1).flatten()
    routes, _, _ = trace_routes(distances_to_goal(levels)[0], levels.players)
    on_route = torch.zeros(len(levels), cells.shape[1] + 1, dtype=torch.bool)
    on_route.scatter_(1, torch.where(routes < 0, cells.shape[1], routes), True)
    passages = (on_route[:, :-1] & between & (cells == 0)).scatter(1, levels.players[:, None], False)
    opens = draw_below(2, seed, _DRAW_KIND, numbers, attempt) == 1
    return _toggle(levels, torch.where(opens[:, None], (cells == WALL) & between, passages), numbers, attempt, seed)


def toggle_sokoban_wall(levels: LevelSet, numbers: Tensor, attempt: int, seed: int) -> Candidates:
    """A square inside the outer wall of a Sokoban board, without box, target or player, turns from wall into floor or
    from floor into wall."""
    inner = torch.zeros(levels.boards.shape[1:], dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    plain = (levels.boards & (BOX | TARGET)) == 0
    options = (plain & inner).flatten(1).scatter(1, levels.players[:, None], False)
    return _toggle(levels, options, numbers, attempt, seed)


CHANGES: dict[str, dict[str, DrawChange]] = {
    "maze": {"move-goal": move_goal, "toggle-wall": toggle_maze_wall},
    "sokoban": {"swap-target": swap_target, "toggle-wall": toggle_sokoban_wall},
    "boxoban": {"swap-target": swap_target, "toggle-wall": toggle_sokoban_wall},
}
"""Changes by kind of task. Add one by writing a `DrawChange`; all that makes a pair good is checked by `make_pairs`."""


def _toggle(levels: LevelSet, options: Tensor, numbers: Tensor, attempt: int, seed: int) -> Candidates:
    """Flip the wall of one of the squares in `options` (N, H*W)."""
    cells, possible = levels.boards.flatten(1), options.any(1)
    square = draw_square(options, seed, _DRAW_SQUARE, numbers, attempt)[:, None]
    boards = torch.where(possible[:, None], cells.scatter(1, square, cells.gather(1, square) ^ WALL), cells)
    return Candidates(boards.view_as(levels.boards), possible)


def _distance_to_change(boards: Tensor, changed: Tensor) -> Tensor:
    """Rows plus columns from every square to the nearest changed one, (N, H*W) int64; 0 where nothing changed."""
    height, width = boards.shape[1:]
    squares = torch.arange(height * width)
    rows, columns = squares // width, squares % width
    apart = (rows[:, None] - rows).abs() + (columns[:, None] - columns).abs()
    differs = (boards != changed).flatten(1)
    nearest = torch.where(differs[:, None], apart, height + width).amin(2)
    return torch.where(differs.any(1, keepdim=True), nearest, 0)


def _heads_for_it(levels: LevelSet) -> Tensor:
    """Whether a move from a square is what heading there would do, (N, 4, H*W) bool.

    Who finds every such move barred, and then takes any that is open, makes the new move on a fifth of Sokoban boards;
    leaving those boards out too would leave one in a hundred.
    """
    targets = squares_of(levels.boards, TARGET)
    to_target = _comes_nearer(targets, levels)
    if not bool((levels.boards & BOX).any()):
        return to_target
    rows, boxes = torch.arange(len(levels)), squares_of(levels.boards, BOX)
    heads = torch.zeros_like(to_target)
    for move, offset in enumerate(move_offsets(levels.width).tolist()[:NUM_MOVES]):
        towards = _comes_nearer(boxes - offset, levels)
        towards[rows, move, boxes - offset] = True  # there already: push
        heads |= towards & to_target[rows, move, boxes][:, None, None]  # a push that brings the box nearer
    return heads


def _comes_nearer(goals: Tensor, levels: LevelSet) -> Tensor:
    """Whether a move from a square comes nearer to that of its level (N,) in rows plus columns, (N, 4, H*W) bool."""
    height, width = levels.boards.shape[1:]
    squares = torch.arange(height * width)
    down, right = goals[:, None] // width - squares // width, goals[:, None] % width - squares % width
    steps = zip(ROW_OFFSETS[:NUM_MOVES], COLUMN_OFFSETS[:NUM_MOVES], strict=True)
    return torch.stack([down * row + right * column > 0 for row, column in steps], dim=1)


def _is_of_split(levels: LevelSet, split: str | None, kind: str) -> Tensor:
    """(N,) bool."""
    if split is None or not len(levels):
        return torch.ones(len(levels), dtype=torch.bool)
    layouts = LevelSet(levels.boards & WALL, levels.players) if kind == "maze" else levels
    return torch.from_numpy(split_names(layouts, with_player=False) == split)


def _find_routes(clean: LevelSet, corrupted: LevelSet, kind: str) -> tuple[Tensor, Tensor]:
    """Squares of one optimal plan on each level, (N, R) each."""
    routes = []
    for levels in (clean, corrupted):
        if not len(levels):
            routes.append(levels.players[:, None])
            continue
        futures = optimal_futures(levels.boards, levels.players, kind)
        goes_on = torch.cat([torch.ones(len(levels), 1, dtype=torch.bool), futures.moved], dim=1)
        routes.append(futures.positions.masked_fill(~goes_on, -1))
    longest = max(route.shape[1] for route in routes)
    first, second = (pad(route, (0, longest - route.shape[1]), value=-1) for route in routes)
    return first, second
