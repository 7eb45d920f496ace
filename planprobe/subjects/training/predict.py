"""Predict what an action brings: a task beside the task, for memory that reward alone is slow to shape.

Plain RL² is known to get stuck where the step that would tell pays nothing: what it tells is never kept, so nothing is
gained by taking it. A head that must say the next reward and observation from memory and action gives the gradient that
is missing. It belongs to the trainer: the agent's weights do not hold it, and with weight 0 it does not exist.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planprobe.subjects.nets.base import Net
from planprobe.subjects.training.collect import Batch


class Predictor(nn.Module):
    """(features of a step, its action) -> its reward and the next observation, through one hidden layer."""

    def __init__(self, net: Net, *, hidden: int = 64) -> None:
        super().__init__()
        self.num_actions = net.num_actions
        observation_size = net.planes * net.board[0] * net.board[1]
        self.layers = nn.Sequential(
            nn.Linear(net.num_features + net.num_actions, hidden), nn.ReLU(), nn.Linear(hidden, 1 + observation_size)
        )

    def loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of the reward plus that of the next observation.

        features (T * B, C_f, H, W): what the head reads. What follows the end of a trial belongs to another one and is
        left out, and so is what follows the last step.
        """
        actions = F.one_hot(batch.actions.flatten(), self.num_actions).to(features.dtype)
        said = self.layers(torch.cat([features.flatten(1), actions], dim=1)).unflatten(0, batch.actions.shape)
        reward_error = (said[..., 0] - batch.rewards).pow(2).mean()
        follows = ~batch.trial_done[:-1]
        coming = batch.observations[1:].flatten(2).to(said.dtype)
        errors = (said[:-1, :, 1:] - coming).pow(2).mean(-1) * follows
        return reward_error + errors.sum() / follows.sum().clamp(min=1)
