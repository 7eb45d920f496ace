"""Futures: what is done from a state on, by an agent or a solver. The raw material of plan labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError


@dataclass(frozen=True)
class Futures:
    """The next P >= 1 steps from each of M states; step 0 is the action taken in the state itself.

    positions (M, P + 1) int64: flat index of the agent before each action and after the last; actions (M, P) int64;
    moved, pushed (M, P) bool: the action moved the agent, or a box. A future that is over goes on with moved = False.
    known (M,) bool: false where there is no future to speak of (an unsolvable state, a solver out of budget); every
    future is known unless said otherwise.
    """

    positions: Tensor
    actions: Tensor
    moved: Tensor
    pushed: Tensor
    known: Tensor = None  # type: ignore[assignment] - filled below, never None afterwards

    def __post_init__(self) -> None:
        shape = self.actions.shape
        if self.known is None:
            object.__setattr__(self, "known", torch.ones(shape[:1], dtype=torch.bool, device=self.actions.device))
        fits = (
            len(shape) == 2 and shape[1] >= 1 and self.moved.shape == self.pushed.shape == shape
            and self.positions.shape == (shape[0], shape[1] + 1) and self.known.shape == shape[:1]
        )  # fmt: skip
        if not fits:
            found = {name: tuple(value.shape) for name, value in vars(self).items()}
            raise ShapeError(f"actions, moved, pushed must be (M, P), positions (M, P + 1), known (M,); got {found}.")

    def __len__(self) -> int:
        return len(self.actions)

    def __getitem__(self, rows) -> Futures:
        """Select states by slice, list, mask or id tensor."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items()})
