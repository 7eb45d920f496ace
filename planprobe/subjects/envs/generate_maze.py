"""Mazes by the thousand: random spanning trees of a cell grid, some dead ends opened so that loops exist.

Loops matter. In a perfect (tree) maze the loop-erased first path *is* the shortest path, so replay and planning look
the same. Every random choice is counted by (seed, maze number), hence a bigger request starts with the smaller one,
whatever the chunk size. A layout goes to its split by a hash of its canonical key: no split holds a maze, turned or
mirrored, that another one holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, ShapeError, TooFewLevelsError, unknown_name
from planprobe.core.grid import TARGET, WALL
from planprobe.core.levels import SPLITS, LevelSet, split_names
from planprobe.core.rng import draw_below, draw_bits, draw_uniform

SMALLEST, LARGEST = 7, 25
CHUNK_CELLS = 4096 * 25  # cells drawn together; no level depends on it
# so many mazes in a row without a new layout mean that (nearly) all layouts have been found
PATIENCE = 65_536

_DRAW_EDGE, _DRAW_BRAID, _DRAW_OPEN, _DRAW_WALL, _DRAW_GOAL, _DRAW_START = range(101, 107)


def generate_mazes(
    num_levels: int,
    *,
    size: int = 11,
    braid: float | tuple[float, float] = (0.0, 0.5),
    seed: int,
    split: str | None = None,
    distinct_layouts: bool = True,
) -> LevelSet:
    """Draw mazes, each with one start (player) and one goal (TARGET) on distinct squares uniform over the floor.

    Args:
        num_levels: N.
        size: squares a side, odd, 7 to 25; cells lie on odd coordinates, so 11 squares are 5 x 5 cells.
        braid: probability that a dead end is opened (one wall at it removed): 0 keeps the tree, 1 leaves no dead end.
            A pair draws it per maze, uniform in the range.
        seed: same seed, same levels bit for bit; a bigger request starts with the smaller one.
        split: 'train' (80 % of all layouts), 'valid' or 'test' (10 % each); None draws from all of them.
        distinct_layouts: no wall layout twice, up to the eight symmetries. False lets a layout come back with another
            start or goal, which tiny mazes need: 3 x 3 cells have 192 trees.
    Returns: boards (N, size, size), named e.g. 'maze11/test'.
    Raises: ShapeError (size); RecipeError (num_levels, braid, split); TooFewLevelsError (no N distinct layouts exist).
    """
    if num_levels < 0:
        raise RecipeError(f"{num_levels} mazes were asked for: needs 0 or more.")
    kept: list[LevelSet] = []
    found = 0
    for levels in stream_mazes(size=size, braid=braid, seed=seed, split=split, distinct_layouts=distinct_layouts):
        kept.append(levels)
        found += len(levels)
        if found >= num_levels:
            break
    boards = torch.cat([levels.boards for levels in kept])[:num_levels]
    return LevelSet(boards, torch.cat([levels.players for levels in kept])[:num_levels], f"maze{size}/{split or 'all'}")


def stream_mazes(
    *,
    size: int = 11,
    braid: float | tuple[float, float] = (0.0, 0.5),
    seed: int,
    split: str | None = None,
    distinct_layouts: bool = True,
) -> Iterator[LevelSet]:
    """The endless stream that `generate_mazes` takes its levels from, in blocks of varying length.

    Raises: as `generate_mazes`; TooFewLevelsError as soon as `PATIENCE` mazes in a row brought nothing new.
    """
    low, high = _check_options(size, braid, split)
    seen: set[bytes] = set()
    last_new = 0
    num_cells = (size - 1) // 2
    chunk = CHUNK_CELLS // num_cells**2
    for start in itertools.count(step=chunk):
        if start - last_new >= PATIENCE:
            raise TooFewLevelsError(_too_few_message(len(seen), start, size, braid, split, distinct_layouts))
        numbers = torch.arange(start, start + chunk)
        walls = _draw_layouts(numbers, num_cells, low, high, seed)
        levels = _place_goal_and_start(walls, numbers, seed)
        rows = _fresh_rows(levels, seen, split, distinct_layouts)
        last_new = start + chunk if rows else last_new
        yield levels[rows]


def _draw_layouts(numbers: Tensor, num_cells: int, low: float, high: float, seed: int) -> Tensor:
    """Walls (N, H, W) bool of the mazes with these numbers (N,), `num_cells` cells a side."""
    first, second, squares = _cell_edges(num_cells)
    edge_ids = torch.arange(len(first))
    weights = draw_bits(seed, _DRAW_EDGE, numbers[:, None], edge_ids)
    open_edges = _spanning_trees(weights.argsort(dim=1), first, second, num_cells**2)
    braid = low + (high - low) * draw_uniform(seed, _DRAW_BRAID, numbers)
    open_edges |= _opened_dead_ends(open_edges, first, second, num_cells**2, braid, numbers, seed)
    size = 2 * num_cells + 1
    walls = torch.ones(len(numbers), size, size, dtype=torch.bool)
    walls[:, 1::2, 1::2] = False
    walls.view(len(numbers), -1)[:, squares] = ~open_edges
    return walls


def _cell_edges(num_cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Both cells and the square in between, of every edge of the cell grid; (M,) int64 each."""
    cells = torch.arange(num_cells**2).view(num_cells, num_cells)
    first = torch.cat([cells[:, :-1].flatten(), cells[:-1].flatten()])
    second = torch.cat([cells[:, 1:].flatten(), cells[1:].flatten()])
    squares = _cell_squares(num_cells)
    return first, second, (squares[first] + squares[second]) // 2


