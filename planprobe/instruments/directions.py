"""Directions of a plan code: one unit vector a class, and the tables of them that controls put in their place.

A table is (5, C): the direction to write for never, up, down, left and right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import DirectionError, ShapeError
from planprobe.instruments.route_edits import NUM_CLASSES, Convention


@dataclass(frozen=True)
class PlanDirections:
    """Where and how a plan is written: one direction a class.

    vectors: (5, C) of unit norm, for never, up, down, left, right. site: pattern of the sites to edit, as a rule the
    cell state of one layer at all ticks ('ticks.*.0.hook_c'). convention: a square's class is the move that *enters* it
    ('entry') or that *leaves* it ('exit'). weights (5, C), bias (5,): the linear read-out of the plan; without it the
    decoded plan is not reported.
    Raises: ShapeError (other axes); DirectionError (not of norm 1).
    """

    vectors: Tensor
    site: str
    convention: Convention = "entry"
    weights: Tensor | None = None
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != NUM_CLASSES:
            raise ShapeError(
                f"directions of shape {tuple(self.vectors.shape)}: needs ({NUM_CLASSES}, C), for never, up, down, left "
                "and right."
            )
        norms = self.vectors.norm(dim=1)
        if not torch.allclose(norms, torch.ones_like(norms), atol=1e-3):
            raise DirectionError(
                f"directions have norms {[round(norm, 4) for norm in norms.tolist()]} and need norm 1, or alpha is no "
                "strength.\n  Make them with probe_directions or mean_difference_directions."
            )

    def read(self, values: Tensor) -> Tensor:
        """The class each square's code says, (B, C, H, W) -> (B, H, W)."""
        scores = torch.einsum("kc,bchw->bkhw", self.weights.to(values), values)
        return (scores + self.bias.to(values)[:, None, None]).argmax(1)


def probe_directions(
    weights: Tensor, bias: Tensor | None = None, *, site: str, convention: Convention = "entry"
) -> PlanDirections:
    """Directions of a linear probe, weights (5, C): each class against the mean of all: only differences count."""
    weights = weights.detach().float()
    bias = torch.zeros(len(weights)) if bias is None else bias.detach().float()
    return PlanDirections(_unit(weights - weights.mean(0)), site, convention, weights, bias)


def mean_difference_directions(
    values: Tensor, labels: Tensor, *, site: str, convention: Convention = "entry"
) -> PlanDirections:
    """Mean of a class minus the mean over the other classes, each class counted alike; the alternative to a probe.

    It is read out by the nearest class mean. Args: values (N, C), labels (N,) in 0..4, -1 left out.
    Raises: ShapeError (a class without rows).
    """
    counts = [int((labels == number).sum()) for number in range(NUM_CLASSES)]
    if min(counts) == 0:
        raise ShapeError(f"rows of the {NUM_CLASSES} classes: {counts}; every class needs some. Take more states.")
    means = torch.stack([values[labels == number].float().mean(0) for number in range(NUM_CLASSES)])
    others = (means.sum(0) - means) / (NUM_CLASSES - 1)
    return PlanDirections(_unit(means - others), site, convention, means, -0.5 * means.pow(2).sum(1))


def random_tables(num_tables: int, num_channels: int, *, seed: int) -> Tensor:
    """Random unit directions in place of fitted ones, (num_tables, 5, C); more of them start with the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return _unit(torch.randn(num_tables, NUM_CLASSES, num_channels, generator=generator))


def permuted_tables(vectors: Tensor, num_tables: int, *, seed: int) -> Tensor:
    """The right directions under wrong names, (num_tables, 5, C): no class keeps its own."""
    generator = torch.Generator().manual_seed(seed)
    own, tables = torch.arange(NUM_CLASSES), []
    while len(tables) < num_tables:
        order = torch.randperm(NUM_CLASSES, generator=generator)
        if bool((order != own).all()):
            tables.append(vectors[order])
    return torch.stack(tables)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
