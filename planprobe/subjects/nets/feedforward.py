"""Memoryless twins of recurrent nets: residual convolutions for boards, plain layers for vectors; same interface."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planprobe.core.protocols import State
from planprobe.subjects.nets.base import Modules, Net, Taps
from planprobe.subjects.nets.vector import VectorNet


class ResNet(Net):
    """`num_blocks` residual blocks of two 3x3 convolutions; each block is a 'layer' with site `ticks.0.{l}.hook_h`."""

    def __init__(
        self,
        *,
        planes: int,
        board: tuple[int, int],
        num_actions: int,
        num_blocks: int = 4,
        channels: int = 32,
        head: str = "flatten",
        hidden: int = 256,
        crop_border: bool = False,
    ) -> None:
        super().__init__(
            planes=planes,
            board=board,
            num_actions=num_actions,
            head=head,
            hidden=hidden,
            feature_channels=channels,
            crop_border=crop_border,
        )
        self.num_layers, self.channels = num_blocks, channels
        self.encoder = nn.Conv2d(planes, channels, 3, padding=1 - self.ring)
        self.blocks = Modules(ResidualBlock(channels) for _ in range(num_blocks))
        self.ticks = Modules([Modules(Taps(("h",), self.ring) for _ in range(num_blocks))])

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        return ()

    def encode(self, observation: Tensor) -> Tensor:
        x = observation.to(self.encoder.weight.dtype).contiguous(memory_format=torch.channels_last)
        return F.relu(self.encoder(x))

    def advance(self, drives: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (x,) = drives
        for block, taps in zip(self.blocks, self.ticks[0], strict=True):
            x = taps("h", block(x))
        return x, state


class MLP(VectorNet):
    """`num_blocks` layers of `channels` units on the flattened observation; layer l has site `ticks.0.{l}.hook_h`."""

    def __init__(
        self,
        *,
        planes: int,
        board: tuple[int, int],
        num_actions: int,
        num_blocks: int = 2,
        channels: int = 128,
        head: str = "flatten",
        hidden: int = 64,
    ) -> None:
        super().__init__(
            planes=planes, board=board, num_actions=num_actions, channels=channels, head=head, hidden=hidden
        )
        self.num_layers = num_blocks
        self.blocks = Modules(nn.Linear(channels, channels) for _ in range(num_blocks))
        self.ticks = Modules([Modules(Taps(("h",)) for _ in range(num_blocks))])

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        return ()

    def advance(self, drives: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (x,) = drives
        for layer, taps in zip(self.blocks, self.ticks[0], strict=True):
            x = taps("h", F.relu(layer(x.flatten(1)))[:, :, None, None])
        return x, state


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), the last convolution starting at zero so that the block starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))
