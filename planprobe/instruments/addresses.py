"""Where in a run something happens: site x step x square x channel.

Sites are named by their hook point and chosen by pattern: `*` matches anything, `{k}`, or any word in braces, one part
of a name, `{0,2}` one of several, `{1:3}` a slice of numbers as Python slices them: `ticks.{-1}.{:2}.hook_h` is the
last tick of the first two layers. Steps count on the clock of the opened policy: 0 is the first step after
`initial_state`, thinking steps included. What selects nothing is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from planprobe.core.errors import AddressError, PlanprobeError, ShapeError, UnknownSiteError, unknown_name

Steps = slice | Sequence[int] | None
Channels = slice | Sequence[int] | None


class HasSites(Protocol):
    """What site selection needs of an opened policy."""

    title: str

    @property
    def hook_dict(self) -> Mapping[str, object]: ...

    def sites(self) -> dict[str, tuple[int, ...]]: ...


@dataclass(frozen=True)
class Address:
    """A part of a run.

    site: a pattern, see `select_sites`. steps: clock steps as a slice or list. squares: bool mask (H, W), or (B, H, W)
    for other squares on each board; of spatial sites (B, C, H, W) only. channels: slice or list. None means all.
    """

    site: str
    steps: Steps = None
    squares: Tensor | None = None
    channels: Channels = None

    def __post_init__(self) -> None:
        step_filter(self.steps)
        if self.channels is not None and not isinstance(self.channels, slice) and not len(self.channels):
            raise AddressError(f"channels of '{self.site}' is an empty list: leave it out to address all of them.")
        if self.squares is not None and (self.squares.dtype != torch.bool or self.squares.ndim not in (2, 3)):
            raise ShapeError(
                f"squares of '{self.site}' must be a bool mask (H, W) or (B, H, W), "
                f"got {tuple(self.squares.shape)} {self.squares.dtype}."
            )
        if self.squares is not None and not bool(self.squares.any()):
            raise AddressError(
                f"squares of '{self.site}' is a mask {tuple(self.squares.shape)} with no true entry: it names none."
            )


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where an edit is applied. step: clock; tick, layer: of the site, None outside the recurrence."""

    step: int
    site: str
    tick: int | None
    layer: int | None


def select_sites(opened: HasSites, patterns: str | Sequence[str]) -> list[str]:
    """Names of the sites that match any of the patterns, each once, in the order of the network.

    Raises: UnknownSiteError where a pattern matches nothing (a misspelt one among several would otherwise go unseen).
    """
    known, selected = list(opened.hook_dict), set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = _match(pattern, known)
        if not matches:
            raise _unknown_site(opened, pattern)
        selected.update(matches)
    return [name for name in known if name in selected]


def step_filter(steps: Steps) -> Callable[[int], bool]:
    """A test for membership in `steps`. Raises: AddressError (none; negative: where a run will end is not known)."""
    if steps is None:
        return lambda step: True
    if isinstance(steps, slice) and steps.step is not None and steps.step <= 0:
        raise AddressError(f"steps {steps} run backwards. Steps are a set: count upwards.")
    named = (steps.start, steps.stop, steps.step) if isinstance(steps, slice) else tuple(steps)
    if any(number is not None and number < 0 for number in named):
        raise AddressError(f"steps {steps} count from the end, which is not known while running. Count from 0.")
    chosen = range(2**62)[steps] if isinstance(steps, slice) else frozenset(int(step) for step in steps)
    if not chosen:
        raise AddressError(f"steps {steps} name no step. Leave them out to address every step.")
    return chosen.__contains__


def tick_and_layer(site: str) -> tuple[int | None, int | None]:
    """(tick, layer) of `ticks.{tick}.{layer}.hook_*`; (None, None) elsewhere."""
    match = re.match(r"ticks\.(\d+)\.(\d+)\.", site)
    return (int(match[1]), int(match[2])) if match else (None, None)


