"""Revaluation of agents that learn within a trial (D10): a better course that they have never taken.

Maze trials: a shortcut that the agent's own first way missed; a wall beside that way that opens, a passage of it that
closes. Two-step tasks that show their map: transitions that swap, in a combination that training held out. Two-step
tasks at all: the stay table, beside reference players, in which people have looked for planning and where there is none
to be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.play_trials import play_trials
from planprobe.core.records import Evidence, Row
from planprobe.experiments import figures
from planprobe.experiments.record import Findings, ProgressCallback, lead_rows, pick_budget, silent
from planprobe.subjects.envs.trial_catalog import held_out, make_trial_env
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.references.two_step_players import TWO_STEP_PLAYERS, make_two_step_player, play_rounds
from planprobe.subjects.trial_changes import TrialChange, trial_changes
from planprobe.subjects.trial_measures import stay_interval
from planprobe.verdict.trial_study import revalue

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

QUESTION = "does an agent that learns within a trial take a better course that it has never taken?"
NUM_TRIALS = {"smoke": 40, "quick": 1500, "full": 5000}
"""Few trials have a better course that no rule of thumb finds: of 300 in mazes of 7 x 7 often fewer than ten."""
STAY_NOTE = (
    "The stay table is no evidence of planning: the largest interaction is that of a table of the last round, which "
    "plans nothing."
)


def run_revaluation(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """D10 within trials for every change that an agent's task allows; see `catalog.run_experiment` for the arguments.

    Raises: UnknownNameError (budget); RecipeError (an agent that plays no trials).
    """
    tell, num_trials = progress or silent, pick_budget(NUM_TRIALS, budget)
    evidence: list[Evidence] = []
    stays: list[Row] = []
    notes: list[str] = []
    for number, agent in enumerate(agents):
        changes = trial_changes(agent.trial_task)
        if not changes:
            notes.append(f"{agent.name}: '{agent.trial_task.kind}' allows no change that makes another course best.")
        for part, change in enumerate(changes):
            tell((number + part / len(changes)) / len(agents), f"{agent.name}: {change.name}")
            try:
                item = revalue(agent, [change], num_trials, seed=seed)
            except TooFewLevelsError as error:  # who finds the shortest way at once leaves nothing to be improved
                notes.append(f"{agent.name}, {change.name}: not measured. {' '.join(str(error).split())}")
                continue
            evidence.append(replace(item, rows=[{"agent": agent.name, **row} for row in item.rows]))
            notes.append(_note(agent, change, item))
        if isinstance(agent.trial_task, TwoStepTask):
            stays += stay_rows(agent, num_trials, seed=seed)
    tables = {"leads": lead_rows(evidence), "scores": [row for item in evidence for row in item.rows]}
    if stays:
        tables["stays"] = stays
        notes.append(STAY_NOTE)
    tell(1.0, "done")
    return Findings(
        name="revaluation", question=QUESTION, tables=tables, evidence=evidence, notes=notes,
        provenance={"num_trials": num_trials, "policy": "sampled"},
    )  # fmt: skip


def stay_rows(agent: Agent, num_trials: int, *, seed: int = 0) -> list[Row]:
    """Stay interaction of an agent and of the reference players on its task, with jackknife intervals over trials."""
    task = held_out(agent.trial_task)
    assert isinstance(task, TwoStepTask)
    rollout = play_trials(agent.net, make_trial_env(task, agent.recipe.inputs, num_trials), seed=seed)
    common = rollout.extras["common"][:, ::2]
    found = {agent.name: stay_interval(rollout.actions[:, ::2], common, rollout.rewards[:, 1::2])}
    for name in TWO_STEP_PLAYERS:
        found[name.replace("_", " ")] = stay_interval(*play_rounds(make_two_step_player(name), task, num_trials, seed))
    return [
        {"agent": agent.name, "player": name, "measure": "stay interaction (no evidence of planning)",
         "value": value, "low": low, "high": high, "n": n}
        for name, (value, low, high, n) in found.items()
    ]  # fmt: skip


def _note(agent: Agent, change: TrialChange, item: Evidence) -> str:
    beyond = item.beyond_controls
    return (
        f"{agent.name}, {change.name}: {item.outcome}; better course taken in {item.effect.value:.2f} of "
        f"{item.effect.n} trials, {beyond.value:+.2f} [{beyond.low:+.2f}, {beyond.high:+.2f}] beyond the best control."
    )


FIGURES = {
    "scores": figures.points(
        "scores", label="condition", series="agent", x_title="better course taken (fraction of trials)",
        where={"change": "never-walked shortcut"},
    ),
    "stays": figures.points("stays", label="player", x_title="stay interaction (no evidence of planning)"),
}  # fmt: skip
