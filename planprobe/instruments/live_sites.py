"""What goes on at a site while a policy runs: edits first, in the order their blocks were opened, then recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from planprobe.core.errors import CaptureError, ShapeError
from planprobe.instruments.addresses import (
    Channels,
    Moment,
    Steps,
    channel_ids,
    region,
    step_filter,
    tick_and_layer,
)
from planprobe.instruments.edits import Edit
from planprobe.instruments.recorder import Recorder

Reader = Callable[[Tensor], None]


class Running(Protocol):
    """What an opened policy offers here. serial: calls of `step` ever; live: its sites that have something going on."""

    clock: int
    serial: int
    live: dict[str, LiveSite]

    @property
    def hook_dict(self) -> Mapping[str, nn.Module]: ...


class LiveSite:
    """One torch hook at one site, for all readers and writers: their order must not depend on how blocks are nested."""

    def __init__(self, running: Running, site: str) -> None:
        self.site, self.seen_serial = site, -1
        self.readers: list[Reader] = []
        self.writers: list[Writer] = []
        self._running = vars(running)  # nn.Module attributes are slow to look up
        self._handle = running.hook_dict[site].register_forward_hook(self)

    def __call__(self, module: nn.Module, args: tuple, value: Tensor) -> Tensor | None:
        serial = self._running["serial"]
        # Unnoticed, the last of several values would stand for all of them, and an edit would come several times.
        if serial == self.seen_serial:
            raise CaptureError(
                f"site '{self.site}' fires more than once a step. Give each tick its own tap, and run the policy "
                "through step(), not unroll()."
            )
        self.seen_serial = serial
        for write in self.writers:
            value = write(value)
        for read in self.readers:
            read(value)
        return value if self.writers else None

    def remove(self) -> None:
        self._handle.remove()


@contextmanager
def attached(
    running: Running, *, readers: dict[str, list[Reader]] | None = None, writers: dict[str, list[Writer]] | None = None
) -> Iterator[None]:
    """Readers and writers at work, by site, inside the block; nothing of them is left after it."""
    live, added, before = running.live, [], running.serial
    try:
        for kind, by_site in (("readers", readers or {}), ("writers", writers or {})):
            for name, functions in by_site.items():
                if name not in live:
                    live[name] = LiveSite(running, name)
                busy = getattr(live[name], kind)
                for function in functions:
                    busy.append(function)
                    added.append((name, busy, function))
        yield
        if running.serial > before:
            _check_done(live, writers or {}, before, running.serial)
    finally:
        for name, busy, function in added:
            busy.remove(function)
            if not live[name].readers and not live[name].writers:
                live.pop(name).remove()


def make_reader(running: Running, recorder: Recorder, steps: Steps, channels: Channels) -> Reader:
    """Record chosen channels at chosen steps."""
    wanted, clock_of = step_filter(steps), vars(running)

    def read(value: Tensor) -> None:
        step = clock_of["clock"]
        if steps is None or wanted(step):
            if channels is not None:
                value = value[:, channel_ids(channels, recorder.site, value)]
            recorder.add(value, step)

    return read


class Writer:
    """Replaces the addressed part of a value by what an edit makes of it."""

    def __init__(self, running: Running, site: str, edit: Edit) -> None:
        self.site, self.edit, self.was_applied = site, edit, False
        self._clock_of, self._wanted = vars(running), step_filter(edit.address.steps)
        self._tick, self._layer = tick_and_layer(site)
        self._regions: dict[tuple, Tensor | None] = {}

    def __call__(self, value: Tensor) -> Tensor:
        step = self._clock_of["clock"]
        if not self._wanted(step):
            return value
        self.was_applied = True
        key = (value.shape, value.device)
        if key not in self._regions:
            self._regions[key] = region(self.edit.address, self.site, value)
        new = self.edit.apply(value, Moment(step, self.site, self._tick, self._layer))
        if new.shape != value.shape:
            shapes = f"{tuple(new.shape)} for {tuple(value.shape)}"
            raise ShapeError(f"an edit of '{self.site}' at step {step} gave {shapes}.")
        new = new.to(device=value.device, dtype=value.dtype)
        if (mask := self._regions[key]) is not None:
            new = torch.where(mask, new, value)
        # In another memory layout a convolution may round differently: patching a run with itself would then change it.
        return new if new.stride() == value.stride() else torch.empty_like(value).copy_(new)


def _check_done(live: dict[str, LiveSite], writers: dict[str, list[Writer]], before: int, serial: int) -> None:
    """Raises: CaptureError (an edit that came to nothing)."""
    for name, edits in writers.items():
        if live[name].seen_serial <= before:
            raise CaptureError(
                f"site '{name}' was never reached in {serial - before} steps, so its edit did nothing. "
                "Either the policy does not use it there, or it calls compiled code, which passes hooks by."
            )
        for writer in edits:
            if not writer.was_applied:
                raise CaptureError(
                    f"an edit of '{name}' at steps {writer.edit.address.steps} did nothing: none of these came in "
                    f"{serial - before} steps. Count from 0 at initial_state, thinking steps included."
                )
