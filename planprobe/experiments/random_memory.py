"""A random initial memory, taken literally: drawn per trial, shown to nobody, and where the net's memory begins.

The environment hands the draw over in further planes, on the first step of a trial alone; the net adds them to its
empty memory before it does anything else. So acting, training and playing back see the same draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.protocols import State
from planprobe.core.rng import draw_normal
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs
from planprobe.subjects.nets.gru import GRU

_DRAW_MEMORY = 301


class NoisyStart(TrialInputs):
    """Inputs with the initial memory behind them, (B, F + channels, 1, 1): drawn from tanh of a normal, or zero.

    random: whether it is drawn; otherwise it is zero, and the net the same.
    """

    def __init__(self, env: TrialEnv, inputs: Inputs, *, channels: int, random: bool) -> None:
        super().__init__(env, inputs)
        self.channels, self.random = channels, random
        self.num_planes += channels

    def _assemble(self, view: Tensor) -> Tensor:
        seen = super()._assemble(view)
        memory = seen.new_zeros(len(seen), self.channels, 1, 1)
        first = (self.steps == 0).nonzero().squeeze(1)
        if self.random and len(first):
            units = torch.arange(self.channels, device=seen.device)
            drawn = draw_normal(self.env.seed, _DRAW_MEMORY, first[:, None], self.env.trials[first, None], units)
            memory[first] = drawn.tanh()[:, :, None, None]
        return torch.cat([seen, memory], dim=1)


class StartedGRU(GRU):
    """A GRU whose memory begins at the last `channels` planes of its first observation; arguments of `GRU`."""

    def __init__(self, *, planes: int, channels: int, **options) -> None:
        super().__init__(planes=planes - channels, channels=channels, **options)
        self.planes = planes

    def encode(self, observation: Tensor) -> Tensor:
        seen, memory = observation[:, : -self.channels], observation[:, -self.channels :]
        return torch.cat([super().encode(seen), memory.to(self.encoder.weight.dtype)], dim=1)

    def drives(self, encoding: Tensor) -> tuple[Tensor, ...]:
        return (*super().drives(encoding[:, : self.channels]), encoding[:, self.channels :])

    def advance(self, drives: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        drive, memory = drives
        return super().advance((drive,), (state[0] + memory,))
