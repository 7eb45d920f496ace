"""Steer a plan: edit its code on two-route levels and see which way the agent goes.

Left alone, the agent leaves by the short way. An edit adds a direction to the plan code on a few squares, at every
tick, until the agent has left its start: 'block' writes *never* on the first squares of the short way, 'direct' writes
the moves of the long way on its first squares, 'both' does both. The factorial matters: in published results blocking
alone explains almost everything, and random directions had a success of .28 with a spread of .38 over five draws.

Random, permuted and fitted directions are tables of the same shape, so levels x tables are the boards of one batch.
Source: agent-shortcut levels of Bush et al. 2025.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from planprobe.core.errors import AddressError
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, Rollout, play, take_boards
from planprobe.core.protocols import Env, HasPlayers, State
from planprobe.instruments.hooks import Address, Cache, Edit, Moment, OpenedPolicy, capture, intervene, select_sites
from planprobe.instruments.steering.directions import PlanDirections
from planprobe.instruments.steering.route_edits import (
    PAD,
    RouteEdits,
    TwoRoutes,
    long_squares,
    players_elsewhere,
    swap_routes,
)


@dataclass(frozen=True)
class Steered:
    """What N levels x D tables came to; (N, D) float64 each.

    took_long, took_short: the first square the agent left for, within `SteeringPlan.leave_steps`, was that of the long,
    or short, way. agreement: share of the long way's squares visited in their order. solved, num_steps: within
    `SteeringPlan.step_limits`.
    long_decoded, short_decoded: after the last tick before the first action, share of squares of one way only, beyond
    the edited ones, whose code says the move of that way; nan where there are none, or no read-out.
    """

    took_long: Tensor
    took_short: Tensor
    agreement: Tensor
    solved: Tensor
    num_steps: Tensor
    long_decoded: Tensor
    short_decoded: Tensor


@dataclass(frozen=True)
class SteeringPlan:
    """How edits are applied, the same for every arm.

    num_squares: edited on each way. steps: clock steps with the edit; None = until the agent has left its start.
    thinking_steps: before the first action, edited too. spare_steps: an episode may take so many more than the long
    way (in Sokoban, where both ways end at the first push, the rest of the solution too). leave_steps: within which an
    agent must leave its start to have taken a way. leaving_only: stop there, where nothing later matters; only
    `took_long`, `took_short` and what is decoded mean anything then. num_boards: in one batch.
    """

    num_squares: int = 3
    steps: int | None = None
    thinking_steps: int = 0
    spare_steps: int = 6
    leave_steps: int = 6
    leaving_only: bool = False
    num_boards: int = BATCH_BOARDS

    def step_limits(self, routes: TwoRoutes) -> Tensor:
        """Steps that each level's episode may take, (N,) int64."""
        limits = (routes.long_route >= 0).sum(1) - 1 + self.spare_steps
        return limits.clamp(max=self.leave_steps) if self.leaving_only else limits


@torch.no_grad()
def settle(opened: OpenedPolicy, make_env: EnvMaker, levels: LevelSet, *, steps: int) -> State | None:
    """Memory of every level after thinking on it with nothing edited, (N, ...) each; None for no steps.

    Worked out once, whatever is written into it later.
    """
    if not steps:
        return None
    parts = []
    for ids in torch.arange(len(levels)).split(BATCH_BOARDS):
        observation = make_env(levels, len(ids)).reset(ids)
        memory = opened.initial_state(len(ids), (levels.height, levels.width))
        for _ in range(steps):
            memory = opened.step(observation, memory)[2]
        parts.append(memory)
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def settled_values(
    opened: OpenedPolicy, make_env: EnvMaker, levels: LevelSet, site: str, memory: State | None
) -> Tensor:
    """What stands at a site, the last of those that match, one step after `memory`, (N, H*W, C)."""
    last, parts = select_sites(opened, site)[-1], []
    for ids in torch.arange(len(levels)).split(BATCH_BOARDS):
        with capture(opened, last) as cache:
            play(opened, make_env(levels, len(ids)), ids, max_steps=1, initial_state=_of_levels(memory, ids))
        parts.append(cache[last][:, 0].flatten(2).transpose(1, 2).cpu())
    return torch.cat(parts)


