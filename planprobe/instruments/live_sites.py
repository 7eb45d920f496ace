"""What goes on at a site while a policy runs: edits first, in the order their blocks were opened, then recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
Writer = Callable[[Tensor], Tensor]


class Running(Protocol):
    """What an opened policy offers here. serial: calls of `step` ever; live: its sites that have something going on."""

    clock: int
    serial: int
    live: dict[str, LiveSite]
    hook_dict: dict[str, nn.Module]


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
        silent = [name for name in writers or {} if live[name].seen_serial <= before]
        if silent and running.serial > before:
            raise CaptureError(
                f"site '{silent[0]}' was never reached in {running.serial - before} steps, so its edit did nothing. "
                "Either the policy does not use it there, or it calls compiled code, which passes hooks by."
            )
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


def make_writer(running: Running, site: str, edit: Edit) -> Writer:
    """Replace the addressed part of a value by what the edit makes of it."""
    wanted, clock_of, (tick, layer) = step_filter(edit.address.steps), vars(running), tick_and_layer(site)
    regions: dict[tuple, Tensor | None] = {}

    def write(value: Tensor) -> Tensor:
        step = clock_of["clock"]
        if not wanted(step):
            return value
        key = (value.shape, value.device)
        if key not in regions:
            regions[key] = region(edit.address, site, value)
        new = edit.apply(value, Moment(step, site, tick, layer))
        if new.shape != value.shape:
            raise ShapeError(f"an edit of '{site}' at step {step} gave {tuple(new.shape)} for {tuple(value.shape)}.")
        new = new.to(device=value.device, dtype=value.dtype)
        if regions[key] is not None:
            new = torch.where(regions[key], new, value)
        # In another memory layout a convolution may round differently: patching a run with itself would then change it.
        return new if new.stride() == value.stride() else torch.empty_like(value).copy_(new)

    return write
