"""Players of a bandit as policies: what they know stands in their memory, and is no more than it should be."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CountingPolicy(nn.Module):
    """Counts successes and failures of each arm, and acts by a policy on counts; memory (B, 2 K).

    What it is shown: 1, one-hot last action, last reward, episode end, as `TrialInputs` puts them.
    """

    def __init__(self, rule, num_arms: int = 2) -> None:
        super().__init__()
        self.rule, self.num_arms = rule, num_arms

    def initial_state(self, num_boards: int, board=None) -> tuple[Tensor, ...]:
        return (torch.zeros(num_boards, 2 * self.num_arms),)

    def step(self, observation: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        flat = observation.flatten(1)
        pulled, paid = flat[:, 1 : 1 + self.num_arms], flat[:, 1 + self.num_arms, None]
        counts = state[0] + torch.cat([pulled * paid, pulled * (1 - paid)], dim=1)
        rounded = counts.round().clamp(min=0).to(torch.int64)  # a memory that was guessed is no whole number
        chances = self.rule(rounded[:, : self.num_arms], rounded[:, self.num_arms :])
        return chances.clamp(min=1e-9).log(), torch.zeros(len(flat)), (counts,)


class LastPullPolicy(nn.Module):
    """Stays after a payment and shifts after none, and carries the pull before the last along without use."""

    def __init__(self, num_arms: int = 2) -> None:
        super().__init__()
        self.num_arms = num_arms

    def initial_state(self, num_boards: int, board=None) -> tuple[Tensor, ...]:
        return (torch.zeros(num_boards, 2 * (self.num_arms + 1)),)

    def step(self, observation: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        last = observation.flatten(1)[:, 1 : 2 + self.num_arms]
        pulled, paid = last[:, : self.num_arms], last[:, self.num_arms :]
        logits = 3 * torch.where(paid > 0.5, pulled, 1 - pulled) * (pulled.sum(1, keepdim=True) > 0)
        return logits, torch.zeros(len(last)), (torch.cat([last, state[0][:, : self.num_arms + 1]], dim=1),)


class UniformPolicy(nn.Module):
    """Acts at random; no memory."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions

    def initial_state(self, num_boards: int, board=None) -> tuple[Tensor, ...]:
        return ()

    def step(self, observation: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        return torch.zeros(len(observation), self.num_actions), torch.zeros(len(observation)), ()
