"""Every signed graph over three binary variables, and what each of them makes likely.

A variable is 1 with chance sigmoid(strength * sum of signed parents), where a parent counts +1 when it is 1 and -1 when
it is 0 and an edge's sign may turn that round. A hidden cause is a fair coin that two of the variables listen to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

NUM_NODES = 3
NUM_OUTCOMES = 2**NUM_NODES
NUM_SETTINGS = 1 + 2 * NUM_NODES
"""Setting 0 only observes; setting 1 + 2 i + v holds variable i at v."""
_PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class GraphSet:
    """G graphs. edges (G, 3 from, 3 to) in {-1, 0, 1}; causes (G, 3): sign with which each variable listens to the
    hidden cause, 0 where it does not; outcomes (G, 7 settings, 8 outcomes) float64: bit i of an outcome is variable i.
    """

    edges: Tensor
    causes: Tensor
    outcomes: Tensor

    def __len__(self) -> int:
        return len(self.edges)

    def chance_one(self) -> Tensor:
        """P(variable i is 1) in every graph under every setting, (G, 7, 3) float64."""
        return self.outcomes @ outcome_values().to(torch.float64)


def outcome_values() -> Tensor:
    """The three variables of every outcome, (8, 3) int64."""
    return torch.arange(NUM_OUTCOMES)[:, None] >> torch.arange(NUM_NODES) & 1


@lru_cache(maxsize=8)
def list_graphs(confounded: bool, strength: float) -> GraphSet:
    """All 109 signed acyclic graphs, or those with every hidden cause of two variables (654).

    The sign of a hidden fair coin means nothing, so only whether its two variables listen alike is told apart.
    """
    pairs = [(i, j) for i in range(NUM_NODES) for j in range(NUM_NODES) if i != j]
    graphs = torch.zeros(3 ** len(pairs), NUM_NODES, NUM_NODES, dtype=torch.int64)
    for (source, target), signs in zip(pairs, zip(*product((-1, 0, 1), repeat=len(pairs)), strict=True), strict=True):
        graphs[:, source, target] = torch.tensor(signs)
    linked = (graphs != 0).to(torch.int64)
    # three nodes have a cycle exactly where a walk of two or three edges comes home
    walks = linked @ linked
    home = (walks + walks @ linked).diagonal(dim1=1, dim2=2).sum(1)
    edges = graphs[home == 0]
    causes = torch.zeros(1, NUM_NODES, dtype=torch.int64)
    if confounded:
        causes = torch.zeros(2 * len(_PAIRS), NUM_NODES, dtype=torch.int64)
        for row, ((first, second), sign) in enumerate(product(_PAIRS, (-1, 1))):
            causes[row, first], causes[row, second] = 1, sign
    edges, causes = edges.repeat_interleave(len(causes), 0), causes.repeat(len(edges), 1)
    return GraphSet(edges, causes, _outcomes(edges, causes, strength))


def _outcomes(edges: Tensor, causes: Tensor, strength: float) -> Tensor:
    values = outcome_values()
    signed = (2 * values - 1).to(torch.float64)
    drive = torch.einsum("oi,gij->goj", signed, edges.to(torch.float64))
    held = torch.arange(NUM_NODES) == (torch.arange(NUM_SETTINGS)[:, None] - 1) // 2  # (7, 3)
    held[0] = False
    held_at = (torch.arange(NUM_SETTINGS) - 1) % 2
    agrees = (values[None] == held_at[:, None, None]).to(torch.float64)  # (7, 8, 3)
    total = torch.zeros(len(edges), NUM_SETTINGS, NUM_OUTCOMES, dtype=torch.float64)
    for coin in (-1, 1):
        chance = torch.sigmoid(strength * (drive + coin * causes[:, None]) * signed)  # (G, 8, 3)
        factors = torch.where(held[None, :, None], agrees[None], chance[:, None])
        total += factors.prod(-1) / 2
    return total
