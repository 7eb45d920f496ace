"""The states a probe table is made on: what was seen, what came of it, and what each net held.

A few states are drawn from every episode, and only these are kept, so memory depends on their number and not on the
number of levels or steps. The agent acts; it and every watching net are then replayed on what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.futures import Futures
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, Rollout, play
from planprobe.instruments.concepts.catalog import (
    Concept,
    Labels,
    StateConcept,
    StateLabels,
    States,
    behaviour_futures,
    can_label,
    floor_mask,
    sample_states,
)
from planprobe.instruments.hooks import OpenedPolicy
from planprobe.instruments.probes.replay import replay

Planner = Callable[[Tensor], Futures]
"""Observations (M, C, H, W) -> futures; see `subjects.envs.plans.observation_planner`."""

Geometry = Callable[[Tensor], Tensor]
"""Observations (M, C, H, W) -> planes (M, P, H, W) that follow from the board alone; `subjects.envs.geometry`."""

MAX_STATES = 4000
OPTIMAL = "optimal"


@dataclass(frozen=True)
class Recording:
    """M states of the agent's episodes.

    level_ids, steps (M,); positions (M,): the agent's square; floor (M, H, W) bool; recent (M, F, C, H, W) uint8: the
    last F observations, the present one first; seen (M, F) bool: the frame lies in the episode; geometry (M, P, H, W),
    where it was asked for. labels[concept][source]: 'behaviour' and one more source a planner.
    activations[net][site]: (M, C, H, W) float16, (M, D) where a site has no squares. solved (number of levels,) bool:
    of every episode played.
    """

    level_ids: Tensor
    steps: Tensor
    positions: Tensor
    floor: Tensor
    recent: Tensor
    seen: Tensor
    labels: dict[str, dict[str, Labels | StateLabels]]
    activations: dict[str, dict[str, Tensor]]
    solved: Tensor
    geometry: Tensor | None = None

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Watch:
    """What is recorded of each state.

    concepts; nets: name -> (net, site patterns), the agent itself too if it is to be read; planners: label source ->
    planner; geometry; history: F, frames of observation.
    """

    concepts: Sequence[Concept | StateConcept]
    nets: Mapping[str, tuple[OpenedPolicy, str | Sequence[str]]]
    planners: Mapping[str, Planner]
    geometry: Geometry | None = None
    history: int = 4


def record_states(
    agent: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    watch: Watch,
    *,
    per_level: int = 6,
    only_solved: bool = False,
    max_steps: int | None = None,
    seed: int = 0,
    on_batch: Callable[[float], None] | None = None,
) -> Recording:
    """Let the agent play every level once, greedily, and record nets on sampled states.

    Args:
        per_level: states of each episode; fewer where levels x per_level would exceed MAX_STATES, and of more levels
            than that only the first are played.
        only_solved: take no states from failed episodes. on_batch(fraction of the levels done).
    Raises: TooFewLevelsError (no episode gives a state).
    """
    num_levels = min(len(levels), MAX_STATES)
    per_level = max(1, min(per_level, MAX_STATES // max(num_levels, 1)))
    parts, solved = [], []
    for ids in torch.arange(num_levels).split(BATCH_BOARDS):
        rollout = play(agent, make_env(levels, len(ids)), ids, keep_observations=True, max_steps=max_steps)
        solved.append(rollout.solved)
        keep = rollout.solved if only_solved else torch.ones_like(rollout.solved)
        if bool(keep.any()):
            states = sample_states(rollout, per_level=per_level, seed=seed, keep=keep)
            parts.append(_record_batch(rollout, states, levels, watch))
        if on_batch:
            on_batch((int(ids[-1]) + 1) / num_levels)
    if not parts:
        raise TooFewLevelsError(
            f"none of {num_levels} episodes was solved, so there are no states of solved ones. "
            "Probe all episodes (only_solved=False), or train the agent further."
        )
    return _join(parts, torch.cat(solved))


def _record_batch(rollout: Rollout, states: States, levels: LevelSet, watch: Watch) -> Recording:
    assert rollout.observations is not None  # play was asked to keep them
    floor = floor_mask(levels, rollout, states)
    # the frame before the present one is needed for 'progress', however short the history
    steps = states.steps[:, None] - torch.arange(max(watch.history, 2), device=states.steps.device)
    recent = rollout.observations[states.board_ids[:, None], steps.clamp_min(0)]
    futures = _all_futures(behaviour_futures(rollout, states, levels=levels), recent, steps, watch)
    labels: dict[str, dict[str, Labels | StateLabels]] = {}
    for concept in watch.concepts:
        labels[concept.name] = {
            source: _label(concept, future, floor) for source, future in futures.items() if can_label(concept, future)
        }
    return Recording(
        level_ids=rollout.level_ids[states.board_ids],
        steps=states.steps,
        positions=rollout.positions[states.board_ids, states.steps],
        floor=floor,
        recent=recent[:, : watch.history],
        seen=(steps >= 0)[:, : watch.history],
        labels=labels,
        activations=_watch_nets(rollout.observations, states, watch),
        solved=rollout.solved,
        geometry=None if watch.geometry is None else watch.geometry(recent[:, 0]).to(torch.float16),
    )


def _watch_nets(observations: Tensor, states: States, watch: Watch) -> dict[str, dict[str, Tensor]]:
    need_squares = any(isinstance(concept, Concept) for concept in watch.concepts)
    return {
        name: replay(net, observations, states, sites, need_squares=need_squares)
        for name, (net, sites) in watch.nets.items()
    }


def _all_futures(behaviour: Futures, recent: Tensor, steps: Tensor, watch: Watch) -> dict[str, Futures]:
    """Futures by label source, each with what is known of the state from anywhere."""
    futures = {"behaviour": behaviour} | {source: plan(recent[:, 0]) for source, plan in watch.planners.items()}
    facts = {"board": behaviour.fact("board")}
    if OPTIMAL in futures:
        facts["distance"] = _plan_lengths(futures[OPTIMAL])
        if any("distance_before" in concept.needs for concept in watch.concepts):
            before = _plan_lengths(watch.planners[OPTIMAL](recent[:, 1]))
            facts["distance_before"] = torch.where(steps[:, 1] >= 0, before, -1)
    return {source: future.with_facts(**facts) for source, future in futures.items()}


def _plan_lengths(futures: Futures) -> Tensor:
    return torch.where(futures.known, futures.lengths, -1)


def _label(concept: Concept | StateConcept, futures: Futures, floor: Tensor) -> Labels | StateLabels:
    if isinstance(concept, StateConcept):
        return concept.label(futures)
    return concept.label(futures, height=floor.shape[1], width=floor.shape[2], floor=floor)


def _join(parts: list[Recording], solved: Tensor) -> Recording:
    """One recording of several batches; `solved` also counts batches that gave no state."""
    first = parts[0]
    joined: dict[str, Any] = {
        part.name: torch.cat([getattr(each, part.name) for each in parts])
        for part in fields(Recording)
        if isinstance(getattr(first, part.name), Tensor)
    }
    joined["labels"] = {
        concept: {source: _join_labels([each.labels[concept][source] for each in parts]) for source in sources}
        for concept, sources in first.labels.items()
    }
    joined["activations"] = {
        net: {site: torch.cat([each.activations[net][site] for each in parts]) for site in sites}
        for net, sites in first.activations.items()
    }
    joined["solved"] = solved
    return Recording(**joined)


def _join_labels(parts: Sequence[Labels | StateLabels]) -> Labels | StateLabels:
    kind = type(parts[0])
    joined = {
        part.name: torch.cat([getattr(each, part.name) for each in parts])
        for part in fields(kind)
        if part.name != "class_names"
    }
    return kind(**joined, class_names=parts[0].class_names)
