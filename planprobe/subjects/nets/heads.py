"""Heads: board features -> logits and value."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from planprobe.core.errors import RecipeError, unknown_name


class FlattenHead(nn.Module):
    """Guez et al.: flatten, one hidden layer, policy and value. One weight a square: fixed board size."""

    def __init__(self, channels: int, board: tuple[int, int], hidden: int, num_actions: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels * board[0] * board[1], hidden)
        self.policy, self.value = nn.Linear(hidden, num_actions), nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C, H, W) -> logits (N, A), value (N,)."""
        hidden = torch.relu(self.hidden(features.contiguous().flatten(1)))
        return self.policy(hidden), self.value(hidden).squeeze(-1)


class PoolHead(nn.Module):
    """Size-free: one linear read-out on every square, its maximum over the board, beside the mean of the features.

    It has no notion of where the agent is: the net must itself bring what matters to be the largest on the board.
    """

    def __init__(self, channels: int, board: tuple[int, int], hidden: int, num_actions: int) -> None:
        super().__init__()
        self.square = nn.Linear(channels, hidden)
        self.hidden = nn.Linear(hidden + channels, hidden)
        self.policy, self.value = nn.Linear(hidden, num_actions), nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C, H, W) -> logits (N, A), value (N,)."""
        squares = features.permute(0, 2, 3, 1).flatten(1, 2)  # (N, HW, C): no copy where memory is channels-last
        largest, mean = self.square(squares).amax(1), squares.mean(1)
        hidden = torch.relu(self.hidden(torch.cat([torch.relu(largest), mean], dim=1)))
        return self.policy(hidden), self.value(hidden).squeeze(-1)


HEADS = {"flatten": FlattenHead, "pool": PoolHead}


def make_head(name: str, channels: int, board: tuple[int, int], hidden: int, num_actions: int) -> nn.Module:
    """Build a head by name, with a small policy layer so that the first policy is close to uniform.

    Raises: RecipeError (no such head).
    """
    if name not in HEADS:
        raise unknown_name("head", name, HEADS, error=RecipeError)
    head = HEADS[name](channels, board, hidden, num_actions)
    nn.init.orthogonal_(head.policy.weight, 0.01)
    nn.init.zeros_(head.policy.bias)
    return head
