"""Doors: two rooms and a wall between them with one open door, at one of M places. Which one is drawn per trial.

The M maps differ in nothing else, so the agent's belief is the set of maps that fit what it has seen, and the exact
value of every belief can be tabulated (`references.door_values`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.grid import NUM_MOVES
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.cell_world import (
    GOAL_REWARD,
    STEP_REWARD,
    next_squares,
    one_hot_squares,
    walk_extras,
    walls_around,
)
from planprobe.subjects.envs.routes import draw_square
from planprobe.subjects.envs.trial import DRAW_EPISODE, DRAW_TASK, TrialEnv

MAX_DOORS = 8  # beliefs are sets of maps, and there are 2**M of them
VIEWS = ("neighbours", "bump")
STARTS = ("fixed", "redrawn")
WIDTH, WALL_COLUMN = 7, 3  # outer wall, two columns of room, wall, two columns of room, outer wall


@dataclass(frozen=True)
class DoorsTask:
    """Options of the doors; -0.04 a step, +1 at the goal, which ends the episode.

    num_doors: M places, on every other row. num_episodes: E, cut after `episode_steps` steps each.
    view: beside the square, 'neighbours' shows the walls on the four sides, 'bump' whether the last move was blocked.
    start: 'fixed' in the middle of the left room, or 'redrawn' in that room every episode. The goal stands opposite.
    Raises: RecipeError (a number out of range, an unknown view or start).
    """

    kind: ClassVar[str] = "doors"
    num_doors: int = 4
    num_episodes: int = 3
    episode_steps: int = 25
    view: str = "neighbours"
    start: str = "fixed"

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise unknown_name("view", self.view, VIEWS, where="doors", error=RecipeError)
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS, where="doors", error=RecipeError)
        if not 2 <= self.num_doors <= MAX_DOORS or min(self.num_episodes, self.episode_steps) < 1:
            raise RecipeError(
                f"doors needs 2 to {MAX_DOORS} doors, an episode and a step, got num_doors = {self.num_doors}, "
                f"num_episodes = {self.num_episodes}, episode_steps = {self.episode_steps}."
            )

    @property
    def height(self) -> int:
        return 2 * self.num_doors + 1

    @property
    def goal(self) -> int:
        """Flat square of the goal: the middle row, at the right end."""
        return self.num_doors * WIDTH + WIDTH - 2

    def starts(self) -> Tensor:
        """Squares where an episode may start, (N,) int64."""
        if self.start == "fixed":
            return torch.tensor([self.num_doors * WIDTH + 1])
        rows = torch.arange(1, self.height - 1)
        return (rows[:, None] * WIDTH + torch.arange(1, WALL_COLUMN)).flatten()

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> DoorsEnv:
        """B pairs of rooms side by side."""
        return DoorsEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


def door_maps(num_doors: int) -> Tensor:
    """Walls of the M maps, (M, 2M + 1, 7) bool; in map m the door at row 2m + 1 is open."""
    walls = torch.zeros(num_doors, 2 * num_doors + 1, WIDTH, dtype=torch.bool)
    walls[:, [0, -1]] = True
    walls[:, :, [0, WALL_COLUMN, -1]] = True
    doors = torch.arange(num_doors)
    walls[doors, 2 * doors + 1, WALL_COLUMN] = False
    return walls


class DoorsEnv(TrialEnv):
    """B pairs of rooms. View: the agent's square, one-hot, then four walls (up, down, left, right) or one bump.

    latents: door (B,) int64, the open one, counted from the top.
    """

    num_actions = NUM_MOVES

    def __init__(self, num_boards: int, task: DoorsTask, **options) -> None:
        super().__init__(num_boards, num_episodes=task.num_episodes, episode_steps=task.episode_steps, **options)
        self.task = task
        maps = door_maps(task.num_doors).to(self.device)
        self.num_squares = maps[0].numel()
        self.num_planes = self.num_squares + (NUM_MOVES if task.view == "neighbours" else 1)
        self._next, self._around = next_squares(maps), walls_around(maps)
        may_start = torch.zeros(self.num_squares, dtype=torch.bool, device=self.device)
        may_start[task.starts()] = True
        self._starts = may_start
        self.doors = torch.zeros(num_boards, dtype=torch.int64, device=self.device)
        self.players = self.doors + int(task.starts()[0])
        self.bumped = torch.zeros(num_boards, dtype=torch.bool, device=self.device)

    def _begin_trial(self, ids: Tensor) -> None:
        self.doors[ids] = draw_below(self.task.num_doors, self.seed, DRAW_TASK, ids, self.trials[ids])

    def _begin_episode(self, ids: Tensor) -> None:
        counters = (ids, self.trials[ids], self.episode[ids])
        self.players[ids] = draw_square(self._starts.expand(len(ids), -1), self.seed, DRAW_EPISODE, *counters)
        self.bumped[ids] = False

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        before = self.players
        self.players = torch.where(active, self._next[self.doors, before, actions], before)
        self.bumped = torch.where(active, self.players == before, self.bumped)
        solved = self.players == self.task.goal
        reward = STEP_REWARD + GOAL_REWARD * solved.to(torch.float32)
        return reward, solved, walk_extras(before, self.players)

    def _view(self) -> Tensor:
        square = one_hot_squares(self.players, self.num_squares)
        if self.task.view == "neighbours":
            further = self._around[self.doors, self.players]
        else:
            further = self.bumped[:, None]
        return torch.cat([square, further.to(torch.float32)], dim=1)

    def latents(self) -> dict[str, Tensor]:
        return {"door": self.doors.clone()}
