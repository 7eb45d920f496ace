"""Reference players of the hidden goal: sweep, posterior sampling per episode and per step, and the oracle.

All keep the exact belief and walk to a square by a shortest way drawn at random; they differ in which square. On the
5 x 5 grid with 15 steps their returns in the first two episodes are 3.91 and 10.21 (sweep), 2.90 and 7.87 (posterior
sampling), 1.97 and 5.57 (a sample per step), 11.07 (oracle).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from planprobe.core.grid import NOOP
from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.cell_world import next_squares
from planprobe.subjects.envs.hidden_goal import GOAL_REWARD, HiddenGoalEnv, goal_squares
from planprobe.subjects.envs.routes import draw_square
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.references.goal_belief import likely_goals, sample_goals, uniform_belief, update_goal_belief
from planprobe.subjects.references.goal_values import MAX_NODES, plan_search

NO_TARGET = -1
_DRAW_TARGET, _DRAW_MOVE = range(2)


class GoalPlayer:
    """Base: keeps the belief (B, S) and walks to `targets` (B,), which a subclass chooses in `_choose`.

    Args: seed: of the targets and ways that it draws.
    """

    belief: Tensor
    targets: Tensor

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def begin(self, env: TrialEnv) -> None:
        env = cast(HiddenGoalEnv, env)
        self.task, self.size, boards = env.task, env.task.size, env.board_ids
        grid = torch.zeros(1, self.size, self.size, dtype=torch.bool, device=env.device)
        self._next = next_squares(grid, noop=True)[0]
        self._boards, self._t = boards, 0
        goals = goal_squares(self.size)
        if self.task.goal is not None:
            goals = torch.arange(self.size**2) == self.task.goal
        self.belief = uniform_belief(goals.to(env.device).expand(len(boards), -1))
        self.squares = env.observe().flatten(1).argmax(1)
        self.targets = torch.full_like(self.squares, NO_TARGET)

    def act(self) -> Tensor:
        self.targets = self._choose()
        width = self.size
        down, right = self.targets // width - self.squares // width, self.targets % width - self.squares % width
        options = torch.stack([down < 0, down > 0, right < 0, right > 0, (down == 0) & (right == 0)], dim=1)
        assert options.shape[1] == NOOP + 1
        return draw_square(options, self.seed, _DRAW_MOVE, self._boards, self._t)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        reached, active = self._next[self.squares, actions], result.extras["active"]
        paid = result.reward == GOAL_REWARD
        rates = {"hit_rate": self.task.hit_rate, "false_rate": self.task.false_rate}
        # a board whose trial is over learns nothing more
        after = update_goal_belief(self.belief[active], reached[active], paid[active], **rates)
        self.belief[active] = after
        self.squares = view.argmax(1)
        self.targets = torch.where(result.episode_done, NO_TARGET, self.targets)
        self._t += 1

    def _choose(self) -> Tensor:
        """The square to walk to next, (B,) int64."""
        raise NotImplementedError

    def _sample(self) -> Tensor:
        return sample_goals(self.belief, self.seed, _DRAW_TARGET, self._boards, self._t)


class SweepPlayer(GoalPlayer):
    """To the nearest of the likeliest squares, ties at random: sweeps the grid, then stays on the goal."""

    def _choose(self) -> Tensor:
        squares, width = torch.arange(self.size**2, device=self.belief.device), self.size
        rows = (squares // width - self.squares[:, None] // width).abs()
        columns = (squares % width - self.squares[:, None] % width).abs()
        distance = torch.where(likely_goals(self.belief), rows + columns, 2 * width)
        nearest = distance == distance.min(1, keepdim=True).values
        return draw_square(nearest, self.seed, _DRAW_TARGET, self._boards, self._t)


class PosteriorSamplingPlayer(GoalPlayer):
    """To a goal sampled from the belief at the start of the episode, and again whenever the sample is ruled out.

    Source: Osband et al. 2013 (PSRL); the grid world as Zintgraf et al. 2020 play it.
    """

    def _choose(self) -> Tensor:
        ruled_out = self.belief.gather(1, self.targets.clamp(min=0)[:, None]).squeeze(1) == 0
        return torch.where((self.targets == NO_TARGET) | ruled_out, self._sample(), self.targets)


class StepSamplingPlayer(GoalPlayer):
    """To a goal sampled anew from the belief at every step (Thompson sampling per step): keeps changing its mind."""

    def _choose(self) -> Tensor:
        return self._sample()


class OraclePlayer(GoalPlayer):
    """Straight to the goal, which it is told."""

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        self._goals = env.latents()["goal"]

    def _choose(self) -> Tensor:
        return self._goals


class SearchPlanPlayer(GoalPlayer):
    """Bayes-optimal without noise: walks the plan of `plan_search`, and straight to the goal once it was found.

    Raises: RecipeError (a task whose values cannot be enumerated, or not within `max_nodes`).
    """

    def __init__(self, *, seed: int = 0, max_nodes: int = MAX_NODES) -> None:
        super().__init__(seed=seed)
        self.max_nodes = max_nodes

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        walks = plan_search(self.task, max_nodes=self.max_nodes).squares
        steps = self.task.num_episodes * self.task.episode_steps
        plan = torch.full((steps,), NO_TARGET, device=self.belief.device)
        for episode, walk in enumerate(walks):
            first = episode * self.task.episode_steps
            plan[first : first + len(walk)] = torch.tensor(walk, device=plan.device)
        self._plan = plan

    def _choose(self) -> Tensor:
        top = self.belief.max(1)
        # where the walk is over but the goal was not stepped on, only one square is left
        return torch.where((top.values == 1) | (self._plan[self._t] == NO_TARGET), top.indices, self._plan[self._t])
