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
    """(features of a step, its action) -> its reward and the next observation, through one hidden layer.

    Of a board the change of its first `view_planes` is predicted, summed over squares, by the same 3x3 kernel
    everywhere: what an action does is seen where it was done, walls that stay as they are cost nothing, and an error is
    as dear on a large board as on a small one. Planes that only repeat the last action and reward are left out: a
    reward of ten, told on every square, would drown what the action did.
    """

    def __init__(self, net: Net, *, view_planes: int | None = None, hidden: int = 64) -> None:
        super().__init__()
        self.num_actions, self.ring = net.num_actions, net.ring
        self.on_squares = net.head_board == net.inner(net.board) and net.head_board != (1, 1)
        self.view_planes = net.planes if view_planes is None else view_planes
        if self.on_squares:
            channels = net.num_features // (net.head_board[0] * net.head_board[1])
            self.layers = nn.Sequential(
                nn.Conv2d(channels + net.num_actions, hidden, kernel_size=3, padding=1), nn.ReLU(),
                nn.Conv2d(hidden, 1 + self.view_planes, kernel_size=1),
            )  # fmt: skip
        else:
            observation_size = net.planes * net.board[0] * net.board[1]
            self.layers = nn.Sequential(
                nn.Linear(net.num_features + net.num_actions, hidden), nn.ReLU(),
                nn.Linear(hidden, 1 + observation_size),
            )  # fmt: skip

    def loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Squared error of the reward plus that of the next observation (of boards: of its change), meant over steps.

        features (T * B, C_f, H, W): what the head reads. What follows the end of a trial belongs to another one and is
        left out (of boards what follows the end of an episode: another level), and so is what follows the last step.
        """
        actions = F.one_hot(batch.actions.flatten(), self.num_actions).to(features.dtype)
        observations = batch.observations.to(features.dtype)
        coming = observations[1:]
        if self.on_squares:
            planes = actions[:, :, None, None].expand(-1, -1, *features.shape[-2:])
            maps = self.layers(torch.cat([features, planes], dim=1))
            reward, said = maps[:, 0].mean((1, 2)), maps[:, 1:].flatten(1)
            coming = (coming - observations[:-1])[:, :, : self.view_planes]
            height, width = coming.shape[-2:]
            coming = coming[..., self.ring : height - self.ring, self.ring : width - self.ring]
        else:
            numbers = self.layers(torch.cat([features.flatten(1), actions], dim=1))
            reward, said = numbers[:, 0], numbers[:, 1:]
        reward, said = (part.unflatten(0, batch.actions.shape) for part in (reward, said))
        follows = ~(batch.episode_done if self.on_squares else batch.trial_done)[:-1]
        squared = (said[:-1] - coming.flatten(2)).pow(2)
        errors = (squared.sum(-1) if self.on_squares else squared.mean(-1)) * follows
        return (reward - batch.rewards).pow(2).mean() + errors.sum() / follows.sum().clamp(min=1)
