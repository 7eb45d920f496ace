"""The exact posterior of a linear function learned in context, and the player that answers with it."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.regression import RegressionTask
from planprobe.subjects.envs.trial import TrialEnv

NO_NOISE = 1e-4  # variance that stands for none, so that the precision stays finite


class RegressionBelief:
    """Normal posterior of the weights: precision (B, D, D) and precision times mean, `evidence` (B, D), float64."""

    def __init__(self, task: RegressionTask) -> None:
        self.num_inputs, self.variance = task.num_inputs, max(task.noise**2, NO_NOISE)

    def begin(self, num_boards: int) -> None:
        prior = self.num_inputs * torch.eye(self.num_inputs, dtype=torch.float64)
        self.precision = prior.repeat(num_boards, 1, 1)
        self.evidence = torch.zeros(num_boards, self.num_inputs, dtype=torch.float64)

    def see(self, points: Tensor, values: Tensor) -> None:
        """Take in the value shown for one point a board: (B, D) and (B,)."""
        points, values = points.to(torch.float64), values.to(torch.float64)
        self.precision = self.precision + points[:, :, None] * points[:, None, :] / self.variance
        self.evidence = self.evidence + points * values[:, None] / self.variance

    def mean(self) -> Tensor:
        """Posterior mean of the weights, (B, D)."""
        return torch.linalg.solve(self.precision, self.evidence)

    def chance_positive(self, points: Tensor) -> Tensor:
        """P(the function is above 0 at a point), (B,)."""
        points = points.to(torch.float64)
        spread = (points * torch.linalg.solve(self.precision, points)).sum(1).sqrt()
        return torch.special.ndtr((points * self.mean()).sum(1) / spread)


class RegressionBayesPlayer:
    """Says the more likely sign: nobody does better."""

    def begin(self, env: TrialEnv) -> None:
        self.belief = RegressionBelief(env.task)
        self.belief.begin(env.num_boards)
        self.points = env.observe().flatten(1)[:, :-1]

    def act(self) -> Tensor:
        return (self.belief.chance_positive(self.points) > 0.5).to(torch.int64)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        if not bool(result.trial_done.any()):
            self.belief.see(self.points, view[:, -1])
        self.points = view[:, :-1]