def region(address: Address, site: str, value: Tensor, *, board_ids: Tensor | None = None) -> Tensor | None:
    """The addressed entries of a value (B, C, ...) as a mask that broadcasts over it; None for all of them.

    board_ids: (B,) rows of a mask (N, H, W) that the boards of this value are.
    Raises: ShapeError (the mask disagrees with board or batch, or the site has no squares); AddressError (channels).
    """
    squares = channels = None
    if address.squares is not None:
        if value.ndim != 4:
            raise ShapeError(
                f"site '{site}' has no squares, {tuple(value.shape[1:])} on one board: leave `squares` out, or where a "
                "concept is erased say scope='board'."
            )
        mask = address.squares if board_ids is None or address.squares.ndim == 2 else address.squares[board_ids]
        mask = mask.to(value.device)
        if mask.shape[-2:] != value.shape[-2:] or (mask.ndim == 3 and len(mask) != len(value)):
            raise ShapeError(
                f"squares of shape {tuple(mask.shape)} do not fit site '{site}' of shape {tuple(value.shape)}: "
                f"give {tuple(value.shape[-2:])}, or {(len(value), *value.shape[-2:])} for one mask a board."
            )
        squares = mask[:, None] if mask.ndim == 3 else mask[None, None]
    if address.channels is not None:
        ids = channel_ids(address.channels, site, value)
        channels = torch.zeros(value.shape[1], dtype=torch.bool, device=value.device)
        channels[ids] = True
        channels = channels.view(1, -1, *[1] * (value.ndim - 2))
    if squares is None or channels is None:
        return channels if squares is None else squares
    return squares & channels


def channel_ids(channels: Channels, site: str, value: Tensor) -> list[int]:
    """Chosen channels of a value (B, C, ...) as a list. Raises: AddressError (none, or outside [0, C))."""
    num_channels = value.shape[1] if value.ndim > 1 else 0
    ids = list(range(num_channels)[channels]) if isinstance(channels, slice) else [int(i) for i in channels or ()]
    if not ids or min(ids) < 0 or max(ids) >= num_channels:
        raise AddressError(f"channels {channels} of site '{site}', which has {num_channels}: choose from 0 up.")
    return ids


def _match(pattern: str, known: Sequence[str]) -> list[str]:
    """Names that a pattern matches. Numbers of a slice count from 0 to the largest that stands in that place."""
    expression, slices = _expression(pattern)
    found = [(name, match) for name in known if (match := expression.fullmatch(name))]
    for group, wanted in enumerate(slices, start=1):
        total = 1 + max((int(match[group]) for _, match in found), default=-1)
        chosen = range(total)[wanted]
        found = [(name, match) for name, match in found if int(match[group]) in chosen]
    return [name for name, _ in found]


def _expression(pattern: str) -> tuple[re.Pattern[str], list[slice]]:
    """A regular expression, and the slices that its groups must lie in."""
    parts, slices = [], []
    for part in re.split(r"(\*|\?|\{[^{}]*\})", pattern):
        if part in ("*", "?"):
            parts.append(".*" if part == "*" else ".")
        elif re.fullmatch(r"\{(-?\d*:-?\d*(:\d+)?|-\d+)\}", part):
            numbers = [int(number) if number else None for number in part[1:-1].split(":")]
            # {-1} is the last one, and a slice must not end at 0 for that
            slices.append(slice(*numbers) if len(numbers) > 1 else slice(numbers[0], (numbers[0] or 0) + 1 or None))
            parts.append(r"(\d+)")
        elif part.startswith("{") and part.endswith("}"):
            choices = part[1:-1].split(",")
            several = len(choices) > 1 or choices[0].isdigit()
            parts.append(f"(?:{'|'.join(map(re.escape, choices))})" if several else r"[^.]+")
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts)), slices


def _unknown_site(opened: HasSites, pattern: str) -> PlanprobeError:
    if not opened.hook_dict:
        return UnknownSiteError(
            f"{opened.title} has no site '{pattern}', nor any other: nothing in it is tapped.\n"
            "  Pass activations through nn.Identity() modules named hook_* (self.hook_h = nn.Identity()), then open it."
        )
    return unknown_name(
        "site", pattern, opened.hook_dict, where=opened.title, next_move=_shapes(opened), error=UnknownSiteError
    )


def _shapes(opened: HasSites) -> str:
    """One line: every kind of site with the shape it has on one board."""
    try:
        shapes = opened.sites()
    except PlanprobeError:
        return "With shapes: opened.sites(), after a first step."
    kinds = dict.fromkeys(f"{name.rpartition('.')[2]} {shape}" for name, shape in shapes.items())
    return f"Shapes on one board: {', '.join(kinds)}."
