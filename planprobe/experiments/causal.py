"""Causal graphs: what is choosing one's own interventions worth, and what do hidden causes take away?

Nets are trained on each way of exploring (watching, random interventions, interventions of one's own) with and without
hidden common causes; or agents that are given play under each of them. Beside them stands the exact posterior over
graphs, explored with in the same way, and what is won by one who knows the prior alone, or the graph. A bet is scored
by its chance of being won, which the graph tells: what exploring is worth is less than the luck of thousands of bets.
Source: after Dasgupta et al. 2019.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.core.protocols import Policy, StepResult
from planprobe.core.records import Effect, Row
from planprobe.experiments import figures
from planprobe.experiments.intervals import average_seeds, over_trials
from planprobe.experiments.record import Findings, ProgressCallback, between, pick_budget, silent
from planprobe.experiments.small_nets import train_on
from planprobe.instruments.statistics.stats import bootstrap_difference
from planprobe.subjects.envs.causal import EXPLORATIONS, CausalTask
from planprobe.subjects.envs.causal_graphs import NUM_SETTINGS
from planprobe.subjects.envs.trial_catalog import TEST_SEED, make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.recipe import NetRecipe, TrainingRecipe
from planprobe.subjects.references.causal_players import CausalPlayer, causal_bounds, win_chances
from planprobe.subjects.references.play import play_reference

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

QUESTION = "what is choosing one's own interventions worth over random ones, and what do hidden causes take away?"
EXACT, PRIOR, KNOWN = "exact posterior", "prior alone", "graph known"
NET_OF, FORGETS = "net s", ", memory reset each step"
UNIT = "share of what knowing the graph is worth"
SAID = ("active over random", "active over observe", "confounded over clear, active")
HOLDS = ("watches", "holds the variable asked about", "holds another variable")
NET = NetRecipe(kind="gru", channels=48, hidden=48)
TASK = CausalTask(early_cue=True)


@dataclass(frozen=True)
class _Sizes:
    """frames: of each net's training; seeds: nets of each condition; num_trials: that each is measured on.

    A net that has seen fewer than some millions of steps bets by the prior alone, so that a quick run asks the exact
    posterior and trains none.
    """

    frames: int
    seeds: int
    num_trials: int


SIZES = {"smoke": _Sizes(3072, 1, 100), "quick": _Sizes(0, 0, 10_000), "full": _Sizes(6_000_000, 3, 10_000)}


def training_recipe(frames: int) -> TrainingRecipe:
    """How each net is trained; an unroll is a trial."""
    return TrainingRecipe(
        frames=frames, num_boards=256, unroll=TASK.num_samples + 1, gamma=1.0, lam=1.0, lr=(3e-3, 1e-4),
        entropy=(0.02, 0.0), epochs=2, num_minibatches=2,
    )  # fmt: skip


def run_causal(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """Returns under every way of exploring; see `catalog.run_experiment`. Without agents it trains its own nets, at
    budgets that suffice for any.

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
    shares: dict[tuple[CausalTask, str], np.ndarray] = {}
    choices: list[Row] = []
    for place, task in enumerate(tasks):
        here = between(place / len(tasks), (place + 1) / len(tasks), tell)
        for name, (net, inputs) in _nets(agents, task, sizes, seed, here).items():
            for who, reset in ((name, "never"), (name + FORGETS, "each step")):
                env = make_trial_env(task, inputs, sizes.num_trials)
                rollout = play_trials(net, env, seed=seed, reset_memory=reset)
                shares[task, who] = net_shares(task, rollout)
                choices += _choice_rows(name, task, rollout) if reset == "never" else []
        shares[task, EXACT] = player_shares(task, sizes.num_trials, seed=seed)
    gains = _gain_rows(shares, seed)
    tables = {"scores": _score_rows(shares), "gains": gains, "choices": choices}
    trained = bool(sizes.seeds) and not agents
    if trained:
        tables["seeds"] = _seed_rows(tables["scores"], ("exploration", "graphs"))
        tables["gains-seeds"] = _seed_rows(gains, ("contrast", "graphs"))
    tell(1.0, "done")
    return Findings(
        name="causal", question=QUESTION, tables={name: part for name, part in tables.items() if part},
        notes=_notes(tables, trained=trained), provenance={
            "task": dataclasses.asdict(base), "trained": trained, **dataclasses.asdict(sizes),
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
        nets[f"{NET_OF}{seed + number}"] = (
            train_on(task, inputs, NET, training_recipe(sizes.frames), seed=seed + number, progress=part), inputs
        )  # fmt: skip
    return nets


def net_shares(task: CausalTask, rollout: TrialRollout) -> np.ndarray:
    """What an agent's bets are worth, by `share_won`, over the chances that it gives to each of them."""
    last = task.num_samples
    held = (rollout.extras["setting"][:, last] - 1) // 2
    return share_won(task, rollout.latents["graph"], held, rollout.logits[:, last].double().softmax(-1))


def player_shares(task: CausalTask, num_trials: int, *, seed: int) -> np.ndarray:
    """What the bets of the exact posterior are worth, on the trials that agents are measured on."""
    player = CausalPlayer("informative" if task.exploration == "active" else "observe", seed=seed)
    quiz: list[Tensor] = []

    def on_step(t: int, actions: Tensor, result: StepResult) -> None:
        if t == task.num_samples:
            quiz.extend((actions, (result.extras["setting"] - 1) // 2))

    play_reference(player, task, num_trials, TEST_SEED, on_step=on_step)
    env = task.make_env(num_trials, seed=TEST_SEED, autoreset=False)
    env.reset()
    bets = torch.nn.functional.one_hot(quiz[0], NUM_SETTINGS).double()
    return share_won(task, env.latents()["graph"], quiz[1], bets)


def share_won(task: CausalTask, graph: Tensor, held: Tensor, bets: Tensor) -> np.ndarray:
    """Chance of winning the quiz of each trial, (N,) float64: 0 is that of the prior alone, 1 that of the graph known,
    on average over graphs. Args: graph, held variable (N,) int64; bets: chance of each action (N, 7)."""
    prior, known = causal_bounds(task)
    wins = (win_chances(task.graphs())[graph, held] * bets).sum(-1)
    return ((wins - prior) / (known - prior)).numpy()


def _score_rows(shares: Mapping[tuple[CausalTask, str], np.ndarray]) -> list[Row]:
    rows: list[Row] = []
    for (task, player), values in shares.items():
        prior, known = causal_bounds(task)
        found = over_trials(values)
        wins = prior + float(found["value"] or 0) * (known - prior)
        rows.append({**_facts(task), "player": player, **found, "wins_a_trial": wins})
        if player == EXACT:
            for name, bound, share in ((PRIOR, prior, 0.0), (KNOWN, known, 1.0)):
                limits: Row = {"value": share, "low": share, "high": share, "n": None, "wins_a_trial": bound}
                rows.append({**_facts(task), "player": name, **limits})
    return rows


def _gain_rows(shares: Mapping[tuple[CausalTask, str], np.ndarray], seed: int) -> list[Row]:
    """Differences between conditions, on the same draws of graphs where the graphs are of one kind."""
    rows: list[Row] = []
    for (task, player), values in shares.items():
        others = [
            (f"{task.exploration} over {second}", _graphs(task), dataclasses.replace(task, exploration=second))
            for first, second in (("active", "random"), ("active", "observe"), ("random", "observe"))
            if task.exploration == first
        ]
        if task.confounded:
            clear = dataclasses.replace(task, confounded=False)
            others.append((f"confounded over clear, {task.exploration}", "both", clear))
        for contrast, graphs, other in others:
            effect = bootstrap_difference(values, shares[other, player], unit=UNIT, seed=seed)
            rows.append({"player": player, "graphs": graphs, "contrast": contrast, **_limits(effect)})
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


def _seed_rows(rows: list[Row], columns: tuple[str, ...]) -> list[Row]:
    """Mean over nets, whose seeds are the units; nets that forget apart."""
    nets = [
        {**row, "player": "nets" + (FORGETS if str(row["player"]).endswith(FORGETS) else "")}
        for row in rows
        if str(row["player"]).startswith(NET_OF)
    ]
    return average_seeds(nets, (*columns, "player"))


def _notes(tables: Mapping[str, list[Row]], *, trained: bool) -> list[str]:
    exact = [row for row in tables["gains"] if row["player"] == EXACT]
    others = tables["gains-seeds"] if trained else [row for row in tables["gains"] if row["player"] != EXACT]
    notes = [
        f"{row['player']}, {row['graphs']} graphs, {row['contrast']}: {_interval(row)} of what the graph is worth."
        for row in (*exact, *others)
        if row["contrast"] in SAID and not str(row["player"]).endswith(FORGETS)
    ]
    notes.append(
        "A net that wins less than the exact posterior may have been trained too little; only the exact player says "
        "what the task allows. Knowing which variable will be held makes choosing worth something (early_cue)."
    )
    if not others:
        notes.append("No nets are trained at this budget; give it agents, or --budget full.")
    if trained:
        notes.append(
            "Contrasts of nets compare nets trained apart; their intervals are over seeds, and hold what training left "
            "to chance. With memory reset a net has the last sample alone, which the view still shows."
        )
    return notes


def _interval(row: Row) -> str:
    return f"{row['value']:+.3f}" + ("" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]")


def _facts(task: CausalTask) -> Row:
    return {"exploration": task.exploration, "graphs": _graphs(task)}


def _graphs(task: CausalTask) -> str:
    return "confounded" if task.confounded else "clear"


def _label(task: CausalTask) -> str:
    return f"{task.exploration}, {_graphs(task)} graphs"


def _limits(effect: Effect) -> Row:
    return {"value": effect.value, "low": effect.low, "high": effect.high, "n": effect.n, "p": effect.p}


FIGURES = {
    "scores": figures.for_each(
        "graphs", "scores",
        figures.points("scores", label="exploration", series="player", x_title=UNIT, grey=(PRIOR, KNOWN)),
    ),
    "gains": figures.points("gains", label="contrast", series="player", x_title=f"difference, {UNIT}", level=0),
}  # fmt: skip
