"""Policies for Bernoulli bandits with uniform priors, as chances of each arm given the counts: `CountPolicy`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.special import betainc, betaln, xlog1py, xlogy
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.subjects.references.bandit_values import CountPolicy, posterior_mean, spread_ties

BLOCK = 4096  # histories whose integrals are worked out together


def random_policy(successes: Tensor, failures: Tensor) -> Tensor:
    """Every arm equally likely."""
    return torch.full(successes.shape, 1 / successes.shape[1], dtype=torch.float64)


def greedy_policy(successes: Tensor, failures: Tensor) -> Tensor:
    """The arm with the highest posterior mean, ties at random."""
    return spread_ties(posterior_mean(successes, failures))


def thompson_policy(successes: Tensor, failures: Tensor) -> Tensor:
    """The chance that each arm is the best one given the counts: what posterior sampling does on every pull.

    Exact: with whole-number counts the integral over the best mean is of a polynomial, so Gauss-Legendre has no error.
    """
    most = int((successes + failures).max()) if successes.numel() else 0
    degree = int((successes + failures).sum(1).max()) + successes.shape[1] if successes.numel() else 0
    # rounded up, so that a trial needs few tables
    density, below, weights = _beta_tables(_round_up(most), _round_up(degree))
    parts = []
    for hits, misses in zip(successes.split(BLOCK), failures.split(BLOCK), strict=True):
        lower = below[hits, misses]
        others = torch.stack([lower[:, _all_but(k, lower.shape[1])].prod(1) for k in range(lower.shape[1])], dim=1)
        parts.append((density[hits, misses] * others * weights).sum(2))
    return torch.cat(parts) if parts else successes.to(torch.float64)


def ucb1_policy(exploration: float = 2.0) -> CountPolicy:
    """UCB1: every arm once, then the highest mean + sqrt(exploration * ln n / n_k); published figures often tune it.

    Source: Auer et al. 2002.
    """

    def policy(successes: Tensor, failures: Tensor) -> Tensor:
        pulls = (successes + failures).to(torch.float64)
        total = pulls.sum(1, keepdim=True).clamp(min=1)
        bonus = (exploration * total.log() / pulls.clamp(min=1)).sqrt()
        return spread_ties(torch.where(pulls > 0, successes / pulls.clamp(min=1) + bonus, torch.inf))

    return policy


def gittins_policy(gamma: float, max_pulls: int) -> CountPolicy:
    """The arm with the highest Gittins index; up to `max_pulls` pulls of one arm."""
    table = gittins_indices(max_pulls, gamma)

    def policy(successes: Tensor, failures: Tensor) -> Tensor:
        if int((successes + failures).max()) > max_pulls:
            raise ShapeError(f"an arm has more than {max_pulls} pulls; ask for gittins_policy with more.")
        return spread_ties(table[successes, failures])

    return policy


@lru_cache(maxsize=8)
def gittins_indices(max_pulls: int, gamma: float, *, horizon: int = 400, num_rates: int = 201) -> Tensor:
    """Gittins index of Beta(1 + s, 1 + f) for every s + f <= max_pulls: (max_pulls + 1, max_pulls + 1) float64.

    Calibration: the index is the sure payment a pull against which one would as soon pull the arm once more. Values of
    "pull, or retire on the payment" are swept for a grid of payments at once over `horizon` further pulls, after which
    the better of the payment and the posterior mean is taken for ever; the payment at which pulling is worth no more
    than retiring is interpolated. Entries with s + f > max_pulls are NaN.
    Args: gamma: discount in (0, 1). horizon, num_rates (payments on [0, 1]): the defaults give four right digits up to
        gamma = 0.99.
    Raises: ShapeError (gamma outside (0, 1), too few pulls, payments or steps).
    Source: Gittins & Whittle, in Gittins, Glazebrook & Weber 2011, chapter 8.
    """
    if not 0 < gamma < 1 or max_pulls < 0 or num_rates < 3 or horizon < 1:
        raise ShapeError(
            f"needs gamma in (0, 1), pulls, a step and three payments, got gamma = {gamma}, max_pulls = {max_pulls}, "
            f"horizon = {horizon}, num_rates = {num_rates}."
        )
    rates = torch.linspace(0, 1, num_rates, dtype=torch.float64)
    retire = rates / (1 - gamma)
    indices = torch.full((max_pulls + 1, max_pulls + 1), torch.nan, dtype=torch.float64)
    last = max_pulls + horizon
    hits = torch.arange(last + 1)
    values = torch.maximum(retire, posterior_mean(hits, last - hits)[:, None] / (1 - gamma))
    for pulls in reversed(range(last)):
        hits = hits[:-1]
        chance = posterior_mean(hits, pulls - hits)[:, None]
        pull = chance * (1 + gamma * values[1:]) + gamma * (1 - chance) * values[:-1]
        if pulls <= max_pulls:
            indices[hits, pulls - hits] = _crossing(pull - retire, rates)
        values = torch.maximum(pull, retire)
    return indices


def _crossing(advantage: Tensor, rates: Tensor) -> Tensor:
    """Where each falling row of (S, R) becomes 0, by linear interpolation."""
    after = (advantage > 0).sum(1).clamp(1, len(rates) - 1)
    rows = torch.arange(len(advantage))
    above, under = advantage[rows, after - 1], advantage[rows, after]
    return rates[after - 1] + above / (above - under) * (rates[after] - rates[after - 1])


@lru_cache(maxsize=4)
def _beta_tables(max_pulls: int, degree: int) -> tuple[Tensor, Tensor, Tensor]:
    """Density and distribution function (s, f, node) of Beta(1 + s, 1 + f) at Gauss-Legendre nodes, and weights."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    nodes, weights = (nodes + 1) / 2, weights / 2
    a = 1.0 + np.arange(max_pulls + 1)[:, None, None]
    b = 1.0 + np.arange(max_pulls + 1)[None, :, None]
    return (
        torch.from_numpy(np.exp(xlogy(a - 1, nodes) + xlog1py(b - 1, -nodes) - betaln(a, b))),
        torch.from_numpy(betainc(a, b, nodes)),
        torch.from_numpy(weights),
    )


def _round_up(number: int) -> int:
    return -(-number // 16) * 16


def _all_but(k: int, num_arms: int) -> list[int]:
    return [j for j in range(num_arms) if j != k]
