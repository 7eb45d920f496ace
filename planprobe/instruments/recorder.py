"""Record one site over the steps of a run, at the cost of one copy a step."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import CaptureError

CAPACITIES = {"cpu": (1, 128), "other": (1, 16)}
"""Room for so many steps, first and then; doubled after that. Many captures hold a single step, and on a CPU room that
is never written to costs nothing."""


class Recorder:
    """Copies values (B, ...) into one buffer that grows, in the memory layout they have.

    A reference instead of a copy would be wrong as soon as a net works in place.
    """

    def __init__(self, site: str, dtype: torch.dtype) -> None:
        self.site, self.dtype = site, dtype
        self._steps: list[int] = []
        self._last_step = -1
        self._shape: torch.Size | None = None
        self._buffer = torch.empty(0)

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(self._steps)

    def add(self, value: Tensor, step: int) -> None:
        """Raises: CaptureError (a second run, or another number of boards)."""
        count = len(self._steps)
        if self._shape is None:
            self._shape = value.shape
            self._buffer = self._room(self._capacities(value)[0], value)
        elif value.shape != self._shape or step <= self._last_step:
            raise CaptureError(
                f"step {step} of '{self.site}' with shape {tuple(value.shape)} follows step {self._last_step} with "
                f"{tuple(self._shape)}: a capture holds one run. Open one `with capture(...)` a run."
            )
        elif count == len(self._buffer):
            grown = self._room(max(2 * count, self._capacities(value)[1]), value)
            grown[:count] = self._buffer
            self._buffer = grown
        self._buffer[count] = value.detach() if value.requires_grad else value
        self._steps.append(step)
        self._last_step = step

    def finish(self) -> Tensor:
        """(B, T, ...), a view of time-first storage."""
        return self._buffer[: len(self._steps)].transpose(0, 1) if self._steps else self._buffer

    @staticmethod
    def _capacities(value: Tensor) -> tuple[int, int]:
        return CAPACITIES["cpu" if value.device.type == "cpu" else "other"]

    def _room(self, num_steps: int, value: Tensor) -> Tensor:
        """Empty (num_steps, *value.shape), laid out like the value where that is channels-last."""
        if value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last):
            boards, channels, height, width = value.shape
            room = _empty((num_steps, boards, height, width, channels), self.dtype, value.device)
            return room.permute(0, 1, 4, 2, 3)
        return _empty((num_steps, *value.shape), self.dtype, value.device)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """On a CPU the memory is NumPy's, which asks for huge pages: a first write to small ones costs 4 times the copy."""
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)
