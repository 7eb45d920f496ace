"""DRC(D, N): a stack of D ConvLSTM layers ticked N times an environment step (Guez et al. 2019).

One step: the observation is encoded once; on each tick, layer d reads the encoding, the layer below (layer 0: the top
layer of the previous tick, the top-down skip), its own h, and what pool-and-inject tells it about the whole board. The
head reads [encoding, top h]. Without pool-and-inject information moves one square a layer and tick, D x N a step.

For D = 1 the top-down skip *is* the layer's own h, so the two share one convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planprobe.core.grid import board_size
from planprobe.core.protocols import State
from planprobe.subjects.nets.base import Modules, Net, Taps
from planprobe.subjects.nets.deferred_conv import DeferredConv2d
from planprobe.subjects.nets.lstm_cell import fused_cell, tapped_cell

SITES = ("input", "pool", "i", "f", "g", "c", "o", "h")


class DRC(Net):
    """DRC with `num_layers` D and `num_ticks` N; other arguments of `Net`.

    pool_and_inject: mean and maximum of each channel over the board, mixed linearly, as a constant plane.
    boundary: a fixed plane that marks the border squares, beside the observation.
    forget_bias: added to the forget gate's bias at initialisation.
    Memory: (h_0, c_0, h_1, c_1, ...), each (B, C, H, W), less the outer ring with `crop_border`.
    """

    def __init__(
        self,
        *,
        planes: int,
        board: tuple[int, int],
        num_actions: int,
        num_layers: int = 3,
        num_ticks: int = 3,
        channels: int = 32,
        pool_and_inject: bool = True,
        boundary: bool = False,
        head: str = "flatten",
        hidden: int = 256,
        forget_bias: float = 1.0,
        crop_border: bool = False,
    ) -> None:
        super().__init__(
            planes=planes,
            board=board,
            num_actions=num_actions,
            head=head,
            hidden=hidden,
            feature_channels=2 * channels,
            crop_border=crop_border,
        )
        self.num_layers, self.num_ticks, self.channels = num_layers, num_ticks, channels
        self.boundary = boundary
        self.encoder = nn.Conv2d(planes + int(boundary), channels, 3, padding=1 - self.ring)
        self.layers = Modules(
            DRCLayer(channels, reads_below=num_layers > 1, pool=pool_and_inject, forget_bias=forget_bias)
            for _ in range(num_layers)
        )
        self.ticks = self._make_taps(num_ticks)

    def _make_taps(self, num_ticks: int) -> Modules[Modules[Taps]]:
        sites = SITES if self.layers[0].inject is not None else tuple(s for s in SITES if s != "pool")
        return Modules(Modules(Taps(sites, self.ring) for _ in self.layers) for _ in range(num_ticks))

    def set_num_ticks(self, num_ticks: int) -> None:
        """Tick more or less often a step than in training; taps are made anew, so do it before hooks are added."""
        self.num_ticks, self.ticks = num_ticks, self._make_taps(num_ticks)

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        shape = (num_boards, self.channels, *self.inner(board))
        weight = self.encoder.weight
        zeros = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        zeros = zeros.contiguous(memory_format=torch.channels_last)
        return (zeros,) * (2 * self.num_layers)

    def encode(self, observation: Tensor) -> Tensor:
        x = observation.to(self.encoder.weight.dtype)
        if self.boundary:
            x = torch.cat([x, _border(x)], dim=1)
        return F.relu(self.encoder(x.contiguous(memory_format=torch.channels_last)))

    def begin_unroll(self, board: tuple[int, int]) -> None:
        for layer in self.layers:
            layer.begin(board)

    def end_unroll(self) -> None:
        for layer in self.layers:
            layer.end()

    def drives(self, encoding: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer.drive(encoding) for layer in self.layers)

    def advance(self, drives: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        hidden, cells = list(state[0::2]), list(state[1::2])
        for tick in range(self.num_ticks):
            below = hidden[-1]
            for number, layer in enumerate(self.layers):
                taps = self.ticks[tick][number]
                hidden[number], cells[number] = layer(drives[number], below, hidden[number], cells[number], taps)
                below = hidden[number]
        return hidden[-1], tuple(part for pair in zip(hidden, cells, strict=True) for part in pair)

    def join(self, encoding: Tensor, top: Tensor) -> Tensor:
        squares = torch.cat([encoding.permute(0, 2, 3, 1), top.permute(0, 2, 3, 1)], dim=-1)
        return squares.permute(0, 3, 1, 2)


class DRCLayer(nn.Module):
    """One ConvLSTM layer: gates from encoding, below, own h and the pooled board, all through 3x3 convolutions."""

    def __init__(self, channels: int, *, reads_below: bool, pool: bool, forget_bias: float) -> None:
        super().__init__()
        self.reads_below = reads_below
        self.drive = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.recur = DeferredConv2d((2 if reads_below else 1) * channels, 4 * channels)
        self.inject = nn.Linear(2 * channels, channels) if pool else None
        self._pattern: Tensor | None = None
        self.inject_kernel = nn.Parameter(torch.empty(4 * channels, channels, 3, 3)) if pool else None
        for kernel in (self.drive.weight, self.recur.weight, self.inject_kernel):
            if kernel is not None:
                nn.init.normal_(kernel, std=(9 * channels * (3 if reads_below else 2)) ** -0.5)
        assert self.drive.bias is not None
        with torch.no_grad():
            self.drive.bias.zero_()
            self.drive.bias[channels : 2 * channels] = forget_bias

    def forward(self, drive: Tensor, below: Tensor, h: Tensor, c: Tensor, taps: Taps) -> tuple[Tensor, Tensor]:
        """New (h, c) from the encoding's drive (B, 4C, H, W), the layer below and its own (B, C, H, W) memory."""
        below = taps("input", below)
        reads = torch.cat([below, h], dim=1) if self.reads_below else below
        pre = self.recur(reads) + drive
        if self.inject is not None:
            pre = pre + self._pooled(h, taps)
        return tapped_cell(pre, c, taps) if taps.tapped else fused_cell(pre, c)

    def begin(self, board: tuple[int, int]) -> None:
        """Do once an unroll what only depends on weights."""
        self.recur.begin()
        self._pattern = self._inject_pattern(board) if self.inject is not None else None

    def end(self) -> None:
        self.recur.end()
        self._pattern = None

    def _pooled(self, h: Tensor, taps: Taps) -> Tensor:
        """The 3x3 convolution of a plane that is constant over the board, without convolving B boards.

        For p (B, C) spread over H x W the result is a fixed pattern (edges see fewer taps) weighted by p.
        """
        assert self.inject is not None
        squares = h.permute(0, 2, 3, 1).flatten(1, 2)
        pooled = taps("pool", self.inject(torch.cat([squares.mean(1), squares.amax(1)], dim=1)))
        pattern = self._pattern if self._pattern is not None else self._inject_pattern(board_size(h))
        return (pooled @ pattern).view(len(h), *h.shape[-2:], -1).permute(0, 3, 1, 2)

    def _inject_pattern(self, board: tuple[int, int]) -> Tensor:
        """What a unit of each channel, constant over the board, adds to each gate: (C, HW * 4C), channels last."""
        assert self.inject_kernel is not None
        out_channels, channels = self.inject_kernel.shape[:2]
        ones = self.inject_kernel.new_ones(1, 1, *board)
        pattern = F.conv2d(ones, self.inject_kernel.flatten(0, 1)[:, None], padding=1)[0]
        return pattern.view(out_channels, channels, -1).permute(1, 2, 0).flatten(1)


def _border(x: Tensor) -> Tensor:
    plane = torch.ones_like(x[:, :1])
    plane[..., 1:-1, 1:-1] = 0
    return plane
