"""Does a patch change where the agent goes, and not only its next move? Route agreement of patched runs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from planprobe.core.errors import AddressError, ShapeError
from planprobe.core.pairs import HistoryPairs, LevelPairs
from planprobe.core.play import BATCH_BOARDS, EnvMaker, play
from planprobe.instruments.addresses import select_sites
from planprobe.instruments.cache import Cache
from planprobe.instruments.hooks import OpenedPolicy, intervene
from planprobe.instruments.patching.effects import PatchEffects
from planprobe.instruments.patching.patches import patched_pairs
from planprobe.instruments.patching.patching import BLOCK_PAIRS, Source, make_donor, make_edits, record_pairs

MEASURE = "route-agreement"


def follow_routes(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    level_pairs: LevelPairs,
    histories: HistoryPairs,
    effects: PatchEffects,
    *,
    num_moves: int = 8,
    source: Source = "patch",
    reference: Cache | None = None,
    seed: int = 0,
    num_boards: int = BATCH_BOARDS,
) -> PatchEffects:
    """The same effects with the measure 'route-agreement': the agent plays on, on the corrupted board, for `num_moves`.

    A patch acts up to the first real step and no longer, so that what follows is what the agent makes of it. The route
    is the one that the agent takes by itself in the clean run; following it wholly is 1.

    Args: histories: made of `level_pairs` by `observe_pairs`, without forced actions. effects: of the same patches; the
        other arguments as `patch_pairs`.
    Raises: AddressError (forced actions, no move); ShapeError (other pairs).
    """
    if len(level_pairs) != len(histories) or len(histories) != len(effects.level_ids):
        raise ShapeError(
            f"{len(level_pairs)} level pairs, {len(histories)} histories, {len(effects.level_ids)} effects."
        )
    if num_moves < 1 or not bool((histories.corrupted == histories.corrupted[:, :1]).all()):
        raise AddressError("routes are walked from the start: histories without forced actions, and at least one move.")
    sites = select_sites(opened, [patch.address.site for patch in effects.patches])
    if source in ("mean", "resample") and reference is None:
        reference = record_pairs(opened, histories, sites, torch.arange(len(histories))[:BLOCK_PAIRS]).clean
    thinking_steps = histories.num_steps - 1
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for ids in torch.arange(len(histories)).split(BLOCK_PAIRS):
        some, rows = level_pairs[ids], torch.arange(len(ids))
        walks = [
            play(opened, make_env(levels, len(ids)), rows, thinking_steps=thinking_steps, max_steps=num_moves).positions
            for levels in (some.clean, some.corrupted)
        ]
        clean, corrupted = (positions.cpu() for positions in walks)
        runs = record_pairs(opened, histories, sites, ids)
        donor = make_donor(runs, source, reference=reference, seed=seed)
        patched = []
        for places in torch.arange(len(effects.patches) * len(ids)).split(num_boards):
            patch_ids, pair_ids = places // len(ids), places % len(ids)
            edits = make_edits(opened, runs, effects.patches, patch_ids, pair_ids, donor)
            with intervene(opened, edits):
                env = make_env(some.corrupted, len(places))
                walk = play(opened, env, pair_ids, thinking_steps=thinking_steps, max_steps=num_moves).positions
            patched.append(route_agreement(walk.cpu(), clean[pair_ids]))
        shaped = torch.cat(patched).view(len(effects.patches), len(ids))
        parts.append((shaped, route_agreement(corrupted, clean), route_agreement(clean, clean)))
    return _with_measure(effects, *(torch.cat(part, dim=-1) for part in zip(*parts, strict=True)))


def route_agreement(positions: Tensor, route: Tensor) -> Tensor:
    """Share of a route's squares after the first that are visited in their order, (B,) float64 in [0, 1].

    Args: positions (B, T + 1), route (B, R + 1) int64 flat squares, standing still included. nan where the route leads
        nowhere.
    """
    squares, num_squares = _squares_entered(route)
    padded = pad(squares, (0, 1), value=-1)
    visited = torch.ones(len(positions), dtype=torch.int64)  # both begin on the same square
    for here in positions.T[1:]:
        visited += here == padded.gather(1, visited[:, None]).squeeze(1)
    return (visited - 1).double() / (num_squares - 1)


def _squares_entered(route: Tensor) -> tuple[Tensor, Tensor]:
    """The first square and those entered later, -1 padded, and their number (B,)."""
    moved = torch.cat([torch.ones(len(route), 1, dtype=torch.bool), route[:, 1:] != route[:, :-1]], dim=1)
    order = (~moved).to(torch.uint8).argsort(dim=1, stable=True)
    return route.masked_fill(~moved, -1).gather(1, order), moved.sum(1)


def _with_measure(effects: PatchEffects, patched: Tensor, corrupted: Tensor, clean: Tensor) -> PatchEffects:
    named = patched_pairs(effects.patches, len(effects.level_ids)) & ~clean.isnan()
    return replace(
        effects, patched={**effects.patched, MEASURE: patched.masked_fill(~named, torch.nan)},
        corrupted={**effects.corrupted, MEASURE: corrupted}, clean={**effects.clean, MEASURE: clean},
    )  # fmt: skip
