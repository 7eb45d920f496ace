"""Linear functions learned in context: the supervised unit test of a trainer of agents with memory.

Every step shows a point and the value of the function at the point before; the action says the sign of the function at
the new point and is paid 1 where it is right. With exact answers at hand it tells a trainer that cannot carry
information over steps from a task that is hard to explore: here there is nothing to explore.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_normal
from planprobe.subjects.envs.trial import DRAW_STEP, DRAW_TASK, TrialEnv


@dataclass(frozen=True)
class RegressionTask:
    """Options of in-context linear functions.

    num_inputs: D; weights and points are standard normal, weights divided by sqrt(D), so that values have variance 1.
    num_steps: points of a trial. noise: standard deviation of what is added to the values that are shown.
    Action 1 says that the value at the point on show is above 0, action 0 that it is not.
    Raises: RecipeError (no inputs or steps, negative noise).
    Source: in-context linear regression after Garg et al. 2022, with the answer made an action.
    """

    kind: ClassVar[str] = "regression"
    num_inputs: int = 4
    num_steps: int = 16
    noise: float = 0.0

    def __post_init__(self) -> None:
        if min(self.num_inputs, self.num_steps) < 1 or self.noise < 0:
            raise RecipeError(
                f"regression: needs an input, a step and no negative noise, got num_inputs = {self.num_inputs}, "
                f"num_steps = {self.num_steps}, noise = {self.noise}."
            )

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> RegressionEnv:
        """B functions side by side."""
        return RegressionEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


class RegressionEnv(TrialEnv):
    """View: the point (D), and the value at the point before (0 at the first). latents: weights (B, D)."""

    num_actions = 2

    def __init__(self, num_boards: int, task: RegressionTask, **options) -> None:
        super().__init__(num_boards, num_episodes=1, episode_steps=task.num_steps, **options)
        self.task, self.num_planes = task, task.num_inputs + 1
        self.axes = torch.arange(task.num_inputs, device=self.device)
        self.weights = torch.zeros(num_boards, task.num_inputs, device=self.device)
        self.point = torch.zeros_like(self.weights)
        self.last_value = torch.zeros(num_boards, device=self.device)

    def _begin_trial(self, ids: Tensor) -> None:
        drawn = draw_normal(self.seed, DRAW_TASK, ids[:, None], self.trials[ids, None], self.axes)
        self.weights[ids] = drawn / self.task.num_inputs**0.5
        self.last_value[ids] = 0
        self.point[ids] = draw_normal(self.seed, DRAW_TASK, ids[:, None], self.trials[ids, None], -1 - self.axes)

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        value = (self.weights * self.point).sum(1)
        right = (value > 0) == (actions == 1)
        counters = (self.board_ids, self.trials, self.elapsed)
        shown = value + self.task.noise * draw_normal(self.seed, DRAW_STEP, *counters, -1)
        self.last_value = torch.where(active, shown, self.last_value)
        following = draw_normal(self.seed, DRAW_STEP, *(c[:, None] for c in counters), self.axes)
        self.point = torch.where(active[:, None], following, self.point)
        return right.to(torch.float32), torch.zeros_like(active), {"value": value}

    def _view(self) -> Tensor:
        return torch.cat([self.point, self.last_value[:, None]], dim=1)

    def latents(self) -> dict[str, Tensor]:
        return {"weights": self.weights.clone()}
