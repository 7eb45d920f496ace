"""Patches: which part of a run is replaced, one patch a cell of a map.

A map over site x step x square x channel group is a list of patches with labels for its rows; a path is one too, a
patch a square of the plan. Sites name ticks and layers (`ticks.{tick}.{layer}.hook_h`), so a map over sites is one over
ticks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from planprobe.core.errors import AddressError
from planprobe.core.pairs import LevelPairs
from planprobe.core.records import Row
from planprobe.instruments.addresses import Address, Channels, Steps, region, select_sites, tick_and_layer
from planprobe.instruments.hooks import OpenedPolicy
from planprobe.instruments.steering.route_edits import RouteEdits, RoutesOfLevels, shuffled_edits

Each = Literal["all", "each"]


@dataclass(frozen=True)
class Patch:
    """One replacement. address: its part of the run; a mask (N, H, W) has one row a pair. labels: columns of its row,
    where None stands for all (steps, squares) or for a site outside the recurrence (tick, layer)."""

    address: Address
    labels: Row = field(default_factory=dict)


def patch_grid(
    opened: OpenedPolicy,
    sites: str | Sequence[str],
    *,
    steps: Sequence[int] | Literal["all"] = (0,),
    squares: Each | Tensor = "all",
    channels: Each | Sequence[Channels] = "all",
) -> list[Patch]:
    """Every combination of site, step, square and channel group, one patch each.

    Args:
        sites: patterns of `select_sites`. steps: clock steps, one patch each; 'all' = one patch over all of them.
        squares: 'all' together, 'each' by itself, or one mask (H, W) or (N, H, W) for all patches.
        channels: 'all' together, 'each' by itself, or groups, e.g. [slice(0, 8), [8, 9]].
    Raises: UnknownSiteError; AddressError (nothing is named, or squares of a site that has none).
    """
    step_groups: list[list[int] | None] = [None] if steps == "all" else [[int(step)] for step in steps]
    if not step_groups:
        raise AddressError("a map needs at least one step: give clock steps, or 'all' for one patch over all of them.")
    shapes = opened.sites()
    patches = []
    for site in select_sites(opened, sites):
        masks = _square_masks(site, shapes[site], squares)
        groups = _channel_groups(shapes[site], channels)
        for step_group, mask, (name, group) in itertools.product(step_groups, masks, groups):
            tick, layer = tick_and_layer(site)
            step = None if step_group is None else step_group[0]
            labels: Row = {"site": site, "tick": tick, "layer": layer, "step": step}
            labels |= {"row": None, "column": None, "channels": name} | mask[1]
            patches.append(Patch(Address(site, steps=step_group, squares=mask[0], channels=group), labels))
    check_addresses(patches, shapes)
    return patches


def route_patches(
    pairs: LevelPairs,
    site: str,
    *,
    distances: Sequence[int] = tuple(range(1, 11)),
    steps: Steps = None,
    channels: Channels = None,
    seed: int = 0,
) -> list[Patch]:
    """The square of the clean plan that lies h moves ahead, for each distance h, and as a control a floor square off
    both plans.

    A pair whose plan is shorter has no such square and does not count. The squares at one distance are patched at every
    site that the pattern names, at once.
    Args: distances: h >= 1; the square that the player stands on is h = 0 and never patched. seed: of control squares.
    Raises: AddressError (no plan is that long).
    """
    routes = pairs.clean_routes
    wanted = [int(distance) for distance in distances]
    if not wanted or min(wanted) < 1:
        raise AddressError(f"distances {wanted}: count moves ahead of the player, from 1 up.")
    longest = int((routes >= 0).sum(1).max()) - 1
    if max(wanted) > longest:
        raise AddressError(f"distance {max(wanted)} was asked for: the longest clean plan has {longest} moves.")
    ahead = routes[:, wanted]
    both = RoutesOfLevels(pairs.clean, pairs.clean_routes, pairs.corrupted_routes)
    elsewhere = shuffled_edits(RouteEdits(ahead[:, None], torch.zeros_like(ahead)), both, 1, seed=seed).squares[:, 0]
    patches = []
    for name, squares in (("plan", ahead), ("elsewhere", elsewhere)):
        for distance, square in zip(wanted, squares.T, strict=True):
            mask = _one_square(square, pairs.clean.boards)
            if mask.any():  # a small board may have no floor off both plans
                address = Address(site, steps=steps, squares=mask, channels=channels)
                labels: Row = {"site": site, "squares": name, "distance": distance, "channels": _channel_name(channels)}
                patches.append(Patch(address, labels))
    return patches


def patched_pairs(patches: Sequence[Patch], num_pairs: int) -> Tensor:
    """(J, N) bool: the pairs on which each patch names something."""
    rows = []
    for patch in patches:
        squares = patch.address.squares
        if squares is None or squares.ndim == 2:
            rows.append(torch.ones(num_pairs, dtype=torch.bool))
        else:
            rows.append(squares.flatten(1).any(1).cpu())
    return torch.stack(rows)


def check_addresses(patches: Sequence[Patch], shapes: dict[str, tuple[int, ...]]) -> None:
    """Find before a long run whether squares and channels fit sites that are named in full.

    Raises: ShapeError, AddressError, as a run would.
    """
    checked = set()
    for patch in patches:
        address, site = patch.address, patch.address.site
        kind = (site, id(address.squares), str(address.channels))
        if site in shapes and kind not in checked:
            checked.add(kind)
            num_pairs = len(address.squares) if address.squares is not None and address.squares.ndim == 3 else 1
            region(address, site, torch.empty(num_pairs, *shapes[site], device="meta"))


def _square_masks(site: str, shape: tuple[int, ...], squares: Each | Tensor) -> list[tuple[Tensor | None, Row]]:
    """Masks with the labels they add."""
    if isinstance(squares, Tensor):
        return [(squares, {})]
    if squares == "all":
        return [(None, {})]
    if squares != "each":
        raise AddressError(f"squares {squares!r}: give 'all', 'each', or a bool mask (H, W) or (N, H, W).")
    if len(shape) != 3:
        raise AddressError(
            f"site '{site}' of shape {shape} has no squares to map. Choose sites of shape (C, H, W), or squares='all'."
        )
    height, width = shape[1:]
    masks = torch.eye(height * width, dtype=torch.bool).view(-1, height, width)
    return [(mask, {"row": number // width, "column": number % width}) for number, mask in enumerate(masks)]


def _channel_groups(shape: tuple[int, ...], channels: Each | Sequence[Channels]) -> list[tuple[str, Channels]]:
    """Channel groups by name."""
    if channels == "all":
        return [("all", None)]
    if channels == "each":
        return [(str(channel), [channel]) for channel in range(shape[0])]
    if isinstance(channels, str) or not channels:
        raise AddressError(f"channels {channels!r}: give 'all', 'each', or groups such as [slice(0, 8), [8, 9]].")
    return [(_channel_name(group), group) for group in channels]


def _channel_name(group: Channels) -> str:
    if isinstance(group, slice):
        return ":".join("" if number is None else str(number) for number in (group.start, group.stop))
    return "all" if group is None else ",".join(map(str, group))


def _one_square(squares: Tensor, boards: Tensor) -> Tensor:
    """Masks (N, H, W) of one flat square a board (N,), empty where it is -1."""
    num_squares = boards.shape[1] * boards.shape[2]
    mask = torch.zeros(len(squares), num_squares + 1, dtype=torch.bool)
    mask.scatter_(1, torch.where(squares < 0, num_squares, squares)[:, None], True)
    return mask[:, :num_squares].view(boards.shape)
