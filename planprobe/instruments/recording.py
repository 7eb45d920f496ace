"""The states a probe table is made on: what was seen, what came of it, and what each net held.

A few states are drawn from every episode, and only these are kept, so memory depends on their number and not on the
number of levels or steps. The agent acts; it and every watching net are then replayed on what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.futures import Futures
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, Rollout, play
from planprobe.instruments.concepts import Concept, Labels, States, behaviour_futures, floor_mask, sample_states
from planprobe.instruments.hooks import OpenedPolicy
from planprobe.instruments.replay import replay

Planner = Callable[[Tensor], Futures]
"""Observations (M, C, H, W) -> optimal futures; see `subjects.envs.plans.observation_planner`."""

MAX_STATES = 4000


@dataclass(frozen=True)
class Recording:
    """M states of the agent's episodes.

    level_ids, steps (M,); floor (M, H, W) bool; recent (M, F, C, H, W) uint8: the last F observations, the present one
    first; seen (M, F) bool: the frame lies in the episode; labels: 'behaviour' and, with a planner, 'optimal'.
    activations[net][site]: (M, C, H, W) float16. solved (number of levels,) bool: of every episode played.
    """

    level_ids: Tensor
    steps: Tensor
    floor: Tensor
    recent: Tensor
    seen: Tensor
    labels: dict[str, Labels]
    activations: dict[str, dict[str, Tensor]]
    solved: Tensor

    def __len__(self) -> int:
        return len(self.steps)


def record_states(
    agent: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    concept: Concept,
    *,
    nets: Mapping[str, tuple[OpenedPolicy, str | Sequence[str]]],
    planner: Planner | None = None,
    per_level: int = 6,
    history: int = 4,
    only_solved: bool = False,
    max_steps: int | None = None,
    seed: int = 0,
    on_batch: Callable[[float], None] | None = None,
) -> Recording:
    """Let the agent play every level once, greedily, and record nets on sampled states.

    Args:
        nets: what is recorded: name -> (net, site patterns); the agent itself too, if it is to be read.
        per_level: states of each episode; fewer where levels x per_level would exceed MAX_STATES, and of more levels
            than that only the first are played.
        history: F, frames of observation kept. only_solved: take no states from failed episodes.
        on_batch(fraction of the levels done).
    Raises: TooFewLevelsError (no episode gives a state).
    """
    num_levels = min(len(levels), MAX_STATES)
    per_level = max(1, min(per_level, MAX_STATES // max(num_levels, 1)))
    parts = []
    for ids in torch.arange(num_levels).split(BATCH_BOARDS):
        rollout = play(agent, make_env(levels, len(ids)), ids, keep_observations=True, max_steps=max_steps)
        keep = rollout.solved if only_solved else torch.ones_like(rollout.solved)
        states = States(ids[:0], ids[:0])
        if bool(keep.any()):
            states = sample_states(rollout, per_level=per_level, seed=seed, keep=keep)
            parts.append(_record_batch(rollout, states, levels, concept, nets, planner, history))
        if on_batch:
            on_batch((int(ids[-1]) + 1) / num_levels)
    if not parts:
        raise TooFewLevelsError(
            f"none of {num_levels} episodes was solved, so there are no states of solved ones. "
            "Probe all episodes (only_solved=False), or train the agent further."
        )
    return _join(parts)


def _record_batch(
    rollout: Rollout,
    states: States,
    levels: LevelSet,
    concept: Concept,
    nets: Mapping[str, tuple[OpenedPolicy, str | Sequence[str]]],
    planner: Planner | None,
    history: int,
) -> Recording:
    assert rollout.observations is not None  # play was asked to keep them
    floor = floor_mask(levels, rollout, states)
    steps = states.steps[:, None] - torch.arange(history, device=states.steps.device)
    recent = rollout.observations[states.board_ids[:, None], steps.clamp_min(0)]
    futures = {"behaviour": behaviour_futures(rollout, states)}
    if planner is not None:
        futures["optimal"] = planner(recent[:, 0])
    labels = {
        source: concept.label(future, height=floor.shape[1], width=floor.shape[2], floor=floor)
        for source, future in futures.items()
    }
    activations = {name: replay(net, rollout.observations, states, sites) for name, (net, sites) in nets.items()}
    level_ids = rollout.level_ids[states.board_ids]
    return Recording(level_ids, states.steps, floor, recent, steps >= 0, labels, activations, rollout.solved)


def _join(parts: list[Recording]) -> Recording:
    first = parts[0]
    labels = {source: _join_labels([part.labels[source] for part in parts]) for source in first.labels}
    activations = {
        net: {site: torch.cat([part.activations[net][site] for part in parts]) for site in sites}
        for net, sites in first.activations.items()
    }
    level_ids, steps, floor, recent, seen, solved = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("level_ids", "steps", "floor", "recent", "seen", "solved")
    )
    return Recording(level_ids, steps, floor, recent, seen, labels, activations, solved)


def _join_labels(parts: list[Labels]) -> Labels:
    values, horizon, pushes = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("values", "horizon", "pushes")
    )
    return Labels(values, horizon, pushes, parts[0].class_names)
