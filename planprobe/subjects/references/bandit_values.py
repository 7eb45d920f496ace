"""Exact values of Bernoulli bandits with uniform priors: Bayes-optimal, and of any policy that looks at the counts.

What has been seen of K arms is 2K counts. All counts with n pulls form one layer; values are swept from the last pull
back to the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError

CountPolicy = Callable[[Tensor, Tensor], Tensor]
"""(successes (N, K) int64, failures (N, K) int64) -> chance of each arm (N, K) float64."""

MAX_STATES = 20_000_000
TIE = 1e-9  # values closer than this are equal: the difference is rounding


@dataclass(frozen=True)
class BanditValues:
    """Expected return to go after every history of a K-armed bandit with `num_pulls` pulls.

    codes: (S,) int64, ascending, the 2K counts as one number. q: (S, K) float64, of pulling each arm next.
    optimal_return: from the start.
    """

    num_arms: int
    num_pulls: int
    codes: Tensor
    q: Tensor
    optimal_return: float

    def q_values(self, successes: Tensor, failures: Tensor) -> Tensor:
        """Return to go of pulling each arm next and going on as well as can be, (N, K) float64.

        Args: successes, failures: (N, K) int64, fewer than `num_pulls` pulls in all.
        Raises: ShapeError (other arms, or more pulls than there are).
        """
        codes = torch.cat([successes, failures], dim=1) @ _radix(self.num_arms, self.num_pulls)
        rows = torch.searchsorted(self.codes, codes).clamp(max=len(self.codes) - 1)
        if successes.shape[1] != self.num_arms or not torch.equal(self.codes[rows], codes):
            raise ShapeError(f"these are not counts of {self.num_arms} arms with a pull left of {self.num_pulls}.")
        return self.q[rows]

    def policy(self, successes: Tensor, failures: Tensor) -> Tensor:
        """The Bayes-optimal policy, a `CountPolicy`; equally good arms are equally likely."""
        return spread_ties(self.q_values(successes, failures))


@lru_cache(maxsize=8)
def bayes_values(num_arms: int, num_pulls: int) -> BanditValues:
    """Values of the Bayes-adaptive optimum by dynamic programming over all counts. Raises: ShapeError (too many)."""
    layers = _layers(num_arms, num_pulls)
    values = torch.zeros(len(layers[-1]), dtype=torch.float64)
    tables = []
    for n in reversed(range(num_pulls)):
        q = _back_up(values, layers[n], layers[n + 1], num_arms, num_pulls)
        tables.append(q)
        values = q.amax(1)
    codes, order = torch.cat(layers[:-1]).sort()
    return BanditValues(num_arms, num_pulls, codes, torch.cat(tables[::-1])[order], float(values))


def policy_return(policy: CountPolicy, num_arms: int, num_pulls: int) -> float:
    """Expected return of a policy from the start, exact. Raises: ShapeError (too many counts)."""
    layers = _layers(num_arms, num_pulls)
    values = torch.zeros(len(layers[-1]), dtype=torch.float64)
    for n in reversed(range(num_pulls)):
        counts = _counts(layers[n], num_arms, num_pulls)
        chances = policy(counts[:, :num_arms], counts[:, num_arms:])
        values = (chances * _back_up(values, layers[n], layers[n + 1], num_arms, num_pulls)).sum(1)
    return float(values)


def policy_divergence(policy: CountPolicy, num_arms: int, num_pulls: int) -> float:
    """Mean over pulls of KL(Bayes-optimal policy || policy), in nats, on the histories of Bayes-optimal play.

    Infinite where the policy never does what the optimum may do.
    """
    values, layers = bayes_values(num_arms, num_pulls), _layers(num_arms, num_pulls)
    reach, total = torch.ones(1, dtype=torch.float64), 0.0
    for n in range(num_pulls):
        counts = _counts(layers[n], num_arms, num_pulls)
        successes, failures = counts[:, :num_arms], counts[:, num_arms:]
        best = values.policy(successes, failures)
        divergence = (torch.special.xlogy(best, best) - torch.special.xlogy(best, policy(successes, failures))).sum(1)
        total += float((reach * divergence)[reach > 0].sum())
        paid, lost = _children(layers[n], layers[n + 1], num_arms, num_pulls)
        chance = posterior_mean(successes, failures)
        following = torch.zeros(len(layers[n + 1]), dtype=torch.float64)
        for children, luck in ((paid, chance), (lost, 1 - chance)):
            following.scatter_add_(0, children.flatten(), (reach[:, None] * best * luck).flatten())
        reach = following
    return total / num_pulls


def posterior_mean(successes: Tensor, failures: Tensor) -> Tensor:
    """Mean of Beta(1 + successes, 1 + failures), float64."""
    return (1 + successes).to(torch.float64) / (2 + successes + failures)


def spread_ties(scores: Tensor) -> Tensor:
    """The same chance for every arm whose score (N, K) is the highest of its row."""
    best = scores >= scores.amax(1, keepdim=True) - TIE
    return best.to(torch.float64) / best.sum(1, keepdim=True)


def _back_up(values: Tensor, layer: Tensor, following: Tensor, num_arms: int, num_pulls: int) -> Tensor:
    """(S, K) values of each pull from the values of the layer that follows."""
    counts = _counts(layer, num_arms, num_pulls)
    chance = posterior_mean(counts[:, :num_arms], counts[:, num_arms:])
    paid, lost = _children(layer, following, num_arms, num_pulls)
    return chance * (1 + values[paid]) + (1 - chance) * values[lost]


def _children(layer: Tensor, following: Tensor, num_arms: int, num_pulls: int) -> tuple[Tensor, Tensor]:
    """Rows (S, K) of the next layer after a pull that paid, and after one that did not."""
    children = torch.searchsorted(following, layer[:, None] + _radix(num_arms, num_pulls))
    return children[:, :num_arms], children[:, num_arms:]


def _counts(codes: Tensor, num_arms: int, num_pulls: int) -> Tensor:
    """(S, 2K) int64: successes of every arm, then failures."""
    return codes[:, None] // _radix(num_arms, num_pulls) % (num_pulls + 1)


def _radix(num_arms: int, num_pulls: int) -> Tensor:
    return (num_pulls + 1) ** torch.arange(2 * num_arms)


@lru_cache(maxsize=8)
def _layers(num_arms: int, num_pulls: int) -> list[Tensor]:
    """Codes of all counts with 0, 1, ... num_pulls pulls, each ascending."""
    number = 1
    for i in range(2 * num_arms):  # binomial(num_pulls + 2K, 2K), without overflow
        number = number * (num_pulls + i + 1) // (i + 1)
    if number > MAX_STATES or (num_pulls + 1) ** (2 * num_arms) >= 2**63:
        raise ShapeError(
            f"{num_arms} arms and {num_pulls} pulls have {number:,} histories, more than {MAX_STATES:,}. "
            "Use fewer of either, or simulate with play_reference."
        )
    layers = [torch.zeros(1, dtype=torch.int64)]
    for _ in range(num_pulls):
        layers.append((layers[-1][:, None] + _radix(num_arms, num_pulls)).unique())
    return layers