def _cell_squares(num_cells: int) -> Tensor:
    """Flat square index of each cell."""
    cells = torch.arange(num_cells**2)
    return (2 * (cells // num_cells) + 1) * (2 * num_cells + 1) + 2 * (cells % num_cells) + 1


def _spanning_trees(order: Tensor, first: Tensor, second: Tensor, num_cells: int) -> Tensor:
    """Kruskal on every maze together: take the k-th edge of each maze's order if it joins two components.

    Args: order (N, M), a permutation of the edges per maze. Returns: (N, M) bool, true where the edge is in the tree.
    """
    component = torch.arange(num_cells, dtype=torch.uint8).repeat(len(order), 1)
    in_tree = torch.zeros(order.shape, dtype=torch.bool)
    near, far = first[order], second[order]
    for rank in range(order.shape[1]):
        keep = component.gather(1, near[:, rank, None])
        drop = component.gather(1, far[:, rank, None])
        in_tree.scatter_(1, order[:, rank, None], keep != drop)
        component = torch.where(component == drop, keep, component)
    return in_tree


def _opened_dead_ends(
    open_edges: Tensor, first: Tensor, second: Tensor, num_cells: int, braid: Tensor, numbers: Tensor, seed: int
) -> Tensor:
    """Edges (N, M) bool to open: with probability `braid` (N,), one closed edge, uniform, at each dead end."""
    incidence = torch.zeros(num_cells, len(first), dtype=torch.bool)
    incidence[first, torch.arange(len(first))] = True
    incidence[second, torch.arange(len(first))] = True
    dead_end = (open_edges.float() @ incidence.T.float()) == 1
    maze, cell = (dead_end & (_uniform_per_cell(seed, numbers, num_cells) < braid[:, None])).nonzero(as_tuple=True)
    closed = incidence[cell] & ~open_edges[maze]
    choice = draw_below(closed.sum(1), seed, _DRAW_WALL, numbers[maze], cell)
    opened = torch.zeros_like(open_edges)
    opened[maze, _nth_true(closed, choice)] = True
    return opened


def _uniform_per_cell(seed: int, numbers: Tensor, num_cells: int) -> Tensor:
    return draw_uniform(seed, _DRAW_OPEN, numbers[:, None], torch.arange(num_cells))


def _place_goal_and_start(walls: Tensor, numbers: Tensor, seed: int) -> LevelSet:
    free = ~walls.flatten(1)
    goals = _nth_true(free, draw_below(free.sum(1), seed, _DRAW_GOAL, numbers))
    free = free.scatter(1, goals[:, None], False)
    players = _nth_true(free, draw_below(free.sum(1), seed, _DRAW_START, numbers))
    boards = walls.flatten(1).to(torch.uint8) * WALL
    boards.scatter_(1, goals[:, None], TARGET)
    return LevelSet(boards.view(walls.shape), players)


def _nth_true(mask: Tensor, rank: Tensor) -> Tensor:
    """Index of the `rank`-th true entry (from 0) of each row of mask (N, M)."""
    return (mask.cumsum(1) > rank[:, None]).to(torch.uint8).argmax(1)


def _fresh_rows(levels: LevelSet, seen: set[bytes], split: str | None, distinct_layouts: bool) -> list[int]:
    """Rows of the wanted split that were not seen before, in order; adds them to `seen`."""
    layouts = LevelSet(levels.boards & WALL, torch.zeros_like(levels.players))
    wanted: Sequence[int] = range(len(levels))
    if split is not None:
        wanted = [row for row, name in enumerate(split_names(layouts, with_player=False)) if name == split]
    chosen = layouts if distinct_layouts else levels
    keys = chosen[list(wanted)].canonical_keys(with_player=not distinct_layouts)
    rows = []
    for row, key in zip(wanted, keys, strict=True):
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return rows


def _check_options(size: int, braid: float | tuple[float, float], split: str | None) -> tuple[float, float]:
    if size % 2 == 0 or not SMALLEST <= size <= LARGEST:
        raise ShapeError(f"maze size {size}: needs an odd number of squares a side, {SMALLEST} to {LARGEST}.")
    low, high = (braid, braid) if isinstance(braid, int | float) else braid
    if not 0 <= low <= high <= 1:
        raise RecipeError(f"braid {braid}: needs a probability or a (low, high) pair within [0, 1].")
    if split is not None and split not in SPLITS:
        raise unknown_name("split", split, SPLITS, where="a maze set", error=RecipeError)
    return float(low), float(high)


def _too_few_message(
    found: int, tried: int, size: int, braid: float | tuple[float, float], split: str | None, distinct_layouts: bool
) -> str:
    what = "layouts" if distinct_layouts else "levels"
    repeat = (
        ", or let layouts come back with another start and goal: distinct_layouts=False" if distinct_layouts else ""
    )
    return (
        f"more distinct {what} were asked for than mazes of size {size}, braid {braid}, split {split!r} offer: {found}"
        f" were found, and the last {PATIENCE} of {tried} mazes drawn were all known.\n"
        f"  Ask for at most {found}, or take a bigger size or more braid{repeat}."
    )
