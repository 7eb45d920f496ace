"""Who goes through the values of the latent variable in an order of its own: a rival of who samples from its belief.

On forced histories such an agent acts for the first value in its order that is not ruled out, whatever its belief in
it. Where an order fits the walks, its choices look like those of a sampler or of a maximiser by accident. So an order
is fitted to the choices on half of the histories, by going over them several times, and tried on the other half.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError

ROUNDS, RAREST, SLIP, SURE = 30, 1e-4, 0.05, 0.99


@dataclass(frozen=True)
class Search:
    """H histories, looked at under each of G values of psi.

    belief (H, G) float64: exact. ways (H, G, A) float64: chance of each action of who acts for a value. ids (H,):
    histories of one number, say steps of one trial, stay in one half.
    """

    belief: Tensor
    ways: Tensor
    ids: Tensor

    def __post_init__(self) -> None:
        if self.ways.shape[:2] != self.belief.shape or self.ids.shape != self.belief.shape[:1]:
            raise ShapeError(
                f"belief {tuple(self.belief.shape)}, ways {tuple(self.ways.shape)}, ids {tuple(self.ids.shape)}: need "
                "(H, G), (H, G, A), (H,)."
            )

    @property
    def num_parameters(self) -> int:
        """Of an order: one weight a value, but for their scale."""
        return self.belief.shape[1] - 1


def fit_search_order(search: Search, choices: Tensor, rows: Tensor) -> Tensor:
    """Weights (G,): how much more often each value is acted for than it is believed in; all alike for who samples.

    Args: choices (H, A), as `mixture.fit_softening`; rows (H,) bool: histories to be fitted to.
    """
    rows = rows & (search.belief.amax(1) < SURE)  # where one value is left there is no order to be seen
    belief, ways, taken = search.belief[rows], search.ways[rows], choices[rows].double()
    ways = (1 - SLIP) * ways + SLIP / ways.shape[2]
    weights = torch.ones(belief.shape[1], dtype=torch.float64)
    for _ in range(ROUNDS):
        held = _weighted(belief, weights)
        chances = torch.einsum("hg,hga->ha", held, ways)
        drawn = (held * torch.einsum("hga,ha->hg", ways, taken / chances)).sum(0)
        expected = (held * taken.sum(1, keepdim=True)).sum(0)
        weights = weights * (drawn + 1) / (expected + 1)
        weights = (weights / weights.max()).clamp(min=RAREST)
    return weights


def score_in_order(search: Search, choices: Tensor) -> Tensor:
    """Log chances (H, A) of each action of who draws from the belief weighted by its order, the order of each half of
    the histories fitted to the other half."""
    _, index = search.ids.unique(return_inverse=True)
    half = index % 2 == 0
    scores = torch.empty(search.ways.shape[0], search.ways.shape[2], dtype=torch.float64)
    for own in (half, ~half):
        held = _weighted(search.belief[own], fit_search_order(search, choices, ~own))
        scores[own] = torch.einsum("hg,hga->ha", held, search.ways[own]).log()
    return scores


def score_strictly(search: Search, weights: Tensor) -> Tensor:
    """Log chances (H, A) of who always acts for the value of greatest weight that is not ruled out."""
    first = torch.where(search.belief > 0, weights, -1.0).argmax(1)
    return search.ways[torch.arange(len(first)), first].log()


def _weighted(belief: Tensor, weights: Tensor) -> Tensor:
    tilted = belief * weights
    return tilted / tilted.sum(1, keepdim=True)
