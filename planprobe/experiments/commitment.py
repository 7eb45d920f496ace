"""Commitment (D14): does an agent that looks for a hidden goal go for one goal until it is ruled out?

The agent's walks are looked at under every goal there may be, beside those of players of which the answer is known: one
draws a goal once an episode, one draws on every step, one sweeps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from planprobe.core.records import Effect, Evidence, Row
from planprobe.experiments import figures
from planprobe.experiments.record import Findings, ProgressCallback, pick_budget, silent
from planprobe.instruments.detectors import commitment as detector
from planprobe.instruments.detectors.commitment import ANEW, HELD
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.references.goal_players import PosteriorSamplingPlayer, StepSamplingPlayer, SweepPlayer
from planprobe.subjects.references.goal_scores import walk_trials
from planprobe.subjects.references.play import Player
from planprobe.verdict.criteria import COMMITMENT
from planprobe.verdict.goal_courses import SWEEP, as_hypotheses, goal_task, judge_commitment, sweeping_chances

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

QUESTION = "does an agent that looks for a hidden goal go for one goal until it is ruled out, or change its mind?"
NUM_TRIALS = {"smoke": 40, "quick": 300, "full": 2000}


def run_commitment(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """D14 of each agent, after the players; see `catalog.run_experiment` for the arguments.

    Raises: UnknownNameError (budget); RecipeError (an agent that does not look for a hidden goal).
    """
    tell, number = progress or silent, pick_budget(NUM_TRIALS, budget)
    tasks = list(dict.fromkeys(goal_task(agent) for agent in agents))
    tables: dict[str, list[Row]] = {"players": [], "D14": [], "noise": [], "ticks": []}
    evidence: list[Evidence] = []
    notes: list[str] = []
    for place, task in enumerate(tasks):
        tell(0.3 * place / len(tasks), "letting players of which the answer is known walk")
        tables["players"] += player_rows(task, number, seed=seed)
    for place, agent in enumerate(agents):
        tell(0.3 + 0.7 * place / len(agents), f"walking with {agent.name}")
        found = judge_commitment(agent, number, seed=seed)
        walkers = [{"agent": agent.name, "walker": name, **row} for name, row in _walker_rows(found)]
        tables["D14"] += walkers
        for row in found.rows:
            tables[str(row["table"])].append({"agent": agent.name} | {k: v for k, v in row.items() if k != "table"})
        evidence.append(dataclasses.replace(found, rows=walkers))
        notes.append(_note(agent.name, found))
    tell(1.0, "done")
    return Findings(
        name="commitment", question=QUESTION, tables={name: rows for name, rows in tables.items() if rows},
        evidence=evidence, notes=notes,
        provenance={"num_trials": number},
    )  # fmt: skip


def player_rows(task: HiddenGoalTask, num_trials: int, *, seed: int = 0) -> list[Row]:
    """The measurement on players: above zero for who holds a goal, below for who draws on every step."""
    players: dict[str, Player] = {
        HELD: PosteriorSamplingPlayer(seed=seed), ANEW: StepSamplingPlayer(seed=seed), SWEEP: SweepPlayer(seed=seed),
    }  # fmt: skip
    rows: list[Row] = []
    for name, player in players.items():
        walks, actions = walk_trials(player, task, num_trials, seed=seed)
        episodes = torch.arange(task.num_episodes).repeat_interleave(task.episode_steps).expand_as(actions)
        trials = as_hypotheses(walks, actions, episodes)
        found = detector.run(
            trials, controls={}, rivals={SWEEP: sweeping_chances(walks, actions)}, min_effect=COMMITMENT.value,
            seed=seed,
        )  # fmt: skip
        for measure, effect in (("over one a step", found.effect), ("least lead", found.beyond_controls)):
            rows.append({"task": task.kind, "player": name, "measure": measure, **_limits(effect)})
    return rows


def _walker_rows(found: Evidence) -> list[tuple[str, Row]]:
    parts = [("the agent", found.effect), *found.controls.items(), ("beyond the best control", found.beyond_controls)]
    return [(name, _limits(effect)) for name, effect in parts]


def _limits(effect: Effect) -> Row:
    return {"value": effect.value, "low": effect.low, "high": effect.high, "n": effect.n}


def _note(agent: str, found: Evidence) -> str:
    effect = found.effect
    note = f"{agent}: {found.outcome}. A held goal explains its steps by {effect.value:+.3f} nats a step "
    note += f"[{effect.low:+.3f}, {effect.high:+.3f}] better than one drawn on every step. " + " ".join(found.notes)
    if not any(row.get("table") == "noise" for row in found.rows):
        note += " It has no noise input; what differs between equal histories is the draw of its actions alone."
    return note


FIGURES = {
    "players": figures.points("players", label="player", series="measure", x_title=detector.UNIT, level=0),
    "agents": figures.points("D14", label="walker", series="agent", x_title=detector.UNIT, level=0),
}
