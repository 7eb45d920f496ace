"""The bandit with an informative arm: one arm never pays best, but what it pays tells which arm does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.trial import DRAW_TASK, TrialEnv


@dataclass(frozen=True)
class InformativeBanditTask:
    """Options of the informative bandit; every payment is certain.

    num_arms: with the informative one, which is the last. Among the others one, the target, pays `high` and the rest
    `low`. The informative arm pays a tenth of the target's number, counted from 1. num_pulls: steps of a trial.
    Raises: RecipeError (fewer than two arms besides the informative one, or no pulls).
    Source: Wang et al. 2016.
    """

    kind: ClassVar[str] = "informative-bandit"
    num_arms: int = 11
    num_pulls: int = 5
    high: float = 5.0
    low: float = 1.0

    def __post_init__(self) -> None:
        if self.num_arms < 3 or self.num_pulls < 1:
            raise RecipeError(
                f"an informative bandit needs three arms and a pull, got num_arms = {self.num_arms}, "
                f"num_pulls = {self.num_pulls}."
            )

    @property
    def num_targets(self) -> int:
        """Arms that may be the one that pays."""
        return self.num_arms - 1

    def hints(self, device: torch.device | str = "cpu") -> Tensor:
        """What the informative arm pays for each target, float32."""
        return 0.1 * torch.arange(1, self.num_arms, device=device, dtype=torch.float32)

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> InformativeBanditEnv:
        """B bandits side by side."""
        return InformativeBanditEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


class InformativeBanditEnv(TrialEnv):
    """Nothing to see: the view is a constant 1. latents: target (B,) int64, the arm that pays."""

    num_planes = 1

    def __init__(self, num_boards: int, task: InformativeBanditTask, **options) -> None:
        super().__init__(num_boards, num_episodes=1, episode_steps=task.num_pulls, **options)
        self.task, self.num_actions = task, task.num_arms
        self.hints = task.hints(self.device)
        self.target = torch.zeros(num_boards, dtype=torch.int64, device=self.device)

    def _begin_trial(self, ids: Tensor) -> None:
        self.target[ids] = draw_below(self.task.num_targets, self.seed, DRAW_TASK, ids, self.trials[ids])

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        paid = torch.where(actions == self.target, self.task.high, self.task.low)
        informative = actions == self.task.num_targets
        return torch.where(informative, self.hints[self.target], paid), torch.zeros_like(active), {}

    def _view(self) -> Tensor:
        return torch.ones(self.num_boards, 1, device=self.device)

    def latents(self) -> dict[str, Tensor]:
        return {"target": self.target.clone()}
