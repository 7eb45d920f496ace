"""Adaptation (D11): how much better an agent becomes within a trial, and whether by what it remembers of this task.

Curves go on to five episodes where a task has episodes, beyond the trials that the agent was trained on; what is judged
is the last episode that it was trained on. The same trials are played by the reference players of the task.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from planprobe.core.play_trials import TrialRollout
from planprobe.core.records import Evidence, Row
from planprobe.experiments import figures
from planprobe.experiments.catalog import EXPERIMENTS
from planprobe.experiments.intervals import average_seeds, over_trials
from planprobe.experiments.record import Findings, ProgressCallback, pick_budget, silent
from planprobe.instruments.detectors import adaptation as detector
from planprobe.subjects.envs.trial_catalog import TEST_SEED, TrialTask, held_out, make_trial_env
from planprobe.verdict.criteria import ADAPTATION
from planprobe.verdict.reference_scores import PlayedReference, best_reference, play_references

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

NUM_TRIALS = {"smoke": 100, "quick": 2000, "full": 10_000}
NUM_BOARD_TRIALS = {
    "smoke": 24,
    "quick": 200,
    "full": 1000,
}  # of tasks that are seen as boards, where a step costs more
CURVE_EPISODES = 5
INDEX, LEARNING = "adaptation index", "in-context-learning score"
LEARNING_UNIT = "reward a step, last fifth less first fifth"
MAX_SHOTS = 60  # points of a curve; longer trials are shown in equal runs of steps


@dataclass(frozen=True)
class _Case:
    """One agent on its task, played: under each condition, and by the reference players."""

    agent: Agent
    task: TrialTask
    trained_stages: int
    rollouts: dict[str, TrialRollout]
    players: dict[str, PlayedReference]
    best: str | None
    evidence: Evidence


def run_adaptation(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """D11 of each agent, with curves by stage and by step; see `catalog.run_experiment` for the arguments.

    Raises: UnknownNameError (budget); RecipeError (an agent that plays no trials).
    """
    tell = progress or silent
    pick_budget(NUM_TRIALS, budget)
    cases, players = [], {}
    for number, agent in enumerate(agents):
        tell(number / len(agents), f"playing trials with {agent.name}")
        boards = agent.trial_task.make_env(1).spatial
        cases.append(_play(agent, (NUM_BOARD_TRIALS if boards else NUM_TRIALS)[budget], seed, players))
    tables: dict[str, list[Row]] = {"index": [row for case in cases for row in _index_rows(case)]}
    tables |= {
        "seeds": _seed_rows(tables["index"]),
        "stages": [row for case in cases for row in _stage_rows(case)],
    }
    tables["shots"] = [row for case in cases for row in _shot_rows(case)]
    tell(1.0, "done")
    return Findings(
        name="adaptation", question=EXPERIMENTS["adaptation"].question, tables=tables,
        evidence=[case.evidence for case in cases], notes=[_note(case) for case in cases] + _general_notes(cases),
        provenance={
            "num_trials": {case.agent.name: len(case.rollouts[detector.KEPT].actions) for case in cases},
            "policy": "sampled", "curve_episodes": CURVE_EPISODES, "trials_of_seed": TEST_SEED,
        },
    )  # fmt: skip


def extend_task(task: TrialTask, *, context: int | None = None) -> TrialTask:
    """The held-out task with at least CURVE_EPISODES episodes, where it has episodes and the net remembers so many.

    context: longest trial that the net takes, in steps.
    """
    task = held_out(task)
    if not hasattr(task, "num_episodes"):
        return task
    env = task.make_env(1)
    episodes = max(env.num_episodes, CURVE_EPISODES)
    if context is not None:
        episodes = max(env.num_episodes, min(episodes, context // env.episode_steps))
    return dataclasses.replace(task, num_episodes=episodes)  # pyright: ignore[reportArgumentType]


def _play(agent: Agent, num_trials: int, seed: int, players_of: dict[TrialTask, dict[str, PlayedReference]]) -> _Case:
    """players_of: reference players of tasks that were played before, to which this one's are added."""
    task = extend_task(agent.trial_task, context=getattr(agent.net, "context", None))
    trained = held_out(agent.trial_task).make_env(1).num_episodes
    make_trials = partial(_make_trials, task, agent)
    rollouts = detector.play_conditions(agent.net, make_trials, num_trials, seed=seed)
    num_stages = detector.stage_scores(rollouts[detector.KEPT]).shape[1]
    judged = trained if trained > 1 else num_stages
    if task not in players_of:
        players_of[task] = play_references(task, num_trials)
    players = players_of[task]
    best = best_reference(players, judged - 1)
    evidence = detector.judge(
        rollouts, best=players[best].stages if best else None, judged_stage=judged, min_effect=ADAPTATION.value,
        recurrent=bool(agent.net.initial_state(1, (make_trials(1).height, make_trials(1).width))), seed=seed,
    )  # fmt: skip
    rows: list[Row] = [{"agent": agent.name, **row} for row in evidence.rows]
    return _Case(agent, task, judged, rollouts, players, best, replace(evidence, rows=rows))


def _make_trials(task: TrialTask, agent: Agent, num_trials: int):
    return make_trial_env(task, agent.recipe.inputs, num_trials)


# tables --------------------------------------------------------------------------------------------------------------
def _stage_rows(case: _Case) -> list[Row]:
    """Score of every stage: of the agent under each condition, of each player; solved and steps where they differ."""
    rows: list[Row] = []
    for who, score in [
        *((name, detector.stage_scores(rollout)) for name, rollout in case.rollouts.items()),
        *((name, played.stages) for name, played in case.players.items()),
    ]:
        rows += _by_stage(case, who, "return", score)
    for who, rollout in case.rollouts.items():
        if bool(rollout.success.any()) and rollout.success.shape[1] > 1:
            rows += _by_stage(case, who, "solved", rollout.success.double().numpy())
            rows += _by_stage(case, who, "steps", rollout.episode_lengths.double().numpy())
    return rows


