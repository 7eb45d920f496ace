"""Train, valid and test rows, split by level: never by square or step, whose neighbours are near-copies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, TooFewLevelsError, TrainingLevelsError
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_bits

MIN_LEVELS = 10  # below that a fifth of the levels is a single one, and an interval over levels means nothing


class Split(NamedTuple):
    """Masks over N rows, (N,) bool each: every row is in exactly one of them, and so is every level."""

    train: Tensor
    valid: Tensor
    test: Tensor


def split_by_level(
    level_ids: Tensor, *, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2), seed: int = 0
) -> Split:
    """Draw the levels of each part; a level keeps all its rows together.

    Levels are ordered by a draw that depends on (seed, level) alone, then cut at the fractions of their *number*, with
    at least one level a part.

    Args: level_ids (N,) int64, level of each row; fractions of levels for train, valid and test, which sum to 1.
    Raises: TooFewLevelsError (under 10 levels); ShapeError (fractions, or level_ids not (N,)).
    """
    level_ids = torch.as_tensor(level_ids)
    if level_ids.ndim != 1:
        raise ShapeError(f"level_ids must be (N,), got {tuple(level_ids.shape)}.")
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ShapeError(f"fractions={fractions}: needs three positive fractions (train, valid, test) that sum to 1.")
    levels, level_of_row = level_ids.unique(return_inverse=True)
    if len(levels) < MIN_LEVELS:
        raise TooFewLevelsError(
            f"split_by_level: {len(level_ids)} rows come from {len(levels)} levels; {MIN_LEVELS} or more are needed.\n"
            "  More states of the same levels do not help: they are near-copies. Play more levels."
        )
    num_train = max(1, round(fractions[0] * len(levels)))
    num_test = max(1, round(fractions[2] * len(levels)))
    num_train = min(num_train, len(levels) - num_test - 1)
    rank = draw_bits(seed, levels).argsort(stable=True).argsort()
    train, test = rank < num_train, rank >= len(levels) - num_test
    return Split(*(part[level_of_row] for part in (train, ~train & ~test, test)))


def refuse_training_levels(levels: LevelSet) -> None:
    """A probe that reads a plan off a level that training has shown may read a memory of it.

    A level set knows its split by its name ('maze11/train'). Levels from elsewhere do not say what an agent has seen.
    Raises: TrainingLevelsError.
    """
    if levels.name.rsplit("/", 1)[-1] == "train":
        raise TrainingLevelsError(
            f"'{levels.name}': the agent knows these levels, and what is read from it may be memory.\n"
            "  Next: the test or the valid levels of its task."
        )


def check_split(level_ids: Tensor, split: Split) -> None:
    """Refuse a split of one's own that tears a level apart.

    Neighbouring steps of a level are near-copies: with some of them on each side any probe looks good.
    Raises: ShapeError.
    """
    train, valid, test = (level_ids[mask].unique() for mask in split)
    torn = torch.cat([train, valid, test])
    if len(torn) > len(torn.unique()):
        shared = int((torn.unique(return_counts=True)[1] > 1).sum())
        raise ShapeError(
            f"{shared} levels have rows in more than one part of this split; a level stays on one side.\n"
            "  Next: split_by_level(level_ids)."
        )
