"""Interchange of a learned subspace: is one variable of the net carried by a few directions at one site?

A base run is given, inside a subspace of one site, what a source run has there. If the net then does what it would with
the source's variable in place of the base's, the subspace carries that variable. The subspace is learned (distributed
alignment search, Geiger et al. 2024) with TransformerLens' own tool; a learned one fits a good deal by itself, so it is
compared, on levels it was not fitted on, with random subspaces, a random move of equal length, the same search on
shuffled pairs, and on untrained nets (Arora et al. 2024). One thing these do not show: a direction half in what the net
reads and half in what it holds but does not read can carry the source's value over. Then the subspace does better than
the whole site, which is how it is told (`SubspaceFit.beyond_site`; Makelov et al. 2024).

The search looks at one square of one site in one step. `interchange` puts what it found to use anywhere in a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, ShapeError
from planprobe.core.grid import board_size
from planprobe.core.protocols import State
from planprobe.core.records import Effect, Row
from planprobe.instruments.addresses import Address, Moment
from planprobe.instruments.cache import Cache
from planprobe.instruments.edits import Edit
from planprobe.instruments.hooks import OpenedPolicy, lens_interchange, select_sites
from planprobe.instruments.probes.splits import Split, split_by_level
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, difference_over_best, ratio

UNIT = "fraction of interchanges that give the source's action"
NO_CHANGE, WHOLE_SITE, LEARNED = "no interchange", "whole site", "learned subspace"
RANDOM, EQUAL_LENGTH, SHUFFLED, UNTRAINED = "random subspaces", "equal length", "shuffled pairs", "untrained net"


@dataclass(frozen=True)
class InterchangePairs:
    """N pairs of a base and a source run; the interchange takes place in their last step.

    base, source (N, T, C, H, W): observations from initial memory on, T >= 1 (thinking steps: the same one repeated).
    targets (N,) int64: the action that should follow if the variable had the source's value in the base. level_ids
    (N,): unit of the split and of the intervals. base_squares, source_squares (N,) int64 flat: where the subspace is
    read and written; None at sites without squares.
    Vary more between base and source than the variable, or the subspace learns whatever moves together (Geiger et al.).
    """

    base: Tensor
    source: Tensor
    targets: Tensor
    level_ids: Tensor
    base_squares: Tensor | None = None
    source_squares: Tensor | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in vars(self).values() if part is not None}
        if self.base.ndim != 5 or self.base.shape != self.source.shape or len(lengths) != 1:
            found = {name: tuple(part.shape) for name, part in vars(self).items() if part is not None}
            raise ShapeError(f"base and source must be alike (N, T, C, H, W), the others (N,); got {found}.")
        if (self.base_squares is None) != (self.source_squares is None):
            raise ShapeError("give squares of base and source, or of neither.")

    def __len__(self) -> int:
        return len(self.targets)

    def shuffled(self, parts: Split, *, seed: int) -> InterchangePairs:
        """Sources handed round within each part of the split, and targets left where they are."""
        order, generator = torch.arange(len(self)), torch.Generator().manual_seed(seed)
        for mask in parts:
            ids = mask.nonzero().squeeze(1)
            mixed = ids[torch.randperm(len(ids), generator=generator)]
            order[mixed] = mixed.roll(1)  # one cycle: nobody keeps its own
        squares = None if self.source_squares is None else self.source_squares[order]
        return replace(self, source=self.source[order], source_squares=squares)


@dataclass(frozen=True)
class SubspaceFit:
    """A learned subspace and what it is worth on held-out levels.

    basis (C, R) orthonormal, at `site`. effect: share of held-out interchanges that give the target; controls: the same
    for each control; beyond: effect minus the best control, beyond_site: minus that of the whole site, both paired by
    level; where the latter is above zero, what was found is no variable that the net uses. losses: one an epoch.
    rows: every condition, also 'no interchange' and 'whole site', the floor and the ceiling.
    """

    site: str
    basis: Tensor
    effect: Effect
    controls: dict[str, Effect]
    best_control: str
    beyond: Effect
    beyond_site: Effect
    losses: tuple[float, ...]
    rows: list[Row]

    @property
    def rank(self) -> int:
        return self.basis.shape[1]


def fit_subspace(
    opened: OpenedPolicy,
    pairs: InterchangePairs,
    site: str,
    *,
    ranks: Sequence[int] = (1, 2, 4),
    untrained: Sequence[OpenedPolicy] = (),
    num_random: int = 100,
    epochs: int = 20,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> SubspaceFit:
    """Learn the subspace on the train levels, choose its rank on the valid levels, and tell from the test levels.

    Args:
        site: one hook point, e.g. 'ticks.1.0.hook_h'. ranks: of several equally good ones the smallest is taken.
        untrained: opened nets of the same architecture with random weights. num_random: random subspaces.
    Raises: UnknownSiteError; AddressError (a pattern of several sites); ShapeError (ranks); TooFewLevelsError.
    """
    names = select_sites(opened, site)
    if len(names) != 1:
        raise AddressError(f"'{site}' names {len(names)} sites; a subspace is learned at one: {', '.join(names[:6])}.")
    split = split_by_level(pairs.level_ids, seed=seed)
    search = {"epochs": epochs, "batch_size": batch_size, "lr": learning_rate, "seed": seed}
    lab = _Lab(opened, pairs, names[0])
    _check_ranks(ranks, lab.width)
    found = {rank: lab.search(split.train, rank, search) for rank in sorted(set(ranks))}
    scores = {rank: float(lab.hits(lab.swap(each.basis), split.valid).mean()) for rank, each in found.items()}
    rank = max(scores, key=lambda number: (scores[number], -number))
    learned = lab.swap(found[rank].basis)

    hits = {NO_CHANGE: lab.hits(lab.swap(found[rank].basis, strength=0.0), split.test)}
    hits[WHOLE_SITE] = lab.hits(lab.swap(torch.eye(lab.width)), split.test)
    hits[LEARNED] = lab.hits(learned, split.test)
    randoms = [lab.tools.random_basis(lab.width, rank, seed * 7919 + draw) for draw in range(num_random)]
    hits[RANDOM] = _mean(lab.hits(lab.swap(basis), split.test) for basis in randoms)
    matched = (lab.tools.NormMatchedPlacebo(learned, basis) for basis in randoms)
    hits[EQUAL_LENGTH] = _mean(lab.hits(each, split.test) for each in matched)
    elsewhere = {SHUFFLED: _Lab(opened, pairs.shuffled(split, seed=seed), names[0])}
    elsewhere |= {f"{UNTRAINED} {number}": _Lab(net, pairs, names[0]) for number, net in enumerate(untrained)}
    for name, other in elsewhere.items():
        hits[name] = other.hits(other.swap(other.search(split.train, rank, search).basis), split.test)
    return _conclude(names[0], found[rank], hits, pairs.level_ids[split.test].numpy(), seed)


def interchange(cache: Cache, address: Address, basis: Tensor) -> Edit:
    """Put in what another run had inside a subspace, at the same site, step and squares; the rest stays as it is.

    basis (C, R) orthonormal; of full rank this is `patch_from`. Raises: ShapeError (not orthonormal; other channels).
    """
    gram = basis.T @ basis
    if not torch.allclose(gram, torch.eye(len(gram)).to(gram), atol=1e-4):
        raise ShapeError("the basis of a subspace must be orthonormal, (C, R) with R <= C: torch.linalg.qr(basis).Q.")

    def swap(value: Tensor, moment: Moment) -> Tensor:
        if value.shape[1] != len(basis):
            raise ShapeError(f"a basis of {len(basis)} channels at '{moment.site}' of shape {tuple(value.shape)}.")
        change = (cache.at(moment.site, moment.step).to(value) - value).movedim(1, -1)
        return value + (change @ basis.to(value) @ basis.to(value).T).movedim(-1, 1)

    return Edit(address, swap)


class _Lab:
    """One net, one site and N pairs, as TransformerLens' tool wants them: inputs are row numbers, base then source."""

    def __init__(self, opened: OpenedPolicy, pairs: InterchangePairs, site: str) -> None:
        self.opened, self.pairs, self.site = opened, pairs, site
        self.tools: Any = lens_interchange()
        opened.eval()
        observations = torch.cat([pairs.base, pairs.source])
        self.memory = _remember(opened, observations[:, :-1])
        self.last = observations[:, -1]
        self.sources = self._collect(torch.arange(len(pairs), 2 * len(pairs)), pairs.source_squares)
        self.width = self.sources.shape[1]

    def search(self, rows: Tensor, rank: int, options: dict) -> Any:
        """Distributed alignment search on some pairs (N,) bool."""
        ids, pairs = rows.nonzero().squeeze(1), self.pairs
        squares = {}
        if pairs.base_squares is not None and pairs.source_squares is not None:
            squares = {"base_positions": pairs.base_squares[ids], "source_positions": pairs.source_squares[ids]}
        return self.tools.fit_das(
            self.opened, self.site, ids, ids + len(pairs), pairs.targets[ids], self._logits, rank=rank, **squares,
            **options,
        )  # fmt: skip

    def swap(self, basis: Tensor, *, strength: float = 1.0) -> Any:
        return self.tools.SubspaceInterchange(basis, strength)

    def hits(self, intervention: Any, rows: Tensor) -> np.ndarray:
        """1 where the net gives the target, (rows,)."""
        ids, squares = rows.nonzero().squeeze(1), self.pairs.base_squares
        logits = self.tools.intervened_logits(
            self.opened, self.site, intervention, ids, self.sources[ids], self._logits,
            positions=None if squares is None else squares[ids],
        )  # fmt: skip
        return (logits.argmax(1) == self.pairs.targets[ids].cpu()).double().numpy()

    def _collect(self, rows: Tensor, squares: Tensor | None) -> Tensor:
        return self.tools.collect_activations(self.opened, self.site, rows, self._logits, positions=squares)

    def _logits(self, rows: Tensor) -> Tensor:
        return self.opened.step(self.last[rows], tuple(part[rows] for part in self.memory))[0]


