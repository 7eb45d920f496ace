"""Exact posteriors of the bandits' hidden means, updated from actions and rewards alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from scipy.special import betainc
from torch import Tensor

from planprobe.subjects.envs.bandit import CORRELATED_MEANS, BanditTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.references.bandit_policies import thompson_policy
from planprobe.subjects.references.bandit_values import posterior_mean

HALF = 0.5


class BanditBelief(Protocol):
    """What B boards know about their arms."""

    def begin(self, num_boards: int) -> None:
        """Back to the prior."""
        ...

    def see(self, actions: Tensor, rewards: Tensor) -> None:
        """Take in one pull on every board: actions (B,) int64, rewards (B,)."""
        ...

    def mean(self) -> Tensor:
        """Expected payment of each arm at the next pull, (B, K) float64."""
        ...

    def chance_best(self) -> Tensor:
        """Posterior chance that each arm pays best at the next pull, (B, K) float64."""
        ...


class BetaBelief:
    """Independent arms: Beta(1 + successes, 1 + failures), both (B, K) int64."""

    def __init__(self, task: BanditTask) -> None:
        self.num_arms = task.num_arms

    def begin(self, num_boards: int) -> None:
        self.successes = torch.zeros(num_boards, self.num_arms, dtype=torch.int64)
        self.failures = torch.zeros_like(self.successes)

    def see(self, actions: Tensor, rewards: Tensor) -> None:
        paid = rewards.to(torch.int64)[:, None]
        self.successes = self.successes.scatter_add(1, actions[:, None], paid)
        self.failures = self.failures.scatter_add(1, actions[:, None], 1 - paid)

    def mean(self) -> Tensor:
        return posterior_mean(self.successes, self.failures)

    def chance_best(self) -> Tensor:
        return thompson_policy(self.successes, self.failures)


class CorrelatedBelief(BetaBelief):
    """Two arms that pay with p and 1 - p, so that a pull of either tells about both.

    Uniform p: Beta(1 + evidence for arm 0, 1 + evidence against). A preset: two values of p.
    """

    def __init__(self, task: BanditTask) -> None:
        super().__init__(task)
        self.preset = task.preset

    def evidence(self) -> tuple[Tensor, Tensor]:
        """Pulls that speak for arm 0 (it paid, or the other did not) and against, (B,) int64."""
        in_favour = self.successes[:, 0] + self.failures[:, 1]
        return in_favour, (self.successes + self.failures).sum(1) - in_favour

    def mean(self) -> Tensor:
        in_favour, against = self.evidence()
        if self.preset == "uniform":
            first = posterior_mean(in_favour, against)
        else:
            low, high = CORRELATED_MEANS[self.preset]
            first = low + (high - low) * self.chance_best()[:, 0]
        return torch.stack([first, 1 - first], dim=1)

    def chance_best(self) -> Tensor:
        in_favour, against = self.evidence()
        if self.preset == "uniform":
            first = torch.from_numpy(betainc((1 + against).numpy(), (1 + in_favour).numpy(), HALF))  # P(p > 1/2)
        else:
            low, high = CORRELATED_MEANS[self.preset]
            first = torch.sigmoid((in_favour - against).to(torch.float64) * np.log(high / low))
        return torch.stack([first, 1 - first], dim=1)


class RestlessBelief:
    """Wandering arms: the chance of each level of each arm, (B, K, L) float64 in `levels`, by forward filtering."""

    def __init__(self, task: BanditTask) -> None:
        self.num_arms, self.num_levels = task.num_arms, task.num_levels
        self.values = torch.linspace(0, 1, task.num_levels, dtype=torch.float64)
        self.walk = walk_matrix(task)

    def begin(self, num_boards: int) -> None:
        self.levels = torch.full((num_boards, self.num_arms, self.num_levels), 1 / self.num_levels, dtype=torch.float64)

    def see(self, actions: Tensor, rewards: Tensor) -> None:
        boards = torch.arange(len(actions))
        paid = (rewards > HALF)[:, None]
        pulled = self.levels[boards, actions] * torch.where(paid, self.values, 1 - self.values)
        levels = self.levels.clone()
        levels[boards, actions] = pulled / pulled.sum(1, keepdim=True)
        self.levels = levels @ self.walk

    def mean(self) -> Tensor:
        return self.levels @ self.values

    def chance_best(self) -> Tensor:
        """Arms on the same level share: each mean counts as spread evenly over a bin, and the integral is exact."""
        nodes, weights = np.polynomial.legendre.leggauss(self.num_arms // 2 + 1)
        inside = torch.from_numpy((nodes + 1) / 2)
        below = self.levels.cumsum(2) - self.levels
        reach = below[..., None] + self.levels[..., None] * inside  # (B, K, L, node)
        chances = []
        for k in range(self.num_arms):
            others = reach[:, [j for j in range(self.num_arms) if j != k]].prod(1)
            chances.append((self.levels[:, k] * (others @ torch.from_numpy(weights / 2))).sum(1))
        return torch.stack(chances, dim=1)


class InformativeBelief:
    """Which arms may still be the target: (B, num_targets) bool in `candidates`, all equally likely."""

    def __init__(self, task: InformativeBanditTask) -> None:
        self.task = task

    def begin(self, num_boards: int) -> None:
        self.candidates = torch.ones(num_boards, self.task.num_targets, dtype=torch.bool)

    def see(self, actions: Tensor, rewards: Tensor) -> None:
        targets = torch.arange(self.task.num_targets)
        informative = (actions == self.task.num_targets)[:, None]
        pulled = targets == actions[:, None]
        told = (self.task.hints() - rewards[:, None]).abs() < 0.01
        agrees = torch.where((rewards == self.task.high)[:, None], pulled, ~pulled)
        self.candidates = self.candidates & torch.where(informative, told, agrees)

    def mean(self) -> Tensor:
        chance = self.chance_best()
        payments = self.task.low + (self.task.high - self.task.low) * chance[:, :-1]
        hint = chance[:, :-1] @ self.task.hints().to(torch.float64)
        return torch.cat([payments, hint[:, None]], dim=1)

    def chance_best(self) -> Tensor:
        """The last column, the informative arm's, is 0: it is never the best to pull once all is known."""
        likely = self.candidates.to(torch.float64)
        return torch.cat([likely / likely.sum(1, keepdim=True), torch.zeros(len(likely), 1)], dim=1)


def walk_matrix(task: BanditTask) -> Tensor:
    """Chance that a mean on level i is on j after a pull, (L, L) float64; a step off either end is taken back."""
    top = task.num_levels - 1
    chances = (1 - 2 * task.walk) * torch.eye(task.num_levels, dtype=torch.float64)
    for level in range(task.num_levels):
        for after in (level - 1, level + 1):
            chances[level, top - abs(top - abs(after))] += task.walk
    return chances


def make_bandit_belief(task: BanditTask | InformativeBanditTask) -> BanditBelief:
    """The exact belief of a bandit task."""
    if isinstance(task, InformativeBanditTask):
        return InformativeBelief(task)
    beliefs = {"independent": BetaBelief, "correlated": CorrelatedBelief, "restless": RestlessBelief}
    return beliefs[task.structure](task)
