"""Futures: what is done from a state on, by an agent or a solver. The raw material of plan labels."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, unknown_name


@dataclass(frozen=True)
class Futures:
    """The next P >= 1 steps from each of M states; step 0 is the action taken in the state itself.

    positions (M, P + 1) int64: flat index of the agent before each action and after the last; actions (M, P) int64;
    moved, pushed (M, P) bool: the action moved the agent, or a box. A future that is over goes on with moved = False.
    known (M,) bool: false where there is no future to speak of (an unsolvable state, a solver out of budget); every
    future is known unless said otherwise.
    lengths (M,) int64: steps until the future is over, P unless said otherwise. finished (M,) bool: it then reached its
    end, and was not cut by a time limit; true unless said otherwise.
    before: the steps that led to each state, where they are known; the last one last, shorter pasts filled up in front
    with standing still.
    facts: whatever else is known of each state, by name, first axis M; see `fact`.
    """

    positions: Tensor
    actions: Tensor
    moved: Tensor
    pushed: Tensor
    known: Tensor = None  # type: ignore[assignment] - filled below, never None afterwards
    lengths: Tensor = None  # type: ignore[assignment] - filled below
    finished: Tensor = None  # type: ignore[assignment] - filled below
    before: Futures | None = None
    facts: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, device = self.actions.shape, self.actions.device
        yes = torch.ones(shape[:1], dtype=torch.bool, device=device)
        for name, default in (("known", yes), ("lengths", yes * shape[-1]), ("finished", yes)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        fits = (
            len(shape) == 2 and shape[1] >= 1 and self.moved.shape == self.pushed.shape == shape
            and self.positions.shape == (shape[0], shape[1] + 1)
            and self.known.shape == self.lengths.shape == self.finished.shape == shape[:1]
            and (self.before is None or len(self.before) == shape[0])
            and all(len(fact) == shape[0] for fact in self.facts.values())
        )  # fmt: skip
        if not fits:
            found = {name: tuple(value.shape) for name, value in [*vars(self).items(), *self.facts.items()]
                     if isinstance(value, Tensor)}  # fmt: skip
            raise ShapeError(
                "actions, moved, pushed must be (M, P), positions (M, P + 1), known, lengths, finished (M,), every fact"
                f" (M, ...), and `before` of M states; got {found}."
            )

    def __len__(self) -> int:
        return len(self.actions)

    def __getitem__(self, rows) -> Futures:
        """Select states by slice, list, mask or id tensor."""
        tensors = {part.name: getattr(self, part.name) for part in fields(self)}
        tensors = {name: value[rows] for name, value in tensors.items() if isinstance(value, Tensor)}
        before = None if self.before is None else self.before[rows]
        return replace(self, **tensors, before=before, facts={name: fact[rows] for name, fact in self.facts.items()})

    def fact(self, name: str) -> Tensor:
        """Something known of each state, (M, ...). Raises: UnknownNameError (nobody said it).

        Names in use: 'board' (M, H, W) uint8, codes as the board stands; 'rewards' (M, P) of each step; 'value' (M,)
        that the net predicts; 'distance', 'distance_before' (M,) int64, optimal steps to the goal from this state and
        the one before, -1 not known; 'psi' and 'belief' (M, ...), the latents of a trial and the posterior over them.
        """
        if name not in self.facts:
            raise unknown_name("fact", name, self.facts, where="this future")
        return self.facts[name]

    def with_facts(self, **facts: Tensor) -> Futures:
        """The same futures, and more known of each state."""
        return replace(self, facts={**self.facts, **facts})
