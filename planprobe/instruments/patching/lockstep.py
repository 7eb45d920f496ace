"""A donor that runs beside: the same net, on what the receiver sees but for one thing, its activations put into it.

A patch from a recorded run fits as long as both runs stand on the same squares; once the receiver acts on the patch it
is elsewhere. So the donor is shown, step by step, the receiver's own moment with the one thing changed, and its
activations of that very step go into the receiver, at the addressed sites and squares. Being a policy, the receiver can
be played by any loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from planprobe.core.errors import AddressError
from planprobe.core.protocols import State
from planprobe.instruments.addresses import Address, Moment
from planprobe.instruments.cache import Cache
from planprobe.instruments.edits import Edit
from planprobe.instruments.hooks import OpenedPolicy, capture, intervene
from planprobe.instruments.patching.patching import precision

Show = Callable[[Tensor], Tensor]
"""The receiver's observation (B, C, H, W) -> the donor's, of the same moment."""


class LockstepPatch:
    """A policy (`core.protocols.Policy`) whose activations come from its donor where and when it is told.

    Args:
        opened: the net. show: what the donor sees. sites: patterns, see `select_sites`; none = nothing is patched and
        no donor runs.
        squares: (B, H, W) bool, where. first: number of the first patched step since `initial_state`; last: of the
        first that is patched no more, None = to the end.
    Memory: the receiver's, then the donor's.
    Raises: AddressError (no step is patched).
    """

    def __init__(
        self,
        opened: OpenedPolicy,
        show: Show,
        sites: Sequence[str],
        squares: Tensor,
        *,
        first: int = 0,
        last: int | None = None,
    ) -> None:
        if first < 0 or (last is not None and last <= first):
            raise AddressError(f"patched steps from {first} to {last} are none: count from 0, and end after the first.")
        self.opened, self.show, self.sites, self.squares = opened, show, list(sites), squares
        self.first, self.last, self.steps = first, last, 0

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        self.steps = 0
        own = self.opened.initial_state(num_boards, board)
        return (*own, *own)

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        own, donor = state[: len(state) // 2], state[len(state) // 2 :]
        patched = self.sites and self.steps >= self.first and (self.last is None or self.steps < self.last)
        self.steps += 1
        if not patched:
            if self.sites:
                donor = self.opened.step(self.show(observation), donor)[2]
            logits, value, own = self.opened.step(observation, own)
            return logits, value, (*own, *donor)
        with capture(self.opened, self.sites, dtype=precision(self.opened)) as cache:
            donor = self.opened.step(self.show(observation), donor)[2]
        with intervene(self.opened, [self._edit(site, cache) for site in cache]):
            logits, value, own = self.opened.step(observation, own)
        return logits, value, (*own, *donor)

    def _edit(self, site: str, cache: Cache) -> Edit:
        def put(value: Tensor, moment: Moment) -> Tensor:
            return cache[moment.site][:, 0]

        return Edit(Address(site, squares=self.squares), put)


def squares_around(squares: Tensor, board: tuple[int, int], radius: int) -> Tensor:
    """Squares within `radius` rows and columns of any of the given ones: (B, M) flat -> (B, H, W) bool."""
    height, width = board
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    down = (rows - (squares // width)[..., None, None]).abs()
    right = (columns - (squares % width)[..., None, None]).abs()
    return ((down <= radius) & (right <= radius)).any(1)
