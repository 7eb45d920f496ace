"""Causal graphs: what is choosing one's own interventions worth, and what do hidden causes take away?

Nets are trained on each way of exploring (watching, random interventions, interventions of one's own) with and without
hidden common causes; or agents that are given play under each of them. Beside them stands the exact posterior over
graphs, explored with in the same way, and what is won by one who knows the prior alone, or the graph.
Source: after Dasgupta et al. 2019.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from planprobe.core.errors import RecipeError
from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.core.protocols import Policy
from planprobe.core.records import Effect, Row
from planprobe.experiments import figures
from planprobe.experiments.intervals import over_seeds, over_trials
from planprobe.experiments.record import Findings, ProgressCallback, between, pick_budget, silent
from planprobe.experiments.small_nets import train_on
from planprobe.instruments.statistics.stats import bootstrap_difference
from planprobe.subjects.envs.causal import EXPLORATIONS, CausalTask
from planprobe.subjects.envs.causal_graphs import NUM_SETTINGS
from planprobe.subjects.envs.trial_catalog import TEST_SEED, make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.recipe import NetRecipe, TrainingRecipe
from planprobe.subjects.references.causal_players import CausalPlayer, causal_bounds
from planprobe.subjects.references.play import play_reference

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

QUESTION = "what is choosing one's own interventions worth over random ones, and what do hidden causes take away?"
EXACT, PRIOR, KNOWN = "exact posterior", "prior alone", "graph known"
HOLDS = ("watches", "holds the variable asked about", "holds another variable")
NET = NetRecipe(kind="gru", channels=48, hidden=48)
TASK = CausalTask(early_cue=True)


@dataclass(frozen=True)
class _Sizes:
    """frames: of each net's training; seeds: nets of each condition; num_trials: that each is measured on."""

    frames: int
    seeds: int
    num_trials: int


SIZES = {"smoke": _Sizes(3072, 1, 100), "quick": _Sizes(600_000, 1, 2000), "full": _Sizes(6_000_000, 3, 10_000)}


def training_recipe(frames: int) -> TrainingRecipe:
    """How each net is trained; an unroll is a trial."""
    return TrainingRecipe(
        frames=frames, num_boards=256, unroll=TASK.num_samples + 1, gamma=1.0, lam=1.0, lr=(3e-3, 1e-4),
        entropy=(0.02, 0.0), epochs=2, num_minibatches=2,
    )  # fmt: skip


