"""One call from an agent to a table of patches: pairs of its task, both runs, every patch, effects with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from planprobe.core.errors import RecipeError
from planprobe.core.levels import LevelSet
from planprobe.core.pairs import LevelPairs
from planprobe.core.records import Effect, Row
from planprobe.instruments.addresses import Channels, select_sites
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.patching.attribution import Screen, rank_agreement, screen_patches
from planprobe.instruments.patching.effects import PatchEffects
from planprobe.instruments.patching.patches import Each, Patch, patch_grid, route_patches
from planprobe.instruments.patching.patching import Source, observe_pairs, patch_pairs
from planprobe.instruments.patching.routes import follow_routes
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.pairs import CHANGES, get_change, task_pairs

DEFAULT_SITES = ("ticks.*.*.hook_h",)


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
    pairs: LevelPairs
    screen: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def level_sets(self) -> dict[str, LevelSet]:
        """By the part they play, for provenance."""
        return {"clean": self.pairs.clean, "corrupted": self.pairs.corrupted}


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
        change: that makes a pair, of `CHANGES[kind of task]`; the first of them by default. reverse: from corrupted
            into clean.
        sites, steps, squares, channels: the map, see `patch_grid`; steps None = each clock step by itself.
        path: distances; then not a map, but the square of the clean plan so many moves ahead, see `route_patches`.
        source: 'patch', or an ablation. thinking_steps: on the first observation, before the move that is read.
        route_moves: where above 0, the agent also plays on for so many moves, see `follow_routes`.
        attribution: estimate every patch too (source 'patch' only). num_exact: of how many patches the effect is then
            measured, half of them drawn at random, half those of the largest estimates; None = all.
        only_right: leave out pairs of which the agent misses the best move of either run.
        levels: level set that pairs are made of. seed: of pairs, resampling and intervals.
    Raises: RecipeError, UnknownNameError (change); UnknownSiteError; AddressError; TooFewLevelsError; NoContrastError.
    """
    if agent.task.kind not in CHANGES:
        get_change(agent.task.kind, change or "")  # raises, and says which kinds have pairs
    if num_exact is not None and (not attribution or source != "patch"):
        raise RecipeError(f"num_exact={num_exact} chooses patches by attribution; it needs attribution and 'patch'.")
    change = change or next(iter(CHANGES[agent.task.kind]))
    opened = open_policy(agent.net, name=agent.name)
    every_step = range(thinking_steps + 1) if steps is None else steps
    # before pairs are made, which takes longest: what is asked for may not exist
    select_sites(opened, sites)
    patches = [] if path else patch_grid(opened, sites, steps=every_step, squares=squares, channels=channels)
    pairs = task_pairs(agent.task, change, num_pairs, level_set=levels, seed=seed)
    pairs = pairs.swap() if reverse else pairs
    histories = observe_pairs(agent.make_env, pairs, thinking_steps=thinking_steps)
    if path:
        chosen_steps = None if steps in (None, "all") else [int(step) for step in every_step]
        patches = _path_patches(pairs, sites, path, chosen_steps, channels, seed)
    options: dict[str, Any] = {"source": source, "seed": seed}
    screen = None
    if attribution and source == "patch":
        screen = screen_patches(opened, histories, patches, num_exact=num_exact, on_progress=on_progress, **options)
        effects = screen.exact
    else:
        effects = patch_pairs(opened, histories, patches, on_progress=on_progress, **options)
    if route_moves:
        effects = follow_routes(opened, agent.make_env, pairs, histories, effects, num_moves=route_moves, **options)
    effects = effects.of_right_pairs() if only_right else effects
    return PatchTable(
        agent.name, change, effects.rows(seed=seed), effects.baselines(seed=seed),
        None if screen is None else rank_agreement(effects, screen.drawn, seed=seed), pairs,
        _screen_rows(screen), _notes(effects, agent),
    )  # fmt: skip


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
    if agent.task.kind == "boxoban":
        notes.append("changed Boxoban boards belong to no published split; their levels do.")
    return notes
