"""Sokoban levels by reverse play, thousands at a time: start solved, pull boxes, keep the hardest state seen.

Rooms are carved by a walker with small stamps (Racaniere et al. 2017, as in DeepMind's Boxoban), boxes start on their
targets and are pulled away at random, so that every level is solvable by construction. Of all states along a level's
reverse play we keep the one with no box on a target that maximises their difficulty score, total box displacement times
runs of pulls on one box; then the harder of each two levels is kept. The player starts anywhere it can walk.

Random play alone gives easy levels (7x7, 1-2 boxes: median 9 optimal moves, one in a hundred above 21). Whoever needs
the hard end generates more and keeps what `solver` finds long.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from planprobe.core.errors import PlanprobeError, nearest
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.levels import SPLITS, LevelSet, split_names
from planprobe.subjects.envs.reverse_play import carve_rooms, draw_starts, place_targets, play_backwards

MIN_SIZE, MAX_SIZE = 5, 12
MAX_BOXES = 5
CHUNK_LEVELS = 4096  # attempts per seeded chunk; part of the format: changing it changes every generated level
PULLS_PER_SQUARE = 1.0  # pulls of reverse play per interior square and box, at least 24
MAX_BARREN_CHUNKS = 40  # chunks in a row without a new level before the supply counts as exhausted


class GenerationError(PlanprobeError, ValueError):
    """No levels can be generated with these arguments, or not that many different ones."""


def generate_sokoban(
    num_levels: int,
    *,
    size: int = 7,
    num_boxes: tuple[int, int] = (1, 2),
    seed: int,
    split: str | None = None,
    device: torch.device | str = "cpu",
) -> LevelSet:
    """Generate solvable levels, all different up to rotation and reflection, whatever the player's start.

    The first n levels of a longer request are the n levels of a shorter one. Splits are assigned by a hash of the
    layout, so that a level of one split never appears in another, for any two seeds.

    Args:
        num_levels: how many.
        size: squares a side, outer wall included, 5 to 12.
        num_boxes: fewest and most boxes; each level's number is drawn uniformly between them.
        seed: any non-negative int.
        split: 'train' (80 % of all layouts), 'valid' (10 %), 'test' (10 %), or None for all.
    Returns: N levels; no box starts on a target.
    Raises: GenerationError.
    Source: Racaniere et al. 2017 (Imagination-Augmented Agents), appendix on Sokoban.
    """
    fewest, most = _check_arguments(num_levels, size, num_boxes, seed, split)
    counts = _draw_box_counts(num_levels, fewest, most, seed)
    boards = np.zeros((num_levels, size, size), dtype=np.uint8)
    players = np.zeros(num_levels, dtype=np.int64)
    for boxes in range(fewest, most + 1):
        slots = np.flatnonzero(counts == boxes)
        if len(slots):
            found = _collect_levels(len(slots), size, boxes, seed, split)
            boards[slots], players[slots] = found.boards.numpy(), found.players.numpy()
    name = f"sokoban{size}" + (f"/{split}" if split else "")
    return LevelSet(torch.from_numpy(boards), torch.from_numpy(players), name).to(device)


def _check_arguments(
    num_levels: int, size: int, num_boxes: tuple[int, int], seed: int, split: str | None
) -> tuple[int, int]:
    """Refuse what can never work, and unpack the range of boxes."""
    request = f"generate_sokoban({num_levels}, size={size}, num_boxes={num_boxes}, seed={seed}, split={split!r})"
    if num_levels < 0 or seed < 0:
        raise GenerationError(f"{request}: the number of levels and the seed must not be negative.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise GenerationError(f"{request}: size counts the outer wall and must lie in {MIN_SIZE}-{MAX_SIZE}.")
    fewest, most = num_boxes
    if not 1 <= fewest <= most <= MAX_BOXES:
        raise GenerationError(f"{request}: num_boxes must be (fewest, most) with 1 <= fewest <= most <= {MAX_BOXES}.")
    needed = 2 * most + 1
    if (size - 2) ** 2 < needed:
        raise GenerationError(
            f"{request}: {most} boxes, {most} targets and a player need {needed} squares, "
            f"a board of size {size} has {(size - 2) ** 2}.\n  Use a larger size or fewer boxes."
        )
    if split is not None and split not in SPLITS:
        guess = nearest(str(split), SPLITS)
        hint = f" Did you mean '{guess}'?" if guess else ""
        raise GenerationError(
            f"{request}: there is no split {split!r}; it is one of {', '.join(SPLITS)}, or None.{hint}"
        )
    return fewest, most


def _draw_box_counts(num_levels: int, fewest: int, most: int, seed: int) -> np.ndarray:
    """Number of boxes of each level, (N,); drawn apart from the levels, so that rejection does not skew it."""
    return np.random.default_rng([seed, fewest, most]).integers(fewest, most + 1, size=num_levels)


def _collect_levels(num_levels: int, size: int, boxes: int, seed: int, split: str | None) -> LevelSet:
    """The first `num_levels` new levels of the endless stream for one number of boxes."""
    seen: set[bytes] = set()
    kept: list[LevelSet] = []
    barren = 0
    for chunk in _stream_chunks(size, boxes, seed):
        keys = chunk.canonical_keys(with_player=False)
        wanted = np.ones(len(chunk), bool) if split is None else split_names(chunk, with_player=False) == split
        fresh = []
        for index in np.flatnonzero(wanted):
            if keys[index] not in seen:
                seen.add(keys[index])
                fresh.append(index)
        kept.append(chunk[torch.tensor(fresh[: num_levels - len(seen) + len(fresh)], dtype=torch.int64)])
        barren = 0 if fresh else barren + 1
        if len(seen) >= num_levels:
            return LevelSet(torch.cat([part.boards for part in kept]), torch.cat([part.players for part in kept]))
        if barren == MAX_BARREN_CHUNKS:
            break
    raise GenerationError(
        f"asked for {num_levels} different levels of size {size} with {boxes} box(es), split {split!r}: "
        f"only {len(seen)} were found, then {MAX_BARREN_CHUNKS * CHUNK_LEVELS:,} attempts brought nothing new.\n"
        "  Ask for fewer levels, a larger size, or another number of boxes."
    )


def _stream_chunks(size: int, boxes: int, seed: int) -> Iterator[LevelSet]:
    """Endless chunks of acceptable levels; chunk i depends on (size, boxes, seed, i) only."""
    for chunk_id in itertools.count():
        rng = np.random.default_rng([seed, size, boxes, chunk_id])
        walls = carve_rooms(CHUNK_LEVELS, size, rng)
        targets, players, usable = place_targets(walls, boxes, rng)
        num_pulls = max(24, int(PULLS_PER_SQUARE * boxes * (size - 2) ** 2))
        box_cells, players, scores = play_backwards(walls, targets, players, num_pulls, rng)
        players = draw_starts(walls, box_cells, players, rng)
        board = walls.astype(np.uint8) * WALL
        columns = np.arange(CHUNK_LEVELS)
        board[targets, columns] |= TARGET
        board[box_cells, columns] |= BOX
        winners = _hold_tournament(np.where(usable, scores, 0))
        boards = np.ascontiguousarray(board.T[winners]).reshape(-1, size, size)
        yield LevelSet(torch.from_numpy(boards), torch.from_numpy(players[winners]))


def _hold_tournament(scores: np.ndarray) -> np.ndarray:
    """Ids of the harder level of each pair, without those of score 0: easy levels stay, hard ones dominate."""
    half = len(scores) // 2
    first = np.arange(half)
    winners = np.where(scores[:half] >= scores[half:], first, first + half)
    return winners[scores[winners] > 0]
