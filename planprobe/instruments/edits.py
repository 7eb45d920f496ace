"""Edits: what an intervention puts in the place of an activation.

An edit computes a whole new value for a site; only the addressed squares and channels of it are kept. So the same
three makers serve every address: `patch_from` (another run's activation), `ablate` (zero, mean or resampled) and
`steer` (add a direction).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from planprobe.core.errors import AddressError, DirectionError, ShapeError
from planprobe.core.rng import draw_below
from planprobe.instruments.addresses import Address, Moment
from planprobe.instruments.cache import Cache

NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Edit:
    """`apply(value, moment)` gives the new value, shaped like the old one; the address says how much of it counts."""

    address: Address
    apply: Callable[[Tensor, Moment], Tensor]


def patch_from(cache: Cache, address: Address) -> Edit:
    """Put in what another run had at the same site and step, board by board (`cache.boards(ids)` for other donors).

    Where the run goes on after the cache ends this raises AddressError; `steps=cache.steps` in the address limits it.
    """
    return Edit(address, lambda value, moment: cache.at(moment.site, moment.step))


def ablate(
    address: Address,
    mode: Literal["zero", "mean", "resample"] = "zero",
    *,
    reference: Cache | None = None,
    seed: int = 0,
    board_ids: Tensor | None = None,
) -> Edit:
    """Take out what a site says.

    Args:
        mode: 'zero'; 'mean' over the boards and steps of `reference`, each unit by itself; 'resample': the whole value
            of a random board and step of `reference`, the same draw at every site of one step.
        reference: a cache of typical runs. The batch at hand would not do: results would depend on its size.
        seed: of the draws, counted by (seed, board, step). board_ids (B,): names of the boards, default 0 .. B - 1.
    Raises: AddressError (unknown mode, or no reference where one is needed).
    """
    if mode not in ("zero", "mean", "resample"):
        raise AddressError(f"there is no ablation '{mode}'. Choose 'zero', 'mean' or 'resample'.")
    if mode == "zero":
        return Edit(address, lambda value, moment: torch.zeros_like(value))
    if reference is None:
        raise AddressError(f"ablation by '{mode}' needs reference=, a cache of typical runs at the same sites.")
    if mode == "mean":
        means: dict[str, Tensor] = {}

        def put_mean(value: Tensor, moment: Moment) -> Tensor:
            if moment.site not in means:
                means[moment.site] = reference[moment.site].float().mean((0, 1)).to(value)
            return means[moment.site].expand(len(value), *means[moment.site].shape)

        return Edit(address, put_mean)

    def put_resampled(value: Tensor, moment: Moment) -> Tensor:
        donors = reference[moment.site]
        boards = torch.arange(len(value)) if board_ids is None else board_ids.cpu()
        draws = draw_below(donors.shape[0] * donors.shape[1], seed, boards, moment.step).to(donors.device)
        return donors[draws // donors.shape[1], draws % donors.shape[1]]

    return Edit(address, put_resampled)


def steer(address: Address, directions: Tensor, alpha: float | Tensor) -> Edit:
    """Add alpha x a unit-norm direction at the addressed squares.

    Args:
        directions: (C,), (B, C) one a board, or (B, C, H, W) one a square; of norm 1 over C, which makes alpha a
            strength in activation units that can be compared between sites, directions and agents.
        alpha: one strength, or (B,) one a board.
    Raises: DirectionError (norm not 1); ShapeError (other axes, or an address with channels: the direction says which).
    """
    if address.channels is not None:
        raise ShapeError("steering moves all channels along the direction; set entries of the direction to 0 instead.")
    if directions.ndim not in (1, 2, 4):
        raise ShapeError(f"directions must be (C,), (B, C) or (B, C, H, W), got {tuple(directions.shape)}.")
    _check_norms(directions, address.squares)
    strengths = torch.as_tensor(alpha, dtype=directions.dtype, device=directions.device)
    if strengths.ndim > 1:
        raise ShapeError(f"alpha must be a number or (B,), got {tuple(strengths.shape)}.")

    def push(value: Tensor, moment: Moment) -> Tensor:
        shift = directions if directions.ndim > 1 else directions[None]
        if shift.shape[1] != value.shape[1] or len(shift) not in (1, len(value)) or shift.ndim > value.ndim:
            raise ShapeError(
                f"directions {tuple(directions.shape)} do not fit site '{moment.site}' of shape {tuple(value.shape)}."
            )
        if strengths.ndim and len(strengths) != len(value):
            raise ShapeError(f"{len(strengths)} strengths alpha for {len(value)} boards.")
        if shift.ndim == 4 and shift.shape[2:] != value.shape[2:]:
            raise ShapeError(f"directions of squares {tuple(shift.shape[2:])} on a board {tuple(value.shape[2:])}.")
        shift = shift.reshape(*shift.shape, *[1] * (value.ndim - shift.ndim))
        return value + (strengths.reshape(-1, *[1] * (value.ndim - 1)) * shift).to(value)

    return Edit(address, push)


def _check_norms(directions: Tensor, squares: Tensor | None) -> None:
    norms = directions.float().norm(dim=0 if directions.ndim == 1 else 1)
    if directions.ndim == 4 and squares is not None:
        norms = norms[squares.to(norms.device).expand_as(norms)] if squares.shape[-2:] == norms.shape[-2:] else norms
    if norms.numel() and not bool(((norms - 1).abs() <= NORM_TOLERANCE).all()):
        raise DirectionError(
            f"directions have norms from {float(norms.min()):.4g} to {float(norms.max()):.4g} and need norm 1, or "
            "alpha is no strength.\n  Divide by the norm over C; leave out squares where there is nothing to add."
        )
