"""What every net shares: taps, the step, and the unroll over time that training uses.

A net defines `encode` (observation -> features, no memory), `advance` (one step's ticks) and a head. `step` and
`unroll` are the same three calls, once or over T steps; encoder and head run over all steps at once, so only the
recurrence is a loop. Taps are `nn.Identity` until an instrument opens the net and puts TransformerLens' HookPoints in
their place, so training never imports TransformerLens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planprobe.core.errors import BoardSizeError, ShapeError
from planprobe.core.grid import board_size
from planprobe.core.protocols import State
from planprobe.subjects.nets.deferred_conv import cat_boards
from planprobe.subjects.nets.heads import make_head

M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """A list of modules that says of what kind they are."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M]) -> None: ...
        def __getitem__(self, index: int) -> M: ...
        def __iter__(self) -> Iterator[M]: ...


class Net(nn.Module):
    """Base of board nets. Follows `core.protocols.Policy`.

    Args: planes C_in of the observation; board (H, W); num_actions A; head and its hidden units: see `nets.heads`;
    feature_channels C_f and head_board, of what the head reads (default: the board); crop_border: compute on the
    squares inside the outer wall alone.
    """

    num_ticks = 1
    num_layers = 1
    size_free: bool

    def __init__(
        self,
        *,
        planes: int,
        board: tuple[int, int],
        num_actions: int,
        head: str,
        hidden: int,
        feature_channels: int,
        head_board: tuple[int, int] | None = None,
        crop_border: bool = False,
    ) -> None:
        super().__init__()
        self.planes, self.board, self.num_actions = planes, (board[0], board[1]), num_actions
        self.ring = int(crop_border)
        self.head_board = head_board or self.inner(self.board)
        self.head = make_head(head, feature_channels, self.head_board, hidden, num_actions)
        self.num_features = feature_channels * self.head_board[0] * self.head_board[1]
        self.size_free = head != "flatten"
        self.hook_encode, self.hook_policy, self.hook_value = nn.Identity(), nn.Identity(), nn.Identity()

    # a net defines ---------------------------------------------------------------------------------------------------
    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        raise NotImplementedError

    def encode(self, observation: Tensor) -> Tensor:
        """(N, C_in, H, W) uint8 -> (N, C, H, W)."""
        raise NotImplementedError

    def drives(self, encoding: Tensor) -> tuple[Tensor, ...]:
        """What each layer reads of the encoding, the same on every tick, each (N, ..., H, W)."""
        return (encoding,)

    def advance(self, drives: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        """One step: all ticks. -> top features (B, C, H, W), new memory."""
        raise NotImplementedError

    def join(self, encoding: Tensor, top: Tensor) -> Tensor:
        """What the head reads (B, C_f, H, W)."""
        return top

    def begin_unroll(self, board: tuple[int, int]) -> None:
        """Called before a run of `advance` calls that share one backward pass."""

    def end_unroll(self) -> None:
        """Called after it."""

    # shared ------------------------------------------------------------------------------------------------------
    def inner(self, board: tuple[int, int] | None) -> tuple[int, int]:
        """The squares (H', W') that this net computes on."""
        height, width = board or self.board
        return height - 2 * self.ring, width - 2 * self.ring

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One environment step: logits (B, A), value (B,), new memory.

        Raises: ShapeError (not (B, C_in, H, W)); BoardSizeError (a flattened head on boards of another size).
        """
        self._check(observation)
        encoding = tap(self.hook_encode, self.encode(observation), self.ring)
        top, state = self.advance(self.drives(encoding), state)
        logits, value = self.head(self.join(encoding, top))
        return self.hook_policy(logits), self.hook_value(value), state

    def unroll(self, observations: Tensor, state: State, starts: Tensor) -> tuple[Tensor, Tensor, State]:
        """T steps with gradients: logits (T, B, A), values (T, B), last memory.

        observations (T, B, C_in, H, W); starts (T, B) bool: memory is reset before that step.
        """
        features, state = self.unroll_features(observations, state, starts)
        logits, values = self.head(features)
        return logits.unflatten(0, starts.shape), values.unflatten(0, starts.shape), state

    def unroll_features(self, observations: Tensor, state: State, starts: Tensor) -> tuple[Tensor, State]:
        """What the head reads on T steps, (T * B, C_f, H, W), and the last memory; arguments of `unroll`."""
        self._check(observations[0])
        encodings = self.encode(observations.flatten(0, 1))
        if state:
            top, state = self._recur(self.drives(encodings), state, starts)
        else:  # no memory, nothing to loop over
            top, state = self.advance(self.drives(encodings), state)
        return self.join(encodings, top), state

    def _recur(self, drives: tuple[Tensor, ...], state: State, starts: Tensor) -> tuple[Tensor, State]:
        self.begin_unroll(board_size(drives[0]))
        by_step = zip(*(drive.unflatten(0, tuple(starts.shape)) for drive in drives), strict=True)
        tops = []
        for step_drives, start in zip(by_step, starts, strict=True):
            top, state = self.advance(step_drives, reset_state(state, start))
            tops.append(top)
        self.end_unroll()
        return cat_boards(tops), state

    def forward(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        return self.step(observation, state)

    def _check(self, observation: Tensor) -> None:
        if observation.ndim != 4 or observation.shape[1] != self.planes:
            raise ShapeError(
                f"observation of shape {tuple(observation.shape)}; this net reads (B, {self.planes}, H, W). "
                "A task with other planes needs a net trained on it."
            )
        if not self.size_free and tuple(observation.shape[-2:]) != self.board:
            height, width = observation.shape[-2:]
            raise BoardSizeError(
                f"this net has a flattened head for {self.board[0]}x{self.board[1]} boards and was given "
                f"{height}x{width}.\n  One weight a square cannot be stretched: train with head = 'pool' for any size."
            )


def reset_state(state: State, where: Tensor) -> State:
    """Memory with the boards marked in `where` (B,) bool set to zero."""
    if not state:
        return state
    keep = (~where).to(state[0].dtype)
    return tuple(part * keep.view(-1, *[1] * (part.ndim - 1)) for part in state)


def tap(hook: nn.Module, value: Tensor, ring: int) -> Tensor:
    """Run a hook on a value (B, C, H', W'), shown to it as a whole board (B, C, H, W) with zeros on the outer ring.

    So a square has the same address in every net. There are no units on the ring: what an edit writes there is dropped.
    """
    if not ring or value.ndim != 4 or type(hook) is nn.Identity:
        return hook(value)
    whole = F.pad(value, (ring,) * 4)
    seen = hook(whole)
    if seen is whole:
        return value
    return torch.empty_like(value).copy_(seen[..., ring:-ring, ring:-ring])  # in the layout of the plain run


class Taps(nn.Module):
    """The named sites of one layer in one tick: `hook_h`, `hook_c`, ... A call runs one of them."""

    def __init__(self, names: tuple[str, ...], ring: int = 0) -> None:
        super().__init__()
        self.ring = ring
        for name in names:
            self.add_module(f"hook_{name}", nn.Identity())

    def forward(self, name: str, value: Tensor) -> Tensor:
        hook = self._modules[f"hook_{name}"]
        assert hook is not None
        return tap(hook, value, self.ring)

    @property
    def tapped(self) -> bool:
        return not all(type(module) is nn.Identity for module in self._modules.values())
