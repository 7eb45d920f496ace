"""Clean / corrupted pairs: two runs that differ in one thing, which changes the best move.

An activation is taken from the clean run and put into the corrupted one. What a task makes are pairs of levels; what an
instrument needs are two histories of observations, so that a pair can also differ in something no board shows (ψ).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.levels import LevelSet


@dataclass(frozen=True)
class LevelPairs:
    """N pairs of levels, the player on the same square in both.

    clean, corrupted: the boards. changed: (N, H, W) bool, squares on which they differ. clean_actions,
    corrupted_actions: (N,) int64, the only optimal first move of each. clean_routes, corrupted_routes: (N, R) int64,
    flat squares of the player on one optimal plan, its start first, padded with -1. level_ids: (N,) int64, the level
    that a pair was made of, the unit of every interval. change: what was done, e.g. 'move-goal'.
    """

    clean: LevelSet
    corrupted: LevelSet
    changed: Tensor
    clean_actions: Tensor
    corrupted_actions: Tensor
    clean_routes: Tensor
    corrupted_routes: Tensor
    level_ids: Tensor
    change: str

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in vars(self).items() if name != "change"}
        if len(set(sizes.values())) != 1 or self.changed.shape != self.clean.boards.shape:
            raise ShapeError(f"a pair is one of each: {sizes}, changed {tuple(self.changed.shape)}.")
        if bool((self.clean_actions == self.corrupted_actions).any()):
            raise ShapeError("a pair whose optimal first move is the same in both runs shows no effect. Leave it out.")

    def __len__(self) -> int:
        return len(self.level_ids)

    def __getitem__(self, rows) -> LevelPairs:
        """Select pairs by slice, list, mask or id tensor."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items() if name != "change"})

    def swap(self) -> LevelPairs:
        """The other way round: from what was the corrupted run into what was the clean one."""
        return LevelPairs(
            self.corrupted, self.clean, self.changed, self.corrupted_actions, self.clean_actions,
            self.corrupted_routes, self.clean_routes, self.level_ids, self.change,
        )  # fmt: skip


@dataclass(frozen=True)
class HistoryPairs:
    """N pairs of histories that are shown to a policy, T steps each, from initial memory; effects are read at the last.

    clean, corrupted: (N, T, C, H, W) observations. clean_actions, corrupted_actions: (N,) int64, the best move after
    each. legal: (N, A) bool, moves that are possible after either. level_ids, change: as `LevelPairs`. Two trials that
    differ in ψ alone, shown the same forced actions, are such a pair (change 'psi').
    """

    clean: Tensor
    corrupted: Tensor
    clean_actions: Tensor
    corrupted_actions: Tensor
    legal: Tensor
    level_ids: Tensor
    change: str

    def __post_init__(self) -> None:
        shapes = {name: tuple(value.shape) for name, value in vars(self).items() if name != "change"}
        num_pairs = self.clean.shape[:1]
        if self.clean.shape != self.corrupted.shape or self.clean.ndim != 5 or self.clean.shape[1] < 1:
            raise ShapeError(f"both runs of a pair need observations (N, T, C, H, W) of T >= 1 steps, got {shapes}.")
        if any(value.shape[:1] != num_pairs for name, value in vars(self).items() if name != "change"):
            raise ShapeError(f"one of each pair is needed, got {shapes}.")
        for actions in (self.clean_actions, self.corrupted_actions):
            if not bool(self.legal.gather(1, actions[:, None]).all()):
                raise ShapeError("the best move of a run must be among the legal ones, or its log-odds mean nothing.")

    def __len__(self) -> int:
        return len(self.level_ids)

    def __getitem__(self, rows) -> HistoryPairs:
        """Select pairs by slice, list, mask or id tensor."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items() if name != "change"})

    @property
    def num_steps(self) -> int:
        return self.clean.shape[1]

    def hash(self) -> str:
        """sha256 over size and observations of both runs: their identity beside a result."""
        digest = hashlib.sha256(repr(tuple(self.clean.shape)).encode())
        for run in (self.clean, self.corrupted):
            digest.update(run.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def swap(self) -> HistoryPairs:
        """The other way round: from what was the corrupted run into what was the clean one."""
        return replace(
            self, clean=self.corrupted, corrupted=self.clean, clean_actions=self.corrupted_actions,
            corrupted_actions=self.clean_actions,
        )  # fmt: skip
