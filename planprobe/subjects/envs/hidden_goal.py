"""Hidden goal ("dark room"): an empty grid, one square of which pays; the agent sees where it stands and nothing else.

Reaching the goal does not end the episode: the agent goes on being paid there until the time is up, then starts again
and, if it remembers, walks straight back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.subjects.envs.cell_world import next_squares, one_hot_squares, walk_extras
from planprobe.subjects.envs.routes import draw_square
from planprobe.subjects.envs.trial import DRAW_EPISODE, DRAW_STEP, DRAW_TASK, TrialEnv

STEP_REWARD, GOAL_REWARD = -0.1, 1.0
CORNER = 0  # flat index of the start square
STARTS = ("corner", "redrawn")


@dataclass(frozen=True)
class HiddenGoalTask:
    """Options of the hidden goal; +1 for a step that ends on it, -0.1 for any other.

    size: squares a side. num_episodes: E, of `episode_steps` steps each, whatever happens.
    start: 'corner', or 'redrawn' in every episode, uniform over the grid.
    goal: keep this flat square as the goal for ever, in place of a draw.
    hit_rate: chance that a step on the goal pays. false_rate: chance that a step elsewhere pays the same.
    The goal is uniform over the grid without the 2 x 2 squares at the corner: 21 goals on 5 x 5.
    Raises: RecipeError (a grid below 3, an unknown start, a goal outside those squares, rates outside [0, 1] or not
    apart).
    Source: Zintgraf et al. 2020 (VariBAD, grid world).
    """

    kind: ClassVar[str] = "hidden-goal"
    size: int = 5
    num_episodes: int = 2
    episode_steps: int = 15
    start: str = "corner"
    goal: int | None = None
    hit_rate: float = 1.0
    false_rate: float = 0.0

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS, where="hidden-goal", error=RecipeError)
        if self.size < 3 or min(self.num_episodes, self.episode_steps) < 1:
            raise RecipeError(
                f"hidden-goal needs a grid of 3 x 3 or more, an episode and a step, got size = {self.size}, "
                f"num_episodes = {self.num_episodes}, episode_steps = {self.episode_steps}."
            )
        if self.goal is not None and self.goal not in goal_squares(self.size).nonzero().flatten().tolist():
            raise RecipeError(f"hidden-goal goal {self.goal}: not a square of the grid outside the 2 x 2 corner.")
        # equal rates would make the goal unknowable, swapped ones would pay for staying away
        if not 0 <= self.false_rate < self.hit_rate <= 1:
            raise RecipeError(
                f"hidden-goal needs 0 <= false_rate < hit_rate <= 1, got {self.false_rate} and {self.hit_rate}."
            )

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> HiddenGoalEnv:
        """B grids side by side."""
        return HiddenGoalEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


def goal_squares(size: int) -> Tensor:
    """Where the goal may be, (size**2,) bool: everywhere but on the corner's 2 x 2 squares."""
    goals = torch.ones(size, size, dtype=torch.bool)
    goals[:2, :2] = False
    return goals.flatten()


class HiddenGoalEnv(TrialEnv):
    """B hidden goals; five actions, the fifth stays. View: the agent's square, one-hot (B, size**2).

    latents: goal (B,) int64 flat square.
    """

    num_actions = 5

    def __init__(self, num_boards: int, task: HiddenGoalTask, **options) -> None:
        super().__init__(num_boards, num_episodes=task.num_episodes, episode_steps=task.episode_steps, **options)
        self.task, self._noisy = task, (task.hit_rate, task.false_rate) != (1.0, 0.0)
        self.num_squares = self.num_planes = task.size**2
        grid = torch.zeros(1, task.size, task.size, dtype=torch.bool, device=self.device)
        self._next = next_squares(grid, noop=True)[0]
        self._goals = goal_squares(task.size).to(self.device)
        self.goals = torch.zeros(num_boards, dtype=torch.int64, device=self.device)
        self.players = torch.full_like(self.goals, CORNER)

    def _begin_trial(self, ids: Tensor) -> None:
        if self.task.goal is not None:
            self.goals[ids] = self.task.goal
            return
        candidates = self._goals.expand(len(ids), -1)
        self.goals[ids] = draw_square(candidates, self.seed, DRAW_TASK, ids, self.trials[ids])

    def _begin_episode(self, ids: Tensor) -> None:
        self.players[ids] = CORNER
        if self.task.start == "redrawn":
            counters = (ids, self.trials[ids], self.episode[ids])
            self.players[ids] = draw_below(self.num_squares, self.seed, DRAW_EPISODE, *counters)

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        before = self.players
        self.players = torch.where(active, self._next[before, actions], before)
        paid = self.players == self.goals
        if self._noisy:
            luck = draw_uniform(self.seed, DRAW_STEP, self.board_ids, self.trials, self.episode, self.elapsed)
            paid = luck < torch.where(paid, self.task.hit_rate, self.task.false_rate)
        reward = torch.where(paid, GOAL_REWARD, STEP_REWARD)
        return reward, torch.zeros_like(active), walk_extras(before, self.players)

    def _view(self) -> Tensor:
        return one_hot_squares(self.players, self.num_squares)

    def latents(self) -> dict[str, Tensor]:
        return {"goal": self.goals.clone()}
