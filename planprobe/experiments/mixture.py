"""Mixture (D13): does an agent act on samples of what it believes, or does it maximise? And does it ask when it pays?

First the readings are tried on players of which the answer is known: each plays histories of its own, and these must be
attributed to it. Then agents are put through forced histories, every one that can happen in the first pulls, and their
whole policy is compared with every reading. The informative arm stands beside it: nobody who samples ever pulls it, for
it is never the best arm, while it is the best first pull by far.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.play_trials import play_trials
from planprobe.core.records import Evidence, Row
from planprobe.experiments import figures
from planprobe.experiments.intervals import over_seeds, over_trials
from planprobe.experiments.record import Findings, ProgressCallback, lead_rows, pick_budget, silent
from planprobe.instruments.detectors import mixture as detector
from planprobe.instruments.detectors.mixture import MIXTURE, RANDOM
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.references import choice_scores
from planprobe.subjects.references.bandit_players import BeliefPlayer, informative_thompson_return, informative_values
from planprobe.subjects.references.catalog import BAYES, GREEDY, THOMPSON, reference_players
from planprobe.subjects.references.goal_players import StepSamplingPlayer, SweepPlayer
from planprobe.subjects.references.goal_scores import NEAREST, walk_trials
from planprobe.subjects.references.play import Player
from planprobe.verdict.forced_choices import (
    FORCED,
    ask_choices,
    choice_task,
    judge_choices,
    pull_readings,
    walk_readings,
)

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent
    from planprobe.subjects.envs.trial_catalog import TrialTask

QUESTION = "does the agent act on samples of what it believes, or does it maximise, and does it ask when that pays?"
FIRST_PULL, RETURN = "chance of the informative arm at the first pull", "return"
CEILING = "the policy itself (ceiling)"
OWN = "own"


@dataclass(frozen=True)
class _Sizes:
    """most_histories: of those enumerated; repeats: of every simulation; own_trials: of a player, in each repeat;
    drawn_trials: with random pulls, for histories of every length; played: trials for a return."""

    most_histories: int
    repeats: int
    own_trials: int
    drawn_trials: int
    played: int


SIZES = {
    "smoke": _Sizes(100, 3, 40, 10, 50),
    "quick": _Sizes(1500, 10, 200, 60, 1000),
    "full": _Sizes(20_000, 100, 1000, 300, 10_000),
}


def run_mixture(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """D13 of each agent, after every reading was recovered; see `catalog.run_experiment` for the arguments.

    Raises: UnknownNameError (budget); RecipeError (an agent of a task without exact readings).
    """
    tell, sizes = progress or silent, pick_budget(SIZES, budget)
    tasks: list[TrialTask] = list(dict.fromkeys(choice_task(agent) for agent in agents))
    tables: dict[str, list[Row]] = {"recovery": [], "fits": [], "informative": []}
    evidence: list[Evidence] = []
    total = len(tasks) + len(agents)
    for number, task in enumerate(tasks):
        tell(number / total, f"recovering the players of {_label(task)}")
        tables["recovery"] += recover_players(task, sizes.own_trials, num_repeats=sizes.repeats, seed=seed)
    notes = [_recovery_note(tables["recovery"])] if tasks else []
    for number, agent in enumerate(agents, start=len(tasks)):
        tell(number / total, f"putting {agent.name} through histories")
        asked = ask_choices(
            agent, most_histories=sizes.most_histories, drawn_trials=sizes.drawn_trials, seed=seed
        )  # fmt: skip
        judged = next(iter(asked))
        parts = {
            name: judge_choices(part, num_repeats=sizes.repeats if name == judged else 0, seed=seed)
            for name, part in asked.items()
        }
        for name, found in parts.items():
            tables["fits"] += _fit_rows(agent.name, name, found, asked[name].chances)
        forced = parts[judged]
        recovered = [row for row in forced.rows if row["table"] == "recovery"]
        tables["recovery"] += [{"task": agent.name, "histories": judged, **_without_table(row)} for row in recovered]
        evidence.append(dataclasses.replace(forced, rows=[{"agent": agent.name, **row} for row in forced.rows]))
        notes.append(f"{agent.name}: {forced.outcome}. " + " ".join(forced.notes))
    tables["leads"] = lead_rows(evidence)
    asking = [agent for agent in agents if isinstance(agent.trial_task, InformativeBanditTask)]
    tables["informative"] = informative_rows(asking, num_trials=sizes.played, seed=seed)
    notes += _informative_notes(tables["informative"])
    tell(1.0, "done")
    return Findings(
        name="mixture", question=QUESTION, tables={name: rows for name, rows in tables.items() if rows},
        evidence=evidence, notes=notes + _GENERAL, provenance=dataclasses.asdict(sizes),
    )  # fmt: skip


def recover_players(task: TrialTask, num_trials: int, *, num_repeats: int, seed: int = 0) -> list[Row]:
    """Let each reference player play histories of its own, and see to which reading its choices are attributed.

    Returns: rows of `detector.attribution_rows`, each with the task.
    """
    rows: list[Row] = []
    for name, player in _players(task).items():
        found = []
        for repeat in range(num_repeats):
            player.seed = repeat  # pyright: ignore[reportAttributeAccessIssue] - each of these draws
            readings, actions = _own_choices(player, task, num_trials, seed + repeat)
            fits = detector.fit_readings(readings, F.one_hot(actions, next(iter(readings.values())).shape[1]).double())
            found.append(detector.best_reading(fits))
        known = detector.attribution_rows(name, found, [*readings, RANDOM])
        rows += [{"task": _label(task), "histories": OWN, **row} for row in known]
    return rows


def informative_rows(agents: Sequence[Agent], *, num_trials: int, seed: int = 0) -> list[Row]:
    """The first pull, and the return, of agents beside those of who maximises and who samples: Bayes 1, Thompson 0."""
    rows: list[Row] = []
    for agent in agents:
        rollout = play_trials(agent.net, agent.make_trials(num_trials), seed=seed)
        chance = float(rollout.logits[0, 0].double().softmax(-1)[-1])  # before anything is seen all trials are alike
        rows.append({"agent": agent.name, "measure": FIRST_PULL, "value": chance, "low": None, "high": None, "n": 1})
        rows.append({"agent": agent.name, "measure": RETURN, **over_trials(rollout.returns.double().numpy())})
    first = [float(row["value"] or 0) for row in rows if row["measure"] == FIRST_PULL]
    if len(first) > 1:
        rows.append({"agent": f"mean of {len(first)} nets", "measure": FIRST_PULL, **over_seeds(first)})
    task = agents[0].trial_task if agents else InformativeBanditTask()
    assert isinstance(task, InformativeBanditTask)
    best = float(informative_values(task)[task.num_pulls][-1].max())
    for name, pull, value in ((BAYES, 1.0, best), (MIXTURE, 0.0, informative_thompson_return(task))):
        rows += [
            {"agent": name, "measure": measure, "value": number, "low": number, "high": number, "n": None}
            for measure, number in ((FIRST_PULL, pull), (RETURN, value))
        ]
    return rows


def _players(task: TrialTask) -> dict[str, Player]:
    """Players of which the right reading is known, by its name."""
    if isinstance(task, HiddenGoalTask):
        return {MIXTURE: StepSamplingPlayer(), NEAREST: SweepPlayer()}
    known = {(MIXTURE if name == THOMPSON else name): player for name, player in reference_players(task).items()}
    if isinstance(task, BanditTask):
        known[GREEDY] = BeliefPlayer("greedy")
    return known


def _own_choices(player: Player, task: TrialTask, num_trials: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Readings (H, A) and the actions (H,) that the player took."""
    if isinstance(task, HiddenGoalTask):
        walks, actions = walk_trials(player, task, num_trials, seed=seed)
        return walk_readings(walks), actions.flatten()
    assert isinstance(task, (BanditTask, InformativeBanditTask))
    histories = choice_scores.own_histories(player, task, num_trials, seed=seed)
    readings = {name: scores.flatten(0, 1) for name, scores in pull_readings(task, histories).items()}
    return readings, histories.actions.flatten()


