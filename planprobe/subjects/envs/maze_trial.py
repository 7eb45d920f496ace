"""Maze trials: a maze with a goal that is never shown, walked several times. ψ is the goal, and the walls not yet seen.

The goal stands on a cell of the maze (odd row, odd column), which is floor in every maze: where it may be does not
depend on walls the agent has not seen, so the exact belief is uniform over the cells not yet stepped on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.grid import NUM_MOVES, WALL
from planprobe.core.levels import SPLITS, LevelSet
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.cell_world import (
    GOAL_REWARD,
    STEP_REWARD,
    next_squares,
    one_hot_squares,
    walk_extras,
    wall_windows,
)
from planprobe.subjects.envs.generate_maze import LARGEST, SMALLEST, generate_mazes
from planprobe.subjects.envs.routes import draw_square
from planprobe.subjects.envs.trial import DRAW_EPISODE, DRAW_TASK, TrialEnv

VIEWS, STARTS = ("local", "full"), ("fixed", "redrawn")
LEVEL_SEEDS = {"train": 11, "valid": 12, "test": 13}
_LEVEL, _GOAL, _START = range(3)  # what a draw decides
_FOREVER = 17  # seed of what a task keeps for ever, whatever the seed of the environment


@dataclass(frozen=True)
class MazeTrialTask:
    """Options of the maze trials; -0.04 a step, +1 at the goal, which ends the episode.

    size: squares a side, odd: 7 are 3 x 3 cells, 9 are 4 x 4. num_episodes: E, cut after `episode_steps` steps each.
    braid: chance that a dead end is opened, drawn per maze from this range; (0, 0) gives perfect mazes.
    view: 'local', the walls in `view_size` x `view_size` squares around the agent, outside is wall; or 'full', the
    board with the agent on it.
    start: a cell other than the goal, 'fixed' for the trial or 'redrawn' in every episode.
    maze_id: keep this one maze of the bank for ever. one_goal: keep its goal too, and a fixed start.
    split, num_mazes: the bank; its layouts are those of no other split.
    Raises: RecipeError (a number out of range, an unknown name, one goal without one maze).
    """

    kind: ClassVar[str] = "maze-trial"
    size: int = 7
    num_episodes: int = 2
    episode_steps: int = 50
    braid: tuple[float, float] = (0.5, 1.0)
    view: str = "local"
    view_size: int = 3
    start: str = "fixed"
    maze_id: int | None = None
    one_goal: bool = False
    split: str = "train"
    num_mazes: int = 1000

    def __post_init__(self) -> None:
        for what, name, known in (
            ("view", self.view, VIEWS),
            ("start", self.start, STARTS),
            ("split", self.split, SPLITS),
        ):
            if name not in known:
                raise unknown_name(what, name, known, where="maze-trial", error=RecipeError)
        if self.size % 2 == 0 or not SMALLEST <= self.size <= LARGEST:
            raise RecipeError(f"maze-trial size {self.size}: needs an odd number, {SMALLEST} to {LARGEST}.")
        if self.view_size % 2 == 0 or self.view_size < 3:
            raise RecipeError(f"maze-trial view_size {self.view_size}: needs an odd number from 3, the agent amidst.")
        if min(self.num_episodes, self.episode_steps, self.num_mazes) < 1:
            raise RecipeError(
                f"maze-trial needs an episode, a step and a maze, got num_episodes = {self.num_episodes}, "
                f"episode_steps = {self.episode_steps}, num_mazes = {self.num_mazes}."
            )
        if self.maze_id is not None and not 0 <= self.maze_id < self.num_mazes:
            raise RecipeError(f"maze-trial maze_id {self.maze_id}: the bank holds mazes 0 to {self.num_mazes - 1}.")
        if self.one_goal and self.maze_id is None:
            raise RecipeError("maze-trial one_goal: a goal is kept for ever in one maze; say which by maze_id.")

    def levels(self) -> LevelSet:
        """The bank of mazes; only their walls count, goals and starts are drawn."""
        return _make_bank(self.size, self.braid, self.split, self.num_mazes)

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> MazeTrialEnv:
        """B mazes side by side."""
        return MazeTrialEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


@lru_cache(maxsize=8)
def _make_bank(size: int, braid: tuple[float, float], split: str, num_mazes: int) -> LevelSet:
    distinct = size > SMALLEST  # 3 x 3 cells have 192 trees, far fewer up to symmetry
    seed = LEVEL_SEEDS[split]
    return generate_mazes(num_mazes, size=size, braid=braid, seed=seed, split=split, distinct_layouts=distinct)


def cell_squares(size: int) -> Tensor:
    """The cells of a maze, (size**2,) bool: squares that are floor in every maze of this size."""
    cells = torch.zeros(size, size, dtype=torch.bool)
    cells[1::2, 1::2] = True
    return cells.flatten()


class MazeTrialEnv(TrialEnv):
    """B mazes. View: local (B, view_size**2), 1 = wall; full (B, 2, H, W), the walls and the agent.

    latents: goal (B,) int64 flat square; level (B,) int64 in the bank; walls (B, H, W) bool.
    """

    num_actions = NUM_MOVES

    def __init__(self, num_boards: int, task: MazeTrialTask, **options) -> None:
        super().__init__(num_boards, num_episodes=task.num_episodes, episode_steps=task.episode_steps, **options)
        self.task = task
        self.bank = (task.levels().boards.to(self.device) & WALL) != 0
        self.num_squares = task.size**2
        self.spatial = task.view == "full"
        self.num_planes = 2 if self.spatial else task.view_size**2
        if self.spatial:
            self.height = self.width = task.size
        self._windows = wall_windows(self.bank, task.view_size)
        self._next, self._cells = next_squares(self.bank), cell_squares(task.size).to(self.device)
        self.level_ids = torch.zeros(num_boards, dtype=torch.int64, device=self.device)
        self.goals, self.starts = self.level_ids.clone(), self.level_ids.clone()
        self.players = self.level_ids + task.size + 1  # the first cell, until the first trial begins

    @property
    def walls(self) -> Tensor:
        """Walls of the present mazes, (B, H, W) bool."""
        return self.bank[self.level_ids]

    def _begin_trial(self, ids: Tensor) -> None:
        task, counters = self.task, (ids, self.trials[ids])
        if task.maze_id is None:
            self.level_ids[ids] = draw_below(len(self.bank), self.seed, DRAW_TASK, *counters, _LEVEL)
        else:
            self.level_ids[ids] = task.maze_id
        seed = self.seed
        if task.one_goal:
            seed, counters = _FOREVER, (torch.zeros_like(ids), self.level_ids[ids])
        cells = self._cells.expand(len(ids), -1)
        goals = draw_square(cells, seed, DRAW_TASK, *counters, _GOAL)
        others = cells.scatter(1, goals[:, None], False)
        self.goals[ids] = goals
        self.starts[ids] = draw_square(others, seed, DRAW_TASK, *counters, _START)

    def _begin_episode(self, ids: Tensor) -> None:
        if self.task.start == "redrawn":
            others = self._cells.expand(len(ids), -1).scatter(1, self.goals[ids, None], False)
            counters = (ids, self.trials[ids], self.episode[ids])
            self.starts[ids] = draw_square(others, self.seed, DRAW_EPISODE, *counters)
        self.players[ids] = self.starts[ids]

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        before = self.players
        self.players = torch.where(active, self._next[self.level_ids, before, actions], before)
        solved = self.players == self.goals
        reward = STEP_REWARD + GOAL_REWARD * solved.to(torch.float32)
        return reward, solved, walk_extras(before, self.players)

    def _view(self) -> Tensor:
        if not self.spatial:
            rows, columns = self.players // self.task.size, self.players % self.task.size
            return self._windows[self.level_ids, rows, columns].flatten(1).to(torch.float32)
        agent = one_hot_squares(self.players, self.num_squares).view(-1, self.height, self.width)
        return torch.stack([self.walls.to(torch.float32), agent], dim=1)

    def latents(self) -> dict[str, Tensor]:
        return {"goal": self.goals.clone(), "level": self.level_ids.clone(), "walls": self.walls}
