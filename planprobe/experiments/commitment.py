"""Commitment (D14): does an agent that looks for a hidden goal go for one goal until it is ruled out?

The agent's walks are looked at under every goal there may be, beside those of players of which the answer is known: one
draws a goal once an episode, one draws on every step, one sweeps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.core.protocols import Policy, State
from planprobe.core.records import Effect, Evidence, Row
from planprobe.experiments import figures
from planprobe.experiments.record import Findings, ProgressCallback, pick_budget, silent
from planprobe.instruments.detectors import commitment as detector
from planprobe.instruments.detectors.commitment import ANEW, HELD, HypothesisTrials
from planprobe.instruments.hooks import open_policy
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.references.goal_players import PosteriorSamplingPlayer, StepSamplingPlayer, SweepPlayer
from planprobe.subjects.references.goal_scores import GoalWalks, score_walks, walk_trials
from planprobe.subjects.references.play import Player
from planprobe.verdict.criteria import COMMITMENT

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

QUESTION = "does an agent that looks for a hidden goal go for one goal until it is ruled out, or change its mind?"
NUM_TRIALS = {"smoke": 40, "quick": 300, "full": 2000}
NUM_NOISES, APART = 8, 1000  # settings of a noise input, in steps of a clock
SWEEP = "sweep"


@dataclass(frozen=True)
class _Played:
    """One agent's trials: rollout with observations, the same under every goal, and the chances of who sweeps."""

    rollout: TrialRollout
    trials: HypothesisTrials
    sweeping: Tensor


def run_commitment(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """D14 of each agent, after the players; see `catalog.run_experiment` for the arguments.

    Raises: UnknownNameError (budget); RecipeError (an agent that does not look for a hidden goal).
    """
    tell, number = progress or silent, pick_budget(NUM_TRIALS, budget)
    tasks = list(dict.fromkeys(_checked(agent) for agent in agents))
    tables: dict[str, list[Row]] = {"players": [], "agents": [], "noise": [], "ticks": []}
    evidence: list[Evidence] = []
    for place, task in enumerate(tasks):
        tell(0.3 * place / len(tasks), "letting players of which the answer is known walk")
        tables["players"] += player_rows(task, number, seed=seed)
    for place, agent in enumerate(agents):
        tell(0.3 + 0.7 * place / len(agents), f"walking with {agent.name}")
        found = judge_agent(agent, number, seed=seed)
        tables["agents"] += [{"agent": agent.name, "walker": name, **row} for name, row in _walker_rows(found)]
        for row in found.rows:
            tables[str(row["table"])].append({"agent": agent.name} | {k: v for k, v in row.items() if k != "table"})
        evidence.append(dataclasses.replace(found, rows=[{"agent": agent.name, **row} for row in found.rows]))
    tell(1.0, "done")
    return Findings(
        name="commitment", question=QUESTION, tables={name: rows for name, rows in tables.items() if rows},
        evidence=evidence, notes=[_note(agent.name, found) for agent, found in zip(agents, evidence, strict=True)],
        provenance={"num_trials": number},
    )  # fmt: skip


def judge_agent(agent: Agent, num_trials: int, *, seed: int = 0) -> Evidence:
    """D14 of one agent, beside the player that draws on every step, on the same goals."""
    task = _checked(agent)
    played = _play(agent, task, num_trials, seed)
    walks, actions = walk_trials(StepSamplingPlayer(seed=seed), task, num_trials, seed=seed)
    control = _hypotheses(walks, actions, played.rollout.episodes)
    lapse = detector.commitment(played.trials)[1][HELD]
    assert played.rollout.observations is not None  # play_trials was asked to keep them
    further = detector.tick_rows(
        open_policy(agent.net, name=agent.name), played.rollout.observations, played.trials, lapse=lapse, seed=seed
    )
    noises = noise_states(agent.net, num_trials)
    if noises:
        further += detector.noise_rows(
            agent.net, played.rollout.observations, played.rollout.active, noises, seed=seed
        )  # fmt: skip
    return detector.run(
        played.trials, controls={f"player, {ANEW}": control}, rivals={SWEEP: played.sweeping},
        min_effect=COMMITMENT.value, further=further, seed=seed,
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
        trials = _hypotheses(walks, actions, episodes)
        found = detector.run(
            trials, controls={}, rivals={SWEEP: _sweeping(walks, actions)}, min_effect=COMMITMENT.value, seed=seed
        )  # fmt: skip
        for measure, effect in (("over one a step", found.effect), ("least lead", found.beyond_controls)):
            rows.append({"task": task.kind, "player": name, "measure": measure, **_limits(effect)})
    return rows


def noise_states(policy: Policy, num_trials: int) -> list[State]:
    """Memories that differ in the noise input alone, where a net has one: organisms draw by their clock."""
    if not getattr(policy, "clocked", False):
        return []
    *memory, clock = policy.initial_state(num_trials, (1, 1))
    return [(*memory, clock + APART * number) for number in range(NUM_NOISES)]


def _checked(agent: Agent) -> HiddenGoalTask:
    task = agent.trial_task
    if not isinstance(task, HiddenGoalTask):
        raise RecipeError(
            f"'{agent.name}' plays '{task.kind}'; what every value of psi implies is written down for hidden-goal."
        )
    return task


def _play(agent: Agent, task: HiddenGoalTask, num_trials: int, seed: int) -> _Played:
    rollout = play_trials(agent.net, agent.make_trials(num_trials, seed=seed), seed=seed, keep_observations=True)
    walks = score_walks(task, rollout.extras["square_before"], rollout.extras["square"], rollout.rewards)
    hypotheses = _hypotheses(walks, rollout.actions, rollout.episodes)
    return _Played(rollout, hypotheses, _sweeping(walks, rollout.actions))


def _sweeping(walks: GoalWalks, actions: Tensor) -> Tensor:
    """Chance (N, T) of each action of who goes to the nearest goal that is left."""
    return walks.nearest().gather(2, actions[..., None]).squeeze(2)


def _hypotheses(walks: GoalWalks, actions: Tensor, episodes: Tensor) -> HypothesisTrials:
    ways = walks.ways[walks.squares]  # (N, T, G, A)
    taken = ways.gather(3, actions[:, :, None, None].expand(-1, -1, ways.shape[2], 1)).squeeze(3)
    return HypothesisTrials(taken, walks.belief, episodes, torch.ones_like(actions, dtype=torch.bool), ways.shape[3])


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
    "agents": figures.points("agents", label="walker", series="agent", x_title=detector.UNIT, level=0),
}
