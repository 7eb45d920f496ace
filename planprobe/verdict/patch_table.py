"""One call from an agent to a table of patches: pairs of its task, both runs, every patch, effects with intervals.

An agent that plays levels is given pairs of levels; one that plays trials, pairs of histories that differ in psi.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.levels import LevelSet
from planprobe.core.pairs import HistoryPairs, LevelPairs
from planprobe.core.records import Effect, Row
from planprobe.instruments.addresses import Channels, select_sites
from planprobe.instruments.hooks import OpenedPolicy, open_policy
from planprobe.instruments.patching.attribution import Screen, rank_agreement, screen_patches
from planprobe.instruments.patching.effects import PatchEffects
from planprobe.instruments.patching.patches import Each, Patch, patch_grid, route_patches
from planprobe.instruments.patching.patching import Source, observe_pairs, patch_pairs
from planprobe.instruments.patching.routes import follow_routes
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.pairs import CHANGES, get_change, task_pairs
from planprobe.subjects.envs.trial_catalog import TrialTask, held_out
from planprobe.subjects.psi_pairs.catalog import psi_pairs

DEFAULT_SITES = ("ticks.*.*.hook_h",)
PSI = "psi"  # the change of an agent that plays trials


@dataclass(frozen=True)
class PatchTable:
    """Results of `patch_table`.

    rows: tidy, one a patch and measure, see `PatchEffects.rows`. baselines: one a measure, likewise.
    screen: mean estimate of every patch of the map, in logits, where only some were patched exactly. agreement: rank
    correlation of estimated and exact effects, None without attribution. pairs: what was patched. notes: remarks for a
    reader.
    """

    agent: str
    change: str
    rows: list[Row]
    baselines: list[Row]
    agreement: Effect | None
    pairs: LevelPairs | HistoryPairs
    screen: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def level_sets(self) -> dict[str, LevelSet]:
        """By the part they play, for provenance; none of an agent that plays trials."""
        if isinstance(self.pairs, HistoryPairs):
            return {}
        return {"clean": self.pairs.clean, "corrupted": self.pairs.corrupted}

    def pair_facts(self) -> dict[str, Any]:
        """What differs, how many pairs, and which histories they are where no level set says it."""
        facts: dict[str, Any] = {"change": self.change, "num_pairs": len(self.pairs)}
        if isinstance(self.pairs, HistoryPairs):
            facts["histories"] = {"steps": self.pairs.num_steps, "hash": self.pairs.hash()}
        return facts


def patch_table(
    agent: Agent,
    *,
    change: str | None = None,
    sites: str | Sequence[str] = DEFAULT_SITES,
    steps: Sequence[int] | Literal["all"] | None = None,
    squares: Each = "all",
    channels: Each | Sequence[Channels] = "all",
    path: Sequence[int] = (),
    source: Source = "patch",
    reverse: bool = False,
    thinking_steps: int = 0,
    route_moves: int = 0,
    attribution: bool = True,
    num_exact: int | None = None,
    only_right: bool = False,
    levels: str = "test",
    num_pairs: int = 100,
    seed: int = 0,
    on_progress: Callable[[float, float], None] | None = None,
) -> PatchTable:
    """Patch from clean into corrupted runs of an agent on pairs of its own task.

    Args:
        change: that makes a pair, of `CHANGES[kind of task]`; the first of them by default; 'psi' alone for an agent
            that plays trials. reverse: from corrupted into clean.
        sites, steps, squares, channels: the map, see `patch_grid`; steps None = each clock step by itself.
        path: distances; then not a map, but the square of the clean plan so many moves ahead, see `route_patches`.
        source: 'patch', or an ablation. thinking_steps: on the first observation, before the move that is read.
        route_moves: where above 0, the agent also plays on for so many moves, see `follow_routes`.
        attribution: estimate every patch too (source 'patch' only). num_exact: of how many patches the effect is then
            measured, half of them drawn at random, half those of the largest estimates; None = all.
        only_right: leave out pairs of which the agent misses the best move of either run.
        levels: level set that pairs are made of; of trials, the split. seed: of pairs, resampling and intervals.
    Raises: RecipeError, UnknownNameError (change); UnknownSiteError; AddressError; TooFewLevelsError; NoContrastError.
    """
    if num_exact is not None and (not attribution or source != "patch"):
        raise RecipeError(f"num_exact={num_exact} chooses patches by attribution; it needs attribution and 'patch'.")
    opened = open_policy(agent.net, name=agent.name)
    # before pairs are made, which takes longest: what is asked for may not exist
    select_sites(opened, sites)
    asked = _Asked(sites, steps, squares, channels, tuple(path))
    if agent.recipe.plays_trials:
        _check_of_trials(agent, change, path=path, thinking_steps=thinking_steps, route_moves=route_moves)
        pairs = psi_pairs(_trials_of(agent, levels), num_pairs, inputs=agent.recipe.inputs, seed=seed)
        pairs = histories = pairs.swap() if reverse else pairs
        patches = asked.map(opened, histories.num_steps)
    else:
        pairs, patches = _level_pairs(
            agent, opened, asked, change, thinking_steps + 1, num_pairs, levels, reverse, seed
        )
        histories = observe_pairs(agent.make_env, pairs, thinking_steps=thinking_steps)
    options: dict[str, Any] = {"source": source, "seed": seed}
    screen = None
    if attribution and source == "patch":
        screen = screen_patches(opened, histories, patches, num_exact=num_exact, on_progress=on_progress, **options)
        effects = screen.exact
    else:
        effects = patch_pairs(opened, histories, patches, on_progress=on_progress, **options)
    if route_moves and isinstance(pairs, LevelPairs):
        effects = follow_routes(opened, agent.make_env, pairs, histories, effects, num_moves=route_moves, **options)
    effects = effects.of_right_pairs() if only_right else effects
    return PatchTable(
        agent.name, pairs.change, effects.rows(seed=seed), effects.baselines(seed=seed),
        None if screen is None else rank_agreement(effects, screen.drawn, seed=seed), pairs,
        _screen_rows(screen), _notes(effects, agent),
    )  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """Which patches are asked for; see `patch_table`."""

    sites: str | Sequence[str]
    steps: Sequence[int] | Literal["all"] | None
    squares: Each
    channels: Each | Sequence[Channels]
    path: tuple[int, ...]

    def map(self, opened: OpenedPolicy, num_steps: int) -> list[Patch]:
        """Of runs of so many steps."""
        steps = range(num_steps) if self.steps is None else self.steps
        return patch_grid(opened, self.sites, steps=steps, squares=self.squares, channels=self.channels)


def _level_pairs(
    agent: Agent, opened: OpenedPolicy, asked: _Asked, change: str | None, num_steps: int, num_pairs: int, levels: str,
    reverse: bool, seed: int,
) -> tuple[LevelPairs, list[Patch]]:  # fmt: skip
    kind = agent.task.kind
    if kind not in CHANGES:
        get_change(kind, change or "")  # raises, and says which kinds have pairs
    patches = [] if asked.path else asked.map(opened, num_steps)
    change = change or next(iter(CHANGES[kind]))
    pairs = task_pairs(agent.task, change, num_pairs, level_set=levels, seed=seed)
    pairs = pairs.swap() if reverse else pairs
    if asked.path:
        steps = None if asked.steps in (None, "all") else [int(step) for step in asked.steps]
        patches = _path_patches(pairs, asked.sites, asked.path, steps, asked.channels, seed)
    return pairs, patches


def _check_of_trials(agent: Agent, change: str | None, **of_levels: Any) -> None:
    """Raises: RecipeError (something that only levels have)."""
    if change not in (None, PSI):
        raise unknown_name("change", change, [PSI], where="an agent that plays trials")
    given = [name for name, value in of_levels.items() if value]
    if given:
        raise RecipeError(
            f"{agent.name} plays trials: {', '.join(given)} is for agents that play levels. A pair of trials is read "
            "after a history of its own; choose its steps."
        )


def _trials_of(agent: Agent, split: str) -> TrialTask:
    """The agent's task on layouts of a split. Raises: RecipeError (it has no splits, or not this one)."""
    if split != "test" and not hasattr(agent.trial_task, "split"):
        raise RecipeError(f"trials of '{agent.trial_task.kind}' have no layouts, and so no level set '{split}'.")
    return held_out(agent.trial_task, split)


