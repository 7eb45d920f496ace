"""What the nets that read an observation as one vector share: the encoder, and features on a board of one square."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from planprobe.subjects.nets.base import Net


class VectorNet(Net):
    """`channels` features C of the whole observation, (B, C, 1, 1); one weight a square, so boards have one size."""

    def __init__(
        self, *, planes: int, board: tuple[int, int], num_actions: int, channels: int, head: str, hidden: int
    ) -> None:
        super().__init__(
            planes=planes, board=board, num_actions=num_actions, head=head, hidden=hidden, feature_channels=channels,
            head_board=(1, 1),
        )  # fmt: skip
        self.channels, self.size_free = channels, False
        self.encoder = nn.Linear(planes * board[0] * board[1], channels)

    def embed(self, observation: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C), linear."""
        return self.encoder(observation.flatten(1).to(self.encoder.weight.dtype))

    def encode(self, observation: Tensor) -> Tensor:
        return F.relu(self.embed(observation))[:, :, None, None]