@torch.no_grad()
def _remember(opened: OpenedPolicy, observations: Tensor) -> State:
    """Memory after T steps, observations (N, T, C, H, W)."""
    memory = opened.initial_state(len(observations), board_size(observations))
    for step in range(observations.shape[1]):
        _, _, memory = opened.step(observations[:, step], memory)
    return memory


def _conclude(site: str, found: Any, hits: dict[str, np.ndarray], level_ids: np.ndarray, seed: int) -> SubspaceFit:
    _, level_index = np.unique(level_ids, return_inverse=True)
    counts = np.bincount(level_index).astype(np.float64)
    sums = {name: np.stack([np.bincount(level_index, weights=values), counts], axis=1) for name, values in hits.items()}
    effects = {name: cluster_bootstrap(part, ratio, unit=UNIT, seed=seed) for name, part in sums.items()}
    controls = [name for name in sums if name not in (NO_CHANGE, WHOLE_SITE, LEARNED)]
    best, beyond = difference_over_best(
        sums[LEARNED], {name: sums[name] for name in controls}, ratio, unit=UNIT, seed=seed
    )
    rows: list[Row] = []
    lead = {name: bootstrap_difference(sums[LEARNED], part, ratio, unit=UNIT, seed=seed) for name, part in sums.items()}
    for name, effect in effects.items():
        less = lead[name]
        rows.append(
            {
                "site": site, "rank": found.rank, "condition": name, "num_levels": effect.n,
                "num_pairs": len(level_ids), "hits": effect.value, "hits_low": effect.low, "hits_high": effect.high,
                "learned_minus_this": less.value, "learned_minus_this_low": less.low,
                "learned_minus_this_high": less.high,
            }
        )  # fmt: skip
    return SubspaceFit(
        site=site, basis=found.basis, effect=effects[LEARNED], controls={name: effects[name] for name in controls},
        best_control=best, beyond=beyond, beyond_site=lead[WHOLE_SITE], losses=found.losses, rows=rows,
    )  # fmt: skip


def _mean(parts) -> np.ndarray:
    return np.mean(list(parts), axis=0)


def _check_ranks(ranks: Sequence[int], width: int) -> None:
    if not ranks or min(ranks) < 1 or max(ranks) > width:
        raise ShapeError(f"ranks {tuple(ranks)} at a site of {width} channels: choose from 1 to {width}.")
