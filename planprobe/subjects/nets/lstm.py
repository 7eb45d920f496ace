"""A plain LSTM on the flattened board: the net that every recurrent-RL library has, so that trainers can be compared.

It is a ConvLSTM on a board of one square, and shares the cell and the taps with the DRC. Training unrolls it in one go.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from planprobe.core.protocols import State
from planprobe.subjects.nets.base import Modules, Taps
from planprobe.subjects.nets.lstm_cell import fused_cell, tapped_cell
from planprobe.subjects.nets.lstm_unroll import unroll_lstm
from planprobe.subjects.nets.vector import VectorNet

SITES = ("i", "f", "g", "c", "o", "h")


class LSTM(VectorNet):
    """`channels` units on a linear encoding of the board; memory (h, c), each (B, C, 1, 1)."""

    def __init__(
        self,
        *,
        planes: int,
        board: tuple[int, int],
        num_actions: int,
        channels: int = 128,
        head: str = "flatten",
        hidden: int = 64,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(
            planes=planes, board=board, num_actions=num_actions, channels=channels, head=head, hidden=hidden
        )
        self.drive = nn.Linear(channels, 4 * channels)
        self.recur = nn.Linear(channels, 4 * channels, bias=False)
        self.ticks = Modules([Modules([Taps(SITES)])])
        with torch.no_grad():
            self.drive.bias[channels : 2 * channels] += forget_bias

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        zeros = self.encoder.weight.new_zeros(num_boards, self.channels, 1, 1)
        return (zeros, zeros)

    def drives(self, encoding: Tensor) -> tuple[Tensor, ...]:
        return (self.drive(encoding.flatten(1))[:, :, None, None],)

    def advance(self, drives: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (drive,), (h, c), taps = drives, state, self.ticks[0][0]
        pre = torch.addmm(drive.flatten(1), h.flatten(1), self.recur.weight.t())[:, :, None, None]
        h, c = tapped_cell(pre, c, taps) if taps.tapped else fused_cell(pre, c)
        return h, (h, c)

    def _recur(self, drives: tuple[Tensor, ...], state: State, starts: Tensor) -> tuple[Tensor, State]:
        if self.ticks[0][0].tapped:
            return super()._recur(drives, state, starts)
        drive, (h, c) = drives[0].flatten(1).unflatten(0, tuple(starts.shape)), (part.flatten(1) for part in state)
        hs, h, c = unroll_lstm(drive, self.recur.weight, h, c, ~starts)
        return hs.flatten(0, 1)[:, :, None, None], (h[:, :, None, None], c[:, :, None, None])
