"""What an agent can still do with a concept erased: solving, first moves, and what it gains from thinking.

Levels x draws of random subspaces are the boards of one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, ShapeError, unknown_name
from planprobe.core.grid import WALL
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, play
from planprobe.instruments.erasure.erasure import Erasure
from planprobe.instruments.hooks import OpenedPolicy, intervene
from planprobe.instruments.thinking import score_first_actions

Measure = Literal["solved", "first_move", "solved_gain", "first_move_gain", "solved_thought", "first_move_thought"]
UNITS: dict[str, str] = {
    "solved": "fraction solved",
    "first_move": "fraction of first moves that are optimal",
    "solved_gain": "fraction solved, gained by thinking",
    "first_move_gain": "fraction of first moves that are optimal, gained by thinking",
    "solved_thought": "fraction solved after thinking",
    "first_move_thought": "fraction of first moves that are optimal after thinking",
}


@dataclass(frozen=True)
class Erased:
    """What N levels x S draws came to; values by measure, (N, S) float64, nan = not known."""

    values: dict[str, np.ndarray]

    def per_level(self, measure: str) -> np.ndarray:
        """Mean over the draws, (N,)."""
        return self.values[measure].mean(1)

    def per_draw(self, measure: str) -> np.ndarray:
        """Mean over the levels that have the measure, (S,)."""
        return np.nanmean(self.values[measure], axis=0)


@dataclass(frozen=True)
class Trial:
    """The levels an agent is tried on, the same for every erasure.

    first_moves (N, 4) bool: every optimal first move, None = not known. thinking_steps: of the thinking gain, 0 = not
    measured. max_steps: stop sooner, and count as solved what is solved by then; 1 where first moves are all that
    matters, and solving is not measured.
    Raises: ShapeError (first moves of other levels); AddressError (a negative number of steps).
    """

    make_env: EnvMaker
    levels: LevelSet
    first_moves: Tensor | None = None
    thinking_steps: int = 0
    max_steps: int | None = None

    def __post_init__(self) -> None:
        moves = self.first_moves
        if moves is not None and (tuple(moves.shape) != (len(self.levels), 4) or moves.dtype != torch.bool):
            raise ShapeError(f"first_moves must be ({len(self.levels)}, 4) bool, got {tuple(moves.shape)}.")
        if self.thinking_steps < 0:
            raise AddressError(f"thinking_steps {self.thinking_steps}: needs 0 or more.")

    def check_measure(self, measure: str) -> None:
        """Raises: UnknownNameError (no such measure); AddressError (one that this trial does not take)."""
        if measure not in get_args(Measure):
            raise unknown_name("measure", measure, get_args(Measure))
        if measure.startswith("first_move") and self.first_moves is None:
            raise AddressError(f"measure '{measure}' needs first_moves, every optimal one at the start of each level.")
        if measure.startswith("solved") and self.max_steps == 1:
            raise AddressError(f"measure '{measure}' needs whole episodes, not max_steps=1.")
        if measure.endswith(("_gain", "_thought")) and self.thinking_steps == 0:
            raise AddressError(f"measure '{measure}' needs thinking_steps, 1 or more.")

    def run(
        self, opened: OpenedPolicy, erasure: Erasure | None = None, *, on_batch: Callable[[int], None] | None = None
    ) -> Erased:
        """Play every level under every draw, greedily. on_batch: told how many episodes a batch had."""
        now = self._play(opened, erasure, 0, on_batch)
        if self.thinking_steps:
            thought = self._play(opened, erasure, self.thinking_steps, on_batch)
            gained = {f"{name}_gain": thought[name] - values for name, values in now.items()}
            now |= gained | {f"{name}_thought": values for name, values in thought.items()}
        return Erased(now)

    def num_episodes(self, erasure: Erasure | None) -> int:
        """Episodes that `run` plays."""
        draws = erasure.num_draws if erasure is not None else 1
        return len(self.levels) * draws * (2 if self.thinking_steps else 1)

    def _play(
        self, opened: OpenedPolicy, erasure: Erasure | None, thinking_steps: int, on_batch: Callable | None
    ) -> dict[str, np.ndarray]:
        num_draws = erasure.num_draws if erasure is not None else 1
        solved, first = [], []
        for rows in torch.arange(len(self.levels) * num_draws).split(BATCH_BOARDS):
            ids, draws = rows // num_draws, rows % num_draws
            edits = []
            if erasure is not None:
                floor = (self.levels.boards[ids] & WALL) == 0
                several = next(iter(erasure.erasers.values())).left.ndim == 3
                edits = erasure.edits(floor, draws=draws if several else None)
            env = self.make_env(self.levels, len(rows))
            with intervene(opened, edits):
                rollout = play(opened, env, ids, thinking_steps=thinking_steps, max_steps=self.max_steps)
            solved.append(rollout.solved.cpu().double().numpy())
            moves = None if self.first_moves is None else self.first_moves[ids]
            first.append(score_first_actions(rollout.actions[:, 0].cpu(), moves))
            if on_batch:
                on_batch(len(rows))
        outcomes = {"solved": solved, "first_move": first}
        values = {name: np.concatenate(parts).reshape(-1, num_draws) for name, parts in outcomes.items()}
        if self.max_steps == 1:
            values["solved"] = np.full_like(values["solved"], np.nan)
        return values