def steer_routes(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    routes: TwoRoutes,
    level_ids: Tensor,
    edits: RouteEdits,
    tables: Tensor,
    *,
    directions: PlanDirections,
    plan: SteeringPlan,
    memory: State | None = None,
) -> Steered:
    """Play every chosen level under every table.

    Args: level_ids (M,), rows of `routes`; tables (D, 5, C), strength included: a unit direction times alpha; memory:
        to begin with on each level of `routes`, as `settle` makes it; None = blank.
    """
    num_tables, limits = len(tables), plan.step_limits(routes)
    read_at = select_sites(opened, directions.site)[-1] if directions.weights is not None else None
    # a batch runs as long as its longest episode, so levels of one length go together
    order = limits[level_ids].argsort(stable=True)
    sorted_ids, parts = level_ids[order], []
    for rows in torch.arange(len(level_ids) * num_tables).split(plan.num_boards):
        ids, table_ids = sorted_ids[rows // num_tables], rows % num_tables
        env = make_env(routes.levels, len(rows))
        with ExitStack() as stack:
            push = _make_push(env, routes.levels, edits, tables, ids, table_ids, plan)
            stack.enter_context(intervene(opened, [Edit(Address(directions.site), push)]))
            cache = None
            if read_at is not None:
                cache = stack.enter_context(capture(opened, read_at, steps=[plan.thinking_steps]))
            rollout = play(
                opened, env, ids, thinking_steps=plan.thinking_steps, max_steps=int(limits[ids].max()),
                drop_finished=True, on_drop=push.follow, enough=push.has_left if plan.leaving_only else None,
                initial_state=_of_levels(memory, ids),
            )  # fmt: skip
        decoded = _decode(cache, read_at, directions, routes, ids, plan.num_squares)
        parts.append(torch.stack([*_follow(rollout, routes, ids, limits[ids], plan.leave_steps), *decoded]))
    outcomes = torch.cat(parts, dim=1).double().view(len(parts[0]), len(level_ids), num_tables)
    return Steered(*outcomes[:, order.argsort()])


def measure_spill(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    routes: TwoRoutes,
    level_ids: Tensor,
    edits: RouteEdits,
    tables: Tensor,
    *,
    directions: PlanDirections,
    plan: SteeringPlan,
    seed: int,
    memory: State | None = None,
) -> Tensor:
    """KL(policy || edited policy) in nats where the edit should not matter, (M, D).

    The edit is the same, on the same squares, but the agent stands on a random square off both ways. memory: to begin
    with, of `players_elsewhere(routes, seed=seed)`.
    """
    levels, num_tables = players_elsewhere(routes, seed=seed), len(tables)
    parts = []
    for rows in torch.arange(len(level_ids) * num_tables).split(plan.num_boards):
        ids, table_ids = level_ids[rows // num_tables], rows % num_tables
        env = make_env(levels, len(rows))
        once = {"thinking_steps": plan.thinking_steps, "max_steps": 1, "initial_state": _of_levels(memory, ids)}
        clean = play(opened, env, ids, **once).first_logits
        push = _make_push(env, levels, edits, tables, ids, table_ids, plan)
        with intervene(opened, [Edit(Address(directions.site), push)]):
            edited = play(opened, env, ids, **once).first_logits
        clean, edited = (logits.double().log_softmax(-1) for logits in (clean, edited))
        parts.append((clean.exp() * (clean - edited)).sum(-1).clamp(min=0))  # rounding may leave -1e-17
    return torch.cat(parts).view(len(level_ids), num_tables).cpu()


def _of_levels(memory: State | None, ids: Tensor) -> State | None:
    return None if memory is None else take_boards(memory, ids)


class _Push:
    """The edit of one batch: adds its shift, on the boards that are still shown, for as long as the plan says."""

    def __init__(self, env: HasPlayers, starts: Tensor, shift: Tensor, steps: int | None) -> None:
        self.env, self.starts, self.shift, self.steps = env, starts, shift, steps
        self.shown = torch.arange(len(starts), device=starts.device)

    def __call__(self, value: Tensor, moment: Moment) -> Tensor:
        everywhere = len(self.shown) == len(self.shift)
        shift = self.shift if everywhere else self.shift[self.shown]
        if self.steps is not None:
            return value + shift.to(value) if moment.step < self.steps else value
        at_start = ~self.has_left()[self.shown]
        if not at_start.any():
            return value
        return value + at_start.view(-1, 1, 1, 1) * shift.to(value)

    def follow(self, shown: Tensor) -> None:
        """From now on only these boards come."""
        self.shown = shown

    def has_left(self) -> Tensor:
        """(B,) bool: the agent is not where it began."""
        return self.env.players != self.starts


def _make_push(
    env: Env,
    levels: LevelSet,
    edits: RouteEdits,
    tables: Tensor,
    ids: Tensor,
    table_ids: Tensor,
    plan: SteeringPlan,
) -> _Push:
    """One edit for a batch: a whole board of shifts (B, C, H, W), zero on squares that are left alone."""
    squares = edits.squares[ids, table_ids if edits.squares.shape[1] > 1 else 0]
    vectors = tables[table_ids[:, None], edits.classes[ids].clamp(min=0)] * (squares >= 0)[..., None]
    shift = tables.new_zeros(len(ids), levels.height * levels.width, tables.shape[2])
    shift.scatter_add_(1, squares.clamp(min=0)[..., None].expand_as(vectors), vectors)
    shift = shift.view(len(ids), levels.height, levels.width, -1).permute(0, 3, 1, 2)
    if not isinstance(env, HasPlayers):
        raise AddressError(
            "an edit ends when the agent leaves its start, and this environment has no `players` to tell."
        )
    starts = levels.players[ids].to(env.players.device)
    return _Push(env, starts, shift.to(starts.device), plan.steps)


def _follow(rollout: Rollout, routes: TwoRoutes, ids: Tensor, limits: Tensor, leave_steps: int) -> tuple[Tensor, ...]:
    """The first five of `Steered`, (B,) each, from the first `limits` (B,) steps of each episode."""
    positions, lengths = rollout.positions.cpu(), rollout.lengths.cpu()
    steps = torch.arange(positions.shape[1]).expand_as(positions)
    positions = positions.gather(1, torch.minimum(steps, limits[:, None]))
    left = positions[:, : leave_steps + 1] != positions[:, :1]
    first = positions.gather(1, left.to(torch.uint8).argmax(1, keepdim=True))  # the start, if it was never left
    long = routes.long_route[ids]
    visited = torch.ones(len(ids), dtype=torch.int64)  # squares of the long way passed in order, the start first
    padded = pad(long, (0, 1), value=PAD)
    for here in positions.T[1:]:
        visited += here == padded.gather(1, visited[:, None]).squeeze(1)
    agreement = (visited - 1) / ((long >= 0).sum(1) - 1)
    took = [first[:, 0] == route[ids, 1] for route in (routes.long_route, routes.short_route)]
    solved = rollout.solved.cpu() & (lengths <= limits)
    return tuple(part.float() for part in (*took, agreement, solved, torch.minimum(lengths, limits)))


def _decode(
    cache: Cache | None, site: str | None, directions: PlanDirections, routes: TwoRoutes, ids: Tensor, num_edited: int
) -> tuple[Tensor, Tensor]:
    """The last two of `Steered`, (B,) each."""
    if cache is None or site is None:
        return torch.full((len(ids),), math.nan), torch.full((len(ids),), math.nan)
    classes = directions.read(cache[site][:, 0]).flatten(1).cpu()
    shares = []
    for way in (routes, swap_routes(routes)):
        squares, moves = (part[ids] for part in long_squares(way, directions.convention))
        other = (squares[:, :, None] == way.short_route[ids][:, None, :]).any(2)
        counted = (squares >= 0) & ~other
        counted &= counted.cumsum(1) > num_edited
        right = counted & (classes.gather(1, squares.clamp(min=0)) == moves)
        shares.append(right.sum(1) / counted.sum(1))  # 0 / 0 = nan
    return shares[0], shares[1]
