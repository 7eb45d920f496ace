"""Record one site over the steps of a run, at the cost of one copy a step."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import CaptureError

CHUNK_STEPS, CHUNK_BYTES = 16, 16 << 20
"""At most so much memory is taken at a time. Smaller blocks are handed out again by the allocator; bigger ones come
fresh from the system, and the first touch costs several times the copy (15-25 against 3.5 ms for 30 MB, measured)."""


class Recorder:
    """Copies values (B, ...) into chunks, in the memory layout they have.

    A reference instead of a copy would be wrong as soon as a net works in place.
    """

    def __init__(self, site: str, dtype: torch.dtype) -> None:
        self.site, self.dtype = site, dtype
        self._steps: list[int] = []
        self._last_step = -1
        self._shape: torch.Size | None = None
        self._chunks: list[Tensor] = []
        self._chunk_steps = 1

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(self._steps)

    def add(self, value: Tensor, step: int) -> None:
        """Raises: CaptureError (a second run, or another number of boards)."""
        if self._shape is None:
            self._shape = value.shape
            step_bytes = value.numel() * self.dtype.itemsize
            self._chunk_steps = min(CHUNK_STEPS, max(1, CHUNK_BYTES // max(1, step_bytes)))
        elif value.shape != self._shape or step <= self._last_step:
            raise CaptureError(
                f"step {step} of '{self.site}' with shape {tuple(value.shape)} follows step {self._last_step} with "
                f"{tuple(self._shape)}: a capture holds one run. Open one `with capture(...)` a run."
            )
        place = len(self._steps) % self._chunk_steps
        if place == 0:
            self._chunks.append(self._empty_chunk(value))
        self._chunks[-1][place] = value.detach() if value.requires_grad else value
        self._steps.append(step)
        self._last_step = step

    def finish(self) -> list[Tensor]:
        """Chunks (B, T', ...) of consecutive steps, views of time-first storage."""
        if self._chunks:
            self._chunks[-1] = self._chunks[-1][: (len(self._steps) - 1) % self._chunk_steps + 1]
        return [chunk.transpose(0, 1) for chunk in self._chunks]

    def _empty_chunk(self, value: Tensor) -> Tensor:
        """Empty (T', *value.shape), laid out like the value where that is channels-last."""
        if value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last):
            boards, channels, height, width = value.shape
            chunk = value.new_empty((self._chunk_steps, boards, height, width, channels), dtype=self.dtype)
            return chunk.permute(0, 1, 4, 2, 3)
        return value.new_empty((self._chunk_steps, *value.shape), dtype=self.dtype)
