"""What an erasure does at a site, and the rows that erasers are fitted on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.grid import WALL, board_size
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, play
from planprobe.instruments.addresses import Moment
from planprobe.instruments.concepts.catalog import States, sample_states
from planprobe.instruments.erasure.leace import Eraser, Moments
from planprobe.instruments.erasure.targets import Target
from planprobe.instruments.hooks import Address, Edit, OpenedPolicy, intervene

Scope = Literal["square", "board"]
KEPT_LEVELS = 1000  # episodes of so many levels are kept between passes, else played anew, to bound memory


def make_edits(
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


@dataclass(frozen=True)
class _Batch:
    """Episodes of some levels: what was seen (B, T, C, H, W), M states, their concepts, and the floor (B, H, W)."""

    observations: Tensor
    states: States
    concepts: Tensor
    floor: Tensor


class Episodes(Iterable[_Batch]):
    """The agent's own episodes, untouched by any erasure; played when first needed.

    thinking_steps: on the frozen first observation, before each of them; no state is taken of these.
    """

    def __init__(
        self, opened: OpenedPolicy, make_env: EnvMaker, levels: LevelSet, target: Target, per_level: int,
        max_steps: int | None, seed: int, thinking_steps: int = 0,
    ) -> None:  # fmt: skip
        self.opened, self.make_env, self.levels, self.target = opened, make_env, levels, target
        self.per_level, self.max_steps, self.seed, self.num_states = per_level, max_steps, seed, 0
        self.thinking_steps = thinking_steps
        self._kept: list[_Batch] = []

    def __iter__(self) -> Iterator[_Batch]:
        if self._kept:
            yield from self._kept
            return
        batches, self.num_states = [], 0
        for ids in torch.arange(len(self.levels)).split(BATCH_BOARDS):
            batch = self._play(ids)
            self.num_states += len(batch.states)
            if len(self.levels) <= KEPT_LEVELS:
                batches.append(batch)
            yield batch
        self._kept = batches

    def _play(self, ids: Tensor) -> _Batch:
        env = self.make_env(self.levels, len(ids))
        rollout = play(
            self.opened, env, ids, thinking_steps=self.thinking_steps, keep_observations=True, max_steps=self.max_steps
        )
        states = sample_states(rollout, per_level=self.per_level, seed=self.seed)
        concepts = self.target(rollout, states, self.levels)
        assert rollout.observations is not None  # play was asked to keep them
        floor = ((self.levels.boards[ids] & WALL) == 0).to(concepts.device)
        return _Batch(rollout.observations, states, concepts, floor)


@torch.no_grad()
def sum_moments(
    episodes: Episodes,
    names: list[str],
    erasers: dict[str, Eraser],
    scope: Scope,
    joint: bool,
    *,
    edited: bool = False,
) -> dict[str, Moments]:
    """Moments by site, in firing order, and of all together under ''; what the sites hold before or after editing."""
    moments: dict[str, Moments] = {}
    for batch in episodes:
        for rows, held in _replay(episodes, batch, names, erasers, scope, joint, edited):
            boards, z = batch.states.board_ids[rows], batch.concepts[rows]
            parts = {site: _pair(value[boards], z, batch.floor[boards]) for site, value in held.items()}
            if joint:
                parts[""] = (torch.cat([x for x, _ in parts.values()], dim=1), next(iter(parts.values()))[1])
            for site, (x, z_rows) in parts.items():
                if site not in moments:
                    moments[site] = Moments(x.shape[1], z_rows.shape[1])
                moments[site].update(x, z_rows)
    if not moments or min(part.num_rows for part in moments.values()) < 2:
        raise TooFewLevelsError(
            f"{len(episodes.levels)} levels give no two rows that carry the concept. Take more levels."
        )
    return moments


def _replay(
    episodes: Episodes,
    batch: _Batch,
    names: list[str],
    erasers: dict[str, Eraser],
    scope: Scope,
    joint: bool,
    edited: bool,
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Step the net through recorded episodes; yields chosen states (m,) of a step and what each site held, as rows."""
    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    observations, states, opened = batch.observations, batch.states, episodes.opened
    memory = opened.initial_state(len(observations), board_size(observations))
    with intervene(opened, make_edits(names, erasers, scope, joint, batch.floor, None, before, after)):
        for _ in range(episodes.thinking_steps):
            _, _, memory = opened.step(observations[:, 0], memory)
        for step in range(int(states.steps.max()) + 1):
            _, _, memory = opened.step(observations[:, step], memory)
            rows = (states.steps == step).nonzero().squeeze(1)
            if len(rows):
                yield rows, after if edited else before


def find_block(moments: dict[str, Moments], site: str, joint: bool) -> dict[str, slice]:
    """Where a site stands among all of them, and what it may be guided by, for `fit_eraser`."""
    if not joint:
        return {}
    ends, end = {}, 0
    for name, part in moments.items():
        if name:
            end += part.num_features
            ends[name] = end
    return {"own": slice(ends[site] - moments[site].num_features, ends[site]), "given": slice(0, ends[site])}


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
