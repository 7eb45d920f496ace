"""Erase a concept from a running net: fitted on the agent's own episodes, applied at every tick of every step.

    erasure = fit_erasure(opened, make_env, levels, concept_target("agent-approach-direction"))
    with intervene(opened, erasure.edits(floor)):
        play(opened, env, level_ids)

One eraser a site, the same on every floor square, as a 1x1 probe is; walls are left alone. What is taken out at one
site changes what arrives at the next, and a memory writes anew what was taken from it. So the fit is repeated with the
erasers of the round before in force, and `check_erasure` tells what a linear read-out still finds on other levels.

It is linear read-outs that find nothing afterwards. A net may keep what it knows in another form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.grid import WALL
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, play
from planprobe.core.records import Row
from planprobe.instruments.addresses import Moment
from planprobe.instruments.concepts import States, sample_states
from planprobe.instruments.erasure_targets import Target
from planprobe.instruments.hooks import Address, Edit, OpenedPolicy, intervene, select_sites
from planprobe.instruments.leace import Eraser, Moments, fit_eraser, fit_joint_erasers, random_erasers

Scope = Literal["square", "board"]
Sites = str | Sequence[str]
MEMORY = ("ticks.*.*.hook_c", "ticks.*.*.hook_h")
"""Everything a recurrent net carries: what is left in the cell would come back in the hidden state."""


@dataclass(frozen=True)
class Erasure:
    """One eraser a site, in the order in which the sites fire.

    scope: 'square', the channels of each floor square by themselves; 'board', a whole site at once. joint: each site is
    guided by those before it (see `leace.fit_joint_erasers`), else by itself. moments: what the erasers were fitted on,
    by site; all sites concatenated under '' if joint. explained: share of the concept's variance that a linear guess
    at the site accounted for before anything was erased.
    """

    erasers: dict[str, Eraser]
    moments: dict[str, Moments]
    scope: Scope
    joint: bool
    explained: dict[str, float]
    num_levels: int
    num_states: int

    @property
    def num_draws(self) -> int:
        return max(eraser.num_draws for eraser in self.erasers.values())

    def edits(self, floor: Tensor | None, *, draws: Tensor | None = None) -> list[Edit]:
        """What `intervene` takes.

        Args: floor (B, H, W) bool, squares to erase on; used where the scope is 'square'. draws (B,): which eraser
            of several each board gets.
        """
        return _make_edits(list(self.erasers), self.erasers, self.scope, self.joint, floor, draws, {}, {})

    def randomised(self, num_draws: int, *, seed: int, equal_length: bool = False) -> Erasure:
        """Random subspaces of the same rank at every site; equal_length: scaled to move activations as far.

        Source: random directions as the control of an erasure, Elazar et al. 2021; here in the same affine form.
        """
        drawn: dict[str, Eraser] = {}
        ends = torch.tensor([eraser.left.shape[0] for eraser in self.erasers.values()]).cumsum(0).tolist()
        for number, (site, eraser) in enumerate(self.erasers.items()):
            block: dict[str, slice] = {}
            if self.joint:
                block = {"own": slice(ends[number] - eraser.left.shape[0], ends[number]), "given": slice(ends[number])}
            drawn[site] = random_erasers(
                self.moments["" if self.joint else site], eraser.rank, num_draws, seed=seed * 1009 + number,
                moved=float(eraser.moved) if equal_length else None, **block,
            )  # fmt: skip
        return replace(self, erasers=drawn)


def fit_erasure(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    target: Target,
    *,
    sites: Sites = MEMORY,
    scope: Scope = "square",
    joint: bool = False,
    rounds: int = 3,
    per_level: int = 6,
    max_steps: int | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> Erasure:
    """Let the agent play every level, and fit erasers on what it, and the net so far erased, holds on its way.

    Args:
        levels: other ones than those that the erased agent is judged on.
        rounds: the first fits on the untouched net, each further one with the erasers so far in force.
        per_level: states of each episode.
        on_progress: told the share that is done.
    Raises: UnknownSiteError; TooFewLevelsError; ShapeError (a site without squares, a concept that never varies).
    """
    if rounds < 1:
        raise ShapeError(f"rounds={rounds}: erasers are fitted in one round or more.")
    names, erasers, explained, moments, num_states = select_sites(opened, sites), {}, {}, {}, 0
    for number in range(rounds):
        tell = on_progress and (lambda share, number=number: on_progress((number + share) / rounds))
        options = {"per_level": per_level, "max_steps": max_steps, "seed": seed}
        moments, num_states = _sum_moments(
            opened, make_env, levels, target, names, erasers, scope=scope, joint=joint, on_progress=tell, **options
        )
        names = [site for site in moments if site]
        explained = explained or {site: moments[site].explained() for site in names}
        if joint:
            fitted = fit_joint_erasers(moments[""], [moments[site].num_features for site in names])
        else:
            fitted = [fit_eraser(moments[site]) for site in names]
        erasers = dict(zip(names, fitted, strict=True))
    return Erasure(erasers, moments, scope, joint, explained, len(levels), num_states)


def check_erasure(
    opened: OpenedPolicy, make_env: EnvMaker, levels: LevelSet, target: Target, erasure: Erasure, **options
) -> list[Row]:
    """How much of the concept a fresh linear guess finds at each site, before and after erasure: one row a site.

    Fitted anew on `levels`, best other ones than those of the fit; without any relation it finds about features / rows.
    Options: per_level, max_steps, seed of `fit_erasure`.
    """
    names, erasers = list(erasure.erasers), erasure.erasers
    setting = (opened, make_env, levels, target, names)
    before, _ = _sum_moments(*setting, {}, scope=erasure.scope, joint=False, **options)
    after, _ = _sum_moments(*setting, erasers, scope=erasure.scope, joint=erasure.joint, edited=True, **options)
    return [
        {
            "site": site, "rank": eraser.rank, "features": after[site].num_features, "rows": after[site].num_rows,
            "explained_before": before[site].explained(), "explained_after": after[site].explained(),
            "moved_rms": float(eraser.moved.sqrt()), "spread_rms": float(before[site].covariance.trace().sqrt()),
        }
        for site, eraser in erasers.items()
    ]  # fmt: skip


# what happens at a site -----------------------------------------------------------------------------------------------
def _make_edits(
    names: list[str],
    erasers: dict[str, Eraser],
    scope: Scope,
    joint: bool,
    floor: Tensor | None,
    draws: Tensor | None,
    before: dict[str, Tensor],
    after: dict[str, Tensor],
) -> list[Edit]:
    """One edit a site, which also leaves there what the site held in the last step, before and after it, as rows."""

    def edit(site: str) -> Edit:
        def apply(value: Tensor, moment: Moment) -> Tensor:
            rows = before[site] = _as_rows(value, site, scope)
            if site not in erasers:
                return value
            upto = names[: names.index(site) + 1]
            given = torch.cat([before[each] for each in upto], dim=-1) if joint else None
            erased = after[site] = erasers[site].erase(rows, given=given, draws=draws)
            return erased.movedim(-1, 1) if scope == "square" else erased.view(value.shape)

        return Edit(Address(site, squares=floor if scope == "square" else None), apply)

    return [edit(site) for site in names]


def _as_rows(value: Tensor, site: str, scope: Scope) -> Tensor:
    """(B, H, W, C), or (B, D) for a whole site."""
    if scope == "board":
        return value.flatten(1)
    if value.ndim != 4:
        raise ShapeError(f"site '{site}' of shape {tuple(value.shape)} has no squares; erase it with scope='board'.")
    return value.movedim(1, -1)


# the rows that erasers are fitted on ----------------------------------------------------------------------------------
@torch.no_grad()
def _sum_moments(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    target: Target,
    names: list[str],
    erasers: dict[str, Eraser],
    *,
    scope: Scope,
    joint: bool,
    edited: bool = False,
    per_level: int = 6,
    max_steps: int | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[dict[str, Moments], int]:
    """Moments by site, in firing order, and of all together under ''; what the sites hold before or after editing."""
    moments: dict[str, Moments] = {}
    num_states = 0
    for ids in torch.arange(len(levels)).split(BATCH_BOARDS):
        rollout = play(opened, make_env(levels, len(ids)), ids, keep_observations=True, max_steps=max_steps)
        states = sample_states(rollout, per_level=per_level, seed=seed)
        concepts = target(rollout, states, levels)
        floor = ((levels.boards[ids] & WALL) == 0).to(concepts.device)
        num_states += len(states)
        for rows, held in _replay(opened, rollout.observations, states, names, erasers, scope, joint, floor, edited):
            boards, z = states.board_ids[rows], concepts[rows]
            parts = {site: _pair(value[boards], z, floor[boards]) for site, value in held.items()}
            if joint:
                parts[""] = (torch.cat([x for x, _ in parts.values()], dim=1), next(iter(parts.values()))[1])
            for site, (x, z_rows) in parts.items():
                if site not in moments:
                    moments[site] = Moments(x.shape[1], z_rows.shape[1])
                moments[site].update(x, z_rows)
        if on_progress:
            on_progress((int(ids[-1]) + 1) / len(levels))
    if not moments or min(part.num_rows for part in moments.values()) < 2:
        raise TooFewLevelsError(f"{len(levels)} levels give no two rows that carry the concept. Take more levels.")
    return moments, num_states


def _replay(
    opened: OpenedPolicy,
    observations: Tensor | None,
    states: States,
    names: list[str],
    erasers: dict[str, Eraser],
    scope: Scope,
    joint: bool,
    floor: Tensor,
    edited: bool,
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Step the net through recorded episodes; yields chosen states (m,) of a step and what each site held, as rows."""
    assert observations is not None  # play was asked to keep them
    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    memory = opened.initial_state(len(observations), tuple(observations.shape[-2:]))
    with intervene(opened, _make_edits(names, erasers, scope, joint, floor, None, before, after)):
        for step in range(int(states.steps.max()) + 1):
            _, _, memory = opened.step(observations[:, step], memory)
            rows = (states.steps == step).nonzero().squeeze(1)
            if len(rows):
                yield rows, after if edited else before


def _pair(held: Tensor, z: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of activations and concepts that belong together and are known: (n, D), (n, K)."""
    if held.ndim == 4 and z.ndim == 2:  # one concept a state, read at every square
        z = z[:, None, None].expand(*held.shape[:3], -1)
    if z.ndim != held.ndim:
        raise ShapeError("a concept of each square cannot be erased from a whole site: use scope='square'.")
    keep = ~z.isnan().any(-1)
    if held.ndim == 4:
        keep = keep & floor
    return held[keep], z[keep]
