"""The exact filter of the two-step task: which state pays, and which way the transitions are."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.subjects.envs.two_step import NUM_COMBINATIONS, TwoStepTask


class TwoStepBelief:
    """Chance of each combination good state + 2 * swapped, (B, 4) float64 in `chances`, before the next round."""

    def __init__(self, task: TwoStepTask) -> None:
        self.task, self.start, self.drift = task, task.start(), task.drift()
        combinations = torch.arange(NUM_COMBINATIONS)
        self.good, self.swapped = combinations & 1, combinations >> 1

    def begin(self, num_boards: int) -> None:
        self.chances = self.start.expand(num_boards, -1).clone()

    def see_map(self, swapped: Tensor) -> None:
        """Be told which way the transitions are, (B,) int64: where the task shows its map."""
        self._weigh((self.swapped == swapped[:, None]).to(torch.float64))

    def see_round(self, choices: Tensor, states: Tensor, rewards: Tensor) -> None:
        """Take in one round, each (B,), and what may change after it."""
        task = self.task
        commonly = (choices[:, None] ^ self.swapped) == states[:, None]
        pays = torch.where(states[:, None] == self.good, task.rich, 1 - task.rich)
        paid = (rewards > 0)[:, None]
        self._weigh(torch.where(commonly, task.common, 1 - task.common) * torch.where(paid, pays, 1 - pays))
        self.chances = self.chances @ self.drift

    def chance_good(self) -> Tensor:
        """P(state 1 pays), (B,) float64."""
        return self.chances @ self.good.to(torch.float64)

    def chance_swapped(self) -> Tensor:
        """P(transitions are swapped), (B,) float64."""
        return self.chances @ self.swapped.to(torch.float64)

    def chance_best(self) -> Tensor:
        """P(choice a leads commonly to the state that pays) for both choices, (B, 2) float64."""
        second = self.chances @ (self.good ^ self.swapped).to(torch.float64)
        return torch.stack([1 - second, second], dim=1)

    def _weigh(self, likelihood: Tensor) -> None:
        weighed = self.chances * likelihood
        self.chances = weighed / weighed.sum(1, keepdim=True)
