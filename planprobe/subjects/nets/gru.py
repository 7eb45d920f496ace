"""A GRU on the flattened observation: the net of RL² (Duan et al. 2016).

    r, z = sigmoid(drive + recur(h));  n = tanh(drive + r * recur(h));  h' = (1 - z) * n + z * h

There is one cell, tapped: with four taps it costs training nothing that could be measured.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from planprobe.core.protocols import State
from planprobe.subjects.nets.base import Modules, Taps
from planprobe.subjects.nets.vector import VectorNet

SITES = ("r", "z", "n", "h")


class GRU(VectorNet):
    """`channels` units on a linear encoding of the observation; memory (h,), (B, C, 1, 1).

    Sites `ticks.0.0.hook_{r,z,n,h}`: reset gate, update gate (how much of h stays), candidate, memory.
    """

    def __init__(
        self,
        *,
        planes: int,
        board: tuple[int, int],
        num_actions: int,
        channels: int = 128,
        head: str = "flatten",
        hidden: int = 64,
    ) -> None:
        super().__init__(
            planes=planes, board=board, num_actions=num_actions, channels=channels, head=head, hidden=hidden
        )
        self.drive = nn.Linear(channels, 3 * channels)
        self.recur = nn.Linear(channels, 3 * channels)
        for gate in self.recur.weight.chunk(3):
            nn.init.orthogonal_(gate)
        self.ticks = Modules([Modules([Taps(SITES)])])

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        return (self.encoder.weight.new_zeros(num_boards, self.channels, 1, 1),)

    def drives(self, encoding: Tensor) -> tuple[Tensor, ...]:
        return (self.drive(encoding.flatten(1))[:, :, None, None],)

    def advance(self, drives: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (drive,), (h,), taps = drives, state, self.ticks[0][0]
        drive_r, drive_z, drive_n = drive.chunk(3, dim=1)
        recur_r, recur_z, recur_n = self.recur(h.flatten(1))[:, :, None, None].chunk(3, dim=1)
        r = taps("r", torch.sigmoid(drive_r + recur_r))
        z = taps("z", torch.sigmoid(drive_z + recur_z))
        n = taps("n", torch.tanh(drive_n + r * recur_n))
        h = taps("h", n + z * (h - n))
        return h, (h,)