def _by_stage(case: _Case, who: str, measure: str, score: np.ndarray) -> list[Row]:
    return [
        {
            "agent": case.agent.name, "who": who, "measure": measure, "stage": stage,
            "trained_on": stage <= case.trained_stages, **over_trials(column),
        }
        for stage, column in enumerate(score.T, start=1)
    ]  # fmt: skip


def _index_rows(case: _Case) -> list[Row]:
    """Adaptation index and in-context-learning score under each condition, and of each player where it has them."""
    effects = {detector.KEPT: case.evidence.effect, **case.evidence.controls}
    rows: list[Row] = [
        {"agent": case.agent.name, "who": who, "measure": INDEX, "unit": effect.unit, "value": effect.value,
         "low": effect.low, "high": effect.high, "n": effect.n}
        for who, effect in effects.items()
    ]  # fmt: skip
    scores = {who: detector.learning_score(rollout.rewards, rollout.active) for who, rollout in case.rollouts.items()}
    scores |= {who: detector.learning_score(played.rewards, played.active) for who, played in case.players.items()}
    for who, score in scores.items():
        label: Row = {"agent": case.agent.name, "who": who, "measure": LEARNING, "unit": LEARNING_UNIT}
        rows.append(label | over_trials(score))
    return rows


def _shot_rows(case: _Case) -> list[Row]:
    """Mean reward at the k-th step of a trial, of those that are still running."""
    parts: dict[str, tuple[Tensor, Tensor]] = {
        who: (case.rollouts[who].rewards, case.rollouts[who].active) for who in (detector.KEPT, detector.RESET_STEPS)
    }
    if case.best:
        parts[case.best] = (case.players[case.best].rewards, case.players[case.best].active)
    rows: list[Row] = []
    for who, (rewards, active) in parts.items():
        width = -(-rewards.shape[1] // MAX_SHOTS)
        for first in range(0, rewards.shape[1], width):
            mask = active[:, first : first + width]
            paid = (rewards[:, first : first + width] * mask).sum(1)[mask.any(1)] / mask.sum(1)[mask.any(1)]
            if len(paid) >= detector.MIN_TRIALS:
                label: Row = {"agent": case.agent.name, "who": who, "step": first + 1, "steps_averaged": width}
                rows.append(label | over_trials(paid.double().numpy()))
    return rows


def _seed_rows(index: list[Row]) -> list[Row]:
    """Mean over the seeds of a recipe, where there are several; players play the same trials for every seed."""
    conditions = (detector.KEPT, *detector.CONTROLS)
    rows = [
        {"recipe": re.sub(r"-s\d+$", "", str(row["agent"])), **row}
        for row in index
        if row["who"] in conditions and not math.isnan(float(row["value"]))  # pyright: ignore[reportArgumentType]
    ]
    averaged = average_seeds(rows, ("recipe", "who", "measure", "unit"))
    return [row for row in averaged if row["low"] is not None]


# sentences -----------------------------------------------------------------------------------------------------------
def _note(case: _Case) -> str:
    item = case.evidence
    controls = ", ".join(f"{effect.value:+.2f} with {name}" for name, effect in item.controls.items())
    beside = f"; the best player here is '{case.best}'" if case.best else "; no reference player is written down here"
    return (
        f"{case.agent.name} ({case.task.kind}): gain {item.effect.value:+.2f} [{item.effect.low:+.2f}, "
        f"{item.effect.high:+.2f}] ({item.effect.unit}), {controls}{beside}. D11 {item.outcome}."
    )


def _general_notes(cases: list[_Case]) -> list[str]:
    notes = [
        "Adapting is compatible with planning and is no sign of it: a belief filter with a fixed policy, a sampler of "
        "worlds and a replayer of remembered paths adapt as well."
    ]
    notes += [
        f"{case.agent.name} was trained on {case.trained_stages} episodes a trial; later ones show how far what it "
        "learned to do reaches beyond them, and are not judged."
        for case in cases
        if detector.stage_scores(case.rollouts[detector.KEPT]).shape[1] > case.trained_stages
    ]
    if any(case.rollouts[detector.KEPT].episode_returns.shape[1] == 1 for case in cases):
        notes.append("A trial of one episode is cut in five equal runs of steps, and the first already holds learning.")
    if any(case.agent.recipe.inputs.reward and case.agent.recipe.inputs.previous_action for case in cases):
        notes.append(
            "With memory reset each step an agent still sees its last action and reward, a memory of one step that its "
            "inputs hold: what is gained then is that."
        )
    return notes


_GREY = (*detector.CONTROLS,)
_STAGES = figures.lines(
    "stages", x="stage", series="who", x_title="episode, or fifth of the trial", y_title="return",
    where={"measure": "return"}, grey=_GREY,
)  # fmt: skip
_SHOTS = figures.lines("shots", x="step", series="who", x_title="step of the trial", y_title="mean reward", grey=_GREY)
FIGURES = {
    "stages": figures.for_each("agent", "stages", _STAGES),
    "shots": figures.for_each("agent", "shots", _SHOTS),
    "index": figures.points(
        "index", label="agent", series="who", x_title=f"{INDEX} (95 % intervals over trials)",
        where={"measure": INDEX}, grey=_GREY, level=0,
    ),
}  # fmt: skip