def run_causal(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """Returns under every way of exploring; see `catalog.run_experiment`. Without agents it trains its own nets.

    Raises: UnknownNameError (budget); RecipeError (an agent of another task).
    """
    tell, sizes = progress or silent, pick_budget(SIZES, budget)
    played: list[CausalTask] = []
    for agent in agents:
        task = agent.trial_task
        if not isinstance(task, CausalTask):
            raise RecipeError(f"'{agent.name}' plays '{task.kind}', and this needs an agent of 'causal'.")
        played.append(task)
    base = played[0] if played else TASK
    tasks = [
        dataclasses.replace(base, exploration=exploration, confounded=confounded)
        for confounded in (False, True)
        for exploration in EXPLORATIONS
    ]
    returns: dict[tuple[CausalTask, str], np.ndarray] = {}
    choices: list[Row] = []
    for place, task in enumerate(tasks):
        here = between(place / len(tasks), (place + 1) / len(tasks), tell)
        for name, (net, inputs) in _nets(agents, task, sizes, seed, here).items():
            rollout = play_trials(net, make_trial_env(task, inputs, sizes.num_trials), seed=seed)
            returns[task, name] = rollout.returns.double().numpy()
            choices += _choice_rows(name, task, rollout)
        player = CausalPlayer("informative" if task.exploration == "active" else "observe", seed=seed)
        returns[task, EXACT] = play_reference(player, task, sizes.num_trials, TEST_SEED).sum(1).double().numpy()
    rows = _return_rows(returns)
    tables = {"returns": rows, "gains": _gain_rows(returns, seed), "choices": choices}
    if not agents:
        tables["seeds"] = _seed_rows(rows)
    tell(1.0, "done")
    return Findings(
        name="causal", question=QUESTION, tables={name: part for name, part in tables.items() if part},
        notes=_notes(tables), provenance={
            "task": dataclasses.asdict(base), "trained": not agents, **dataclasses.asdict(sizes),
            "net": dataclasses.asdict(NET), "training": dataclasses.asdict(training_recipe(sizes.frames)),
        },
    )  # fmt: skip


def _nets(
    agents: Sequence[Agent], task: CausalTask, sizes: _Sizes, seed: int, tell: ProgressCallback
) -> Mapping[str, tuple[Policy, Inputs]]:
    """The agents that were given, or nets trained on this very task, by name."""
    if agents:
        tell(0.0, f"playing: {_label(task)}")
        return {agent.name: (agent.net, agent.recipe.inputs) for agent in agents}
    inputs, nets = Inputs(), {}
    for number in range(sizes.seeds):
        part = between(number / sizes.seeds, (number + 1) / sizes.seeds, tell)
        nets[f"net s{seed + number}"] = (
            train_on(task, inputs, NET, training_recipe(sizes.frames), seed=seed + number, progress=part), inputs
        )  # fmt: skip
    return nets


def _return_rows(returns: Mapping[tuple[CausalTask, str], np.ndarray]) -> list[Row]:
    rows: list[Row] = []
    for (task, player), values in returns.items():
        prior, known = causal_bounds(task)
        found = over_trials(values)
        possible = (float(found["value"] or 0) - prior) / (known - prior)
        rows.append({**_facts(task), "player": player, **found, "share_of_possible_gain": possible})
        if player == EXACT:
            for name, bound, share in ((PRIOR, prior, 0.0), (KNOWN, known, 1.0)):
                rows.append({
                    **_facts(task), "player": name, "value": bound, "low": bound, "high": bound, "n": None,
                    "share_of_possible_gain": share,
                })  # fmt: skip
    return rows


def _gain_rows(returns: Mapping[tuple[CausalTask, str], np.ndarray], seed: int) -> list[Row]:
    """Differences between conditions, on the same draws of graphs where the graphs are of one kind."""
    rows: list[Row] = []
    for (task, player), values in returns.items():
        for first, second in (("active", "random"), ("active", "observe"), ("random", "observe")):
            other = returns.get((dataclasses.replace(task, exploration=second), player))
            if task.exploration == first and other is not None:
                effect = bootstrap_difference(values, other, unit="return", seed=seed)
                rows.append({
                    "player": player, "graphs": _graphs(task), "contrast": f"{first} over {second}", **_limits(effect),
                })  # fmt: skip
        clear = returns.get((dataclasses.replace(task, confounded=False), player))
        if task.confounded and clear is not None:
            effect = bootstrap_difference(values, clear, unit="return", seed=seed)
            rows.append({
                "player": player, "graphs": "both", "contrast": f"confounded over clear, {task.exploration}",
                **_limits(effect),
            })  # fmt: skip
    return rows


def _choice_rows(name: str, task: CausalTask, rollout: TrialRollout) -> list[Row]:
    """What an agent that may choose holds while it explores."""
    if task.exploration != "active":
        return []
    samples = ~rollout.extras["quiz"] & rollout.active
    settings = rollout.extras["setting"]
    held = (settings - 1).div(2, rounding_mode="floor")  # -1 where it only watches
    asked = held[:, -1:]  # the quiz holds what it asks about
    assert int(settings.max()) < NUM_SETTINGS
    kinds = (held < 0, (held >= 0) & (held == asked), (held >= 0) & (held != asked))
    return [
        {
            "player": name, "graphs": _graphs(task), "choice": choice,
            **over_trials(((kind & samples).sum(1) / samples.sum(1)).double().numpy()),
        }
        for choice, kind in zip(HOLDS, kinds, strict=True)
    ]  # fmt: skip


def _seed_rows(rows: list[Row]) -> list[Row]:
    """Mean over nets of one condition."""
    nets = [row for row in rows if str(row["player"]).startswith("net s")]
    conditions = dict.fromkeys((row["exploration"], row["graphs"]) for row in nets)
    return [
        {"exploration": exploration, "graphs": graphs} | over_seeds([
            float(row["value"] or 0) for row in nets if (row["exploration"], row["graphs"]) == (exploration, graphs)
        ])
        for exploration, graphs in conditions
    ]  # fmt: skip


def _notes(tables: Mapping[str, list[Row]]) -> list[str]:
    notes = []
    for row in tables["gains"]:
        if row["contrast"] in ("active over random", "confounded over clear, active"):
            notes.append(
                f"{row['player']}, {row['graphs']} graphs, {row['contrast']}: {row['value']:+.3f} "
                f"[{row['low']:+.3f}, {row['high']:+.3f}] wins a trial."
            )
    notes.append(
        "A net that wins less than the exact posterior may have been trained too little; only the exact player says "
        "what the task allows. Knowing which variable will be held makes choosing worth something (early_cue)."
    )
    return notes


def _facts(task: CausalTask) -> Row:
    return {"exploration": task.exploration, "graphs": _graphs(task)}


def _graphs(task: CausalTask) -> str:
    return "confounded" if task.confounded else "clear"


def _label(task: CausalTask) -> str:
    return f"{task.exploration}, {_graphs(task)} graphs"


def _limits(effect: Effect) -> Row:
    return {"value": effect.value, "low": effect.low, "high": effect.high, "n": effect.n, "p": effect.p}


FIGURES = {
    "returns": figures.for_each(
        "graphs", "returns",
        figures.points("returns", label="exploration", series="player", x_title="wins a trial", grey=(PRIOR, KNOWN)),
    ),
    "gains": figures.points("gains", label="contrast", series="player", x_title="difference in wins a trial", level=0),
}  # fmt: skip
