"""Directions of a plan code: one unit vector a class, and the tables of them that controls put in their place.

A table is (5, C): the direction to write for never, up, down, left and right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from planprobe.core.errors import DirectionError, ShapeError
from planprobe.core.grid import BOX, COLUMN_OFFSETS, ROW_OFFSETS, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, play
from planprobe.core.rng import draw_bits
from planprobe.instruments.hooks import OpenedPolicy, capture, select_sites
from planprobe.instruments.steering.route_edits import (
    NUM_CLASSES,
    Convention,
    TwoRoutes,
    free_floor,
    long_squares,
    squares_on,
    swap_routes,
)

MIN_SIZE = 0.05  # singular value of unit vectors, under which they span no further dimension


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
        """The class each square's code says, (B, C, H, W) -> (B, H, W). Raises: DirectionError (no read-out)."""
        if self.weights is None or self.bias is None:
            raise DirectionError(
                "these directions carry no read-out, so no plan can be decoded. Give weights and bias."
            )
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


def wall_directions(opened: OpenedPolicy, make_env: EnvMaker, levels: LevelSet, *, site: str) -> Tensor:
    """Directions of a concept that is no plan, (5, C): no wall beside the square, or one above, below, left, right.

    Any agent codes the walls, and by side, so these are as real and as directional as those of a plan. From the last of
    the sites that match, after the first step on up to BATCH_BOARDS levels.
    Raises: ShapeError (no level with a square of each class).
    """
    levels = levels[:BATCH_BOARDS]
    last = select_sites(opened, site)[-1]
    with capture(opened, last) as cache:
        play(opened, make_env(levels, len(levels)), torch.arange(len(levels)), max_steps=1)
    values = cache[last][:, 0].permute(0, 2, 3, 1).flatten(0, 2)
    return mean_difference_directions(values, wall_sides(levels.boards).flatten(), site=site).vectors


def without_percepts(
    vectors: Tensor, values: Tensor, routes: TwoRoutes, level_ids: Tensor, *, convention: Convention = "entry"
) -> Tensor:
    """Directions (5, C) less what tells a wall, target, box or player from floor, the shorter the more they said of it.

    Walls are never entered and targets are, so a read-out of the plan reads them too; and who finds its way by what it
    sees is kept from a way by a wall that the edit has built, and drawn to another by a target. A plan loses nothing:
    things are compared with floor that is part of the plan just as they are, on the short way or off both ways.

    Args: values (N, H*W, C) in memory, on the levels of `routes`, once the agent has settled; level_ids: those of them
        to look at, as a rule those that strengths are chosen on.
    """
    boards = routes.levels.boards.flatten(1)[level_ids]
    player = squares_on(routes.levels.players[level_ids, None], boards.shape[1])
    planned = squares_on(long_squares(swap_routes(routes), convention)[0], boards.shape[1])[level_ids]
    floor, values = free_floor(routes)[level_ids], values[level_ids]
    plain = (boards == 0) & ~player
    axes = []
    for thing in ((boards & WALL) != 0, (boards & TARGET) != 0, (boards & BOX) != 0, player):
        on_way = bool((thing & planned).any())
        there = thing & (planned if on_way else ~planned)
        beside = plain & (planned if on_way else floor)
        if there.any() and beside.any():
            axes.append(values[there].float().mean(0) - values[beside].float().mean(0))
    _, sizes, basis = torch.linalg.svd(_unit(torch.stack(axes)), full_matrices=False)
    basis = basis[sizes > MIN_SIZE].to(vectors)
    return vectors - vectors @ basis.T @ basis


def wall_sides(boards: Tensor) -> Tensor:
    """Where a wall stands beside each square, (N, H, W) int64: 0 nowhere, 1-4 up, down, left, right; -1 on walls.

    Of several sides one is drawn, so that no side goes before another.
    """
    walls = (boards & WALL) != 0
    height, width = walls.shape[1:]
    framed = pad(walls, (1, 1, 1, 1), value=True)
    sides = torch.stack(
        [framed[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
         for down, right in zip(ROW_OFFSETS, COLUMN_OFFSETS, strict=True)], dim=3,
    )  # fmt: skip
    draws = draw_bits(0, torch.arange(sides.numel()).view(sides.shape)) | 1
    side = 1 + (draws * sides).argmax(3)
    return torch.where(walls, -1, torch.where(sides.any(3), side, 0))


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