def _fit_rows(agent: str, histories: str, found: Evidence, chances: Tensor) -> list[Row]:
    """Fits with the likelihood of each reading over chance, and what no reading could exceed."""
    likelihood = {MIXTURE: found.effect, **found.controls}
    rows: list[Row] = []
    for row in found.rows:
        if row["table"] == "fits":
            effect = likelihood.get(str(row["reading"]))
            limits: Row = {key: getattr(effect, key, None) for key in ("value", "low", "high", "n")}
            rows.append({"agent": agent, "histories": histories, **limits, **_without_table(row)})
    certainty = torch.special.xlogy(chances, chances).sum(1) + torch.tensor(chances.shape[1]).log()
    ceiling = over_trials(certainty.numpy())
    return [*rows, {"agent": agent, "histories": histories, **ceiling, "reading": CEILING}]


def _recovery_note(rows: list[Row]) -> str:
    right = [row for row in rows if row["simulated"] == row["attributed"]]
    least = min(right, key=lambda row: float(row["value"] or 0))
    return (
        f"Reference players, each on histories of its own: {float(least['value'] or 0):.0%} or more of {least['n']} "
        f"repeats were attributed to the player that had played (least: {least['simulated']}, {least['task']})."
    )


def _informative_notes(rows: list[Row]) -> list[str]:
    known = {(row["agent"], row["measure"]): row for row in rows}
    sampling = float(known[MIXTURE, RETURN]["value"] or 0)
    notes = []
    for (name, measure), row in known.items():
        if measure != RETURN or name in (BAYES, MIXTURE):
            continue
        first, value = float(known[name, FIRST_PULL]["value"] or 0), float(row["value"] or 0)
        note = f"{name} pulls the informative arm first with chance {first:.2f} and earns {value:.2f}."
        if first < 0.5 and float(row["low"] or 0) <= sampling:
            note += f" That is no more than the {sampling:.1f} of one who never asks: its training got stuck there, "
            note += "which is a failure of training and says nothing for the mixture."
        notes.append(note)
    return notes


def _label(task: TrialTask) -> str:
    """The kind, with what tells two tasks of it apart."""
    sizes = {"num_arms": "arms", "num_pulls": "pulls", "size": "squares a side", "num_episodes": "episodes"}
    told = [f"{getattr(task, name)} {unit}" for name, unit in sizes.items() if hasattr(task, name)]
    return ", ".join([task.kind, *told])


def _without_table(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "table"}


_GENERAL = [
    "Every history counts alike, also those that the agent would hardly come to by itself: readings are compared on "
    "what can happen. Intervals are over histories, for this net; other nets are other rows.",
    "A reading that fits best is the nearest of those compared, not how the agent computes.",
]

FIGURES = {
    "fits": figures.points(
        "fits", label="reading", series="agent", x_title=detector.UNIT, where={"histories": FORCED}
    ),
    "first-pull": figures.points(
        "informative", label="agent", x_title=FIRST_PULL, where={"measure": FIRST_PULL}, grey=(BAYES, MIXTURE)
    ),
}  # fmt: skip