def _path_patches(
    pairs: LevelPairs, sites: str | Sequence[str], path: Sequence[int], steps: list[int] | None,
    channels: Each | Sequence[Channels], seed: int,
) -> list[Patch]:  # fmt: skip
    if isinstance(channels, str):
        if channels == "each":
            raise RecipeError("a path patches all channels of its sites, or given groups; 'each' is for maps.")
        groups: Sequence[Channels] = [None]
    else:
        groups = channels
    patterns = [sites] if isinstance(sites, str) else list(sites)
    return [
        patch
        for pattern in patterns
        for group in groups
        for patch in route_patches(pairs, pattern, distances=path, steps=steps, channels=group, seed=seed)
    ]


def _screen_rows(screen: Screen | None) -> list[Row]:
    """Every patch with its mean estimate, where not all were patched exactly."""
    if screen is None or len(screen.chosen) == len(screen.patches):
        return []
    exact = torch.zeros(len(screen.patches), dtype=torch.bool)
    exact[screen.chosen] = True
    rows = zip(screen.patches, screen.estimates.nanmean(1).tolist(), exact.tolist(), strict=True)
    return [{**patch.labels, "estimate_in_logits": estimate, "exact": is_exact} for patch, estimate, is_exact in rows]


def _notes(effects: PatchEffects, agent: Agent) -> list[str]:
    right = {run: float(values.double().mean()) for run, values in effects.right.items()}
    notes = [
        f"the agent's first choice is the best move on {right['clean']:.0%} of clean and {right['corrupted']:.0%} of "
        f"corrupted runs, {len(effects.level_ids)} pairs."
    ]
    if not agent.recipe.plays_trials and agent.task.kind == "boxoban":
        notes.append("changed Boxoban boards belong to no published split; their levels do.")
    return notes
