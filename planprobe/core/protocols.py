"""What a task and a policy must offer. Anything that follows these can be trained, probed and judged.

One call of `Policy.step` is one environment step with all its ticks. Memory is a pytree-free tuple of tensors whose
first axis is B, so that one board's memory can be cut out, reset or transplanted without knowing the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class StepResult:
    """What one step of B boards gives back; every tensor is fresh, never a reused buffer.

    observation: (B, C, H, W) uint8, or float32 in tasks with trials. reward: (B,) float32. episode_done, trial_done:
    (B,) bool; in tasks without trials the two are equal. solved: (B,) bool, true only on the step that solves.
    truncated: (B,) bool, the time limit cut the episode; never together with solved. With autoreset the observation
    already belongs to the next episode.
    """

    observation: Tensor
    reward: Tensor
    episode_done: Tensor
    trial_done: Tensor
    solved: Tensor
    truncated: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Env(Protocol):
    """B boards stepped together on one device."""

    num_boards: int
    num_planes: int
    num_actions: int
    height: int
    width: int

    def reset(self, level_ids: Tensor | None = None) -> Tensor:
        """Start an episode on every board; observation (B, C, H, W) uint8."""
        ...

    def step(self, actions: Tensor) -> StepResult:
        """Apply one action (B,) int64 a board."""
        ...


@runtime_checkable
class HasPlayers(Protocol):
    """An environment whose agent stands on one square a board. players: (B,) int64, flat squares."""

    players: Tensor


@runtime_checkable
class Policy(Protocol):
    """A recurrent policy; a memoryless one has an empty state tuple."""

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        """Memory at the start of a trial: tensors (B, ...); `board` (H, W) matters to size-free board nets only."""
        ...

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One environment step: logits (B, A), value (B,), new memory."""
        ...
