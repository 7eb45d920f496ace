"""Attribution patching: a screen that foretells every patch of a map from two forward passes and one backward pass.

The first-order estimate of a patch is gradient x (clean - corrupted), summed over what it names: the gradient of the
logit difference in the corrupted run. It is cheap and can be far off where gates saturate, so its rank agreement with
exact patches, drawn at random from the same map, is reported beside it.
Source: Nanda 2023 (attribution patching); Syed et al. 2023; Kramar et al. 2024 on how it fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, CaptureError
from planprobe.core.grid import board_size
from planprobe.core.pairs import HistoryPairs
from planprobe.core.records import Effect
from planprobe.core.rng import draw_bits
from planprobe.instruments.addresses import Address, Moment, region, select_sites, step_filter
from planprobe.instruments.edits import Edit
from planprobe.instruments.hooks import OpenedPolicy, capture, intervene
from planprobe.instruments.patching.effects import PatchEffects, logit_difference
from planprobe.instruments.patching.patches import Patch, patched_pairs
from planprobe.instruments.patching.patching import (
    BLOCK_PAIRS,
    OnProgress,
    PairRuns,
    check_patches,
    patch_pairs,
    precision,
    record_pairs,
)
from planprobe.instruments.statistics.resampling import draw_weights

FEWEST_PATCHES = 3  # below that a rank correlation says nothing
_SAMPLE = 321  # stream of the counter-based draws

Firing = tuple[str, int]
"""(site, clock step): one value of one run. A site of a tick fires once a step."""


@dataclass(frozen=True)
class Screen:
    """A map screened by attribution, and exact effects of some of its patches.

    estimates: (J, N) foretold change of the logit difference, every patch. exact: effects of the chosen patches, with
    their estimates. chosen: (M,) int64 ids among the J. drawn: (M,) bool, chosen at random, not for a large estimate.
    agreement: Spearman correlation over the patches drawn at random, 95 % interval over levels.
    """

    patches: list[Patch]
    estimates: Tensor
    exact: PatchEffects
    chosen: Tensor
    drawn: Tensor
    agreement: Effect


def screen_patches(
    opened: OpenedPolicy,
    pairs: HistoryPairs,
    patches: Sequence[Patch],
    *,
    num_exact: int | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    **options,
) -> Screen:
    """Estimate every patch; patch exactly all of them, or a random half of `num_exact` and the largest estimates.

    Args: options of `patch_pairs`; its source must be 'patch', of which attribution is the first order.
    Raises: as `patch_pairs`; AddressError (fewer exact patches than 2).
    """
    if options.get("source", "patch") != "patch":
        raise AddressError(f"attribution foretells source='patch', not '{options['source']}'. Patch exactly instead.")
    num_exact = len(patches) if num_exact is None else min(num_exact, len(patches))
    if num_exact < min(2, len(patches)):
        raise AddressError(f"num_exact={num_exact}: at least 2, half of them drawn at random, half for their estimate.")
    estimates = attribute_patches(opened, pairs, patches)
    chosen, drawn = _choose(estimates, num_exact, seed)
    exact = patch_pairs(
        opened, pairs, [patches[number] for number in chosen.tolist()], seed=seed, on_progress=on_progress, **options
    )
    exact = replace(exact, estimates=estimates[chosen])
    return Screen(list(patches), estimates, exact, chosen, drawn, rank_agreement(exact, drawn, seed=seed))


def attribute_patches(opened: OpenedPolicy, pairs: HistoryPairs, patches: Sequence[Patch]) -> Tensor:
    """First-order change of the logit difference, (J, N) float64; nan where a patch names nothing on that pair.

    A patch over firings that feed each other is the sum of their estimates, and counts twice what runs through both.
    Raises: UnknownSiteError; ShapeError, AddressError (a patch does not fit its site, or names no step of the runs);
        CaptureError (a site fires more than once a step).
    """
    check_patches(opened, pairs, patches)
    sites = select_sites(opened, [patch.address.site for patch in patches])
    parts = []
    for ids in torch.arange(len(pairs)).split(BLOCK_PAIRS):
        runs = record_pairs(opened, pairs, sites, ids)
        products = _first_order(opened, runs, sites)
        parts.append(torch.stack([_sum_over(opened, runs, products, patch.address) for patch in patches]))
    named = patched_pairs(patches, len(pairs))
    return torch.cat(parts, dim=1).double().cpu().masked_fill(~named, np.nan)


def rank_agreement(
    effects: PatchEffects, which: Tensor | None = None, *, num_resamples: int = 500, seed: int = 0
) -> Effect:
    """Spearman correlation over patches of estimated and exact mean change, with a percentile interval over levels.

    Args: effects with estimates; which: (J,) bool, patches that count. nan with fewer than three patches or two levels.
    """
    from scipy.stats import rankdata

    if effects.estimates is None:
        raise AddressError("these effects have no estimates: make them with screen_patches.")
    which = torch.ones(len(effects.patches), dtype=torch.bool) if which is None else which
    _, places = effects.level_ids.unique(return_inverse=True)
    num_levels = int(places.max()) + 1
    both = torch.stack([effects.estimates[which], effects.change("logit-difference")[which]])
    if both.shape[1] < FEWEST_PATCHES:
        return Effect(np.nan, np.nan, np.nan, num_levels, "Spearman")
    known = ~both.isnan()
    sums = torch.stack([both.nan_to_num(), known.double()])  # (2, 2, J, N)
    sums = sums.new_zeros(*sums.shape[:3], num_levels).index_add_(3, places, sums).numpy()

    def correlate(weights: np.ndarray) -> np.ndarray:
        above, below = np.einsum("kejl,rl->kerj", sums, weights)
        ranks = rankdata(above / np.maximum(below, 1e-12), axis=2)
        ranks -= ranks.mean(2, keepdims=True)
        size = np.sqrt((ranks**2).sum(2).prod(0))
        return np.divide((ranks[0] * ranks[1]).sum(1), size, out=np.full(len(weights), np.nan), where=size > 0)

    value = float(correlate(np.ones((1, num_levels)))[0])
    low = high = np.nan
    if num_levels >= 2:
        resampled = correlate(draw_weights(num_levels, num_resamples, seed))
        low, high = np.nanquantile(resampled, [0.025, 0.975]) if not np.isnan(resampled).all() else (np.nan, np.nan)
    return Effect(value, float(low), float(high), num_levels, "Spearman")


def _first_order(opened: OpenedPolicy, runs: PairRuns, sites: Sequence[str]) -> dict[Firing, Tensor]:
    """Gradient of the logit difference x (clean - corrupted), (B, ...), of each firing by itself."""
    probes: dict[Firing, Tensor] = {}

    def add_probe(value: Tensor, moment: Moment) -> Tensor:
        # one zero a firing: its gradient is that of the very value it was added to, and of no other
        firing = (moment.site, moment.step)
        if firing in probes:
            raise CaptureError(f"site '{moment.site}' fired twice in step {moment.step}: gradients would be mixed up.")
        probes[firing] = torch.zeros_like(value, requires_grad=True)
        return value + probes[firing]

    pairs = runs.pairs
    state, logits = opened.initial_state(len(pairs), board_size(pairs.clean)), torch.empty(0)
    edits = [Edit(Address(site), add_probe) for site in sites]
    with torch.enable_grad(), intervene(opened, edits), capture(opened, sites, dtype=precision(opened)) as corrupted:
        for observation in pairs.corrupted.unbind(1):
            logits, _, state = opened.step(observation, state)
        total = logit_difference(logits, pairs).sum()
        gradients = torch.autograd.grad(total, list(probes.values()), allow_unused=True)
    return {
        (site, step): torch.zeros_like(probe)
        if gradient is None
        # scores that a mask sets to minus infinity in both runs do not differ
        else gradient * (runs.clean.at(site, step) - corrupted.at(site, step)).nan_to_num(0.0, torch.inf, -torch.inf)
        for ((site, step), probe), gradient in zip(probes.items(), gradients, strict=True)
    }


def _sum_over(opened: OpenedPolicy, runs: PairRuns, products: dict[Firing, Tensor], address: Address) -> Tensor:
    """Sum of the addressed entries of every addressed firing, (B,)."""
    wanted = step_filter(address.steps)
    total = torch.zeros(len(runs))
    for site in select_sites(opened, address.site):
        for step in range(runs.pairs.num_steps):
            if not wanted(step):
                continue
            product = products[site, step].detach()
            named = region(address, site, product, board_ids=runs.ids)
            product = product if named is None else product * named
            total = total + product.reshape(len(product), -1).sum(1).cpu()  # a value is one number a board
    return total


def _choose(estimates: Tensor, num_exact: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ids to patch exactly, ascending, and which of them were drawn at random."""
    num_patches = len(estimates)
    if num_exact == num_patches:
        return torch.arange(num_patches), torch.ones(num_patches, dtype=torch.bool)
    random = draw_bits(seed, _SAMPLE, torch.arange(num_patches)).argsort()[: (num_exact + 1) // 2]
    size = estimates.nanmean(1).abs().nan_to_num(-1.0)
    size[random] = -2.0
    largest = size.argsort(descending=True, stable=True)[: num_exact - len(random)]
    chosen = torch.cat([random, largest]).sort().values
    return chosen, torch.isin(chosen, random)
