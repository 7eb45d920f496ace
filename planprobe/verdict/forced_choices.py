"""What an agent would do on histories that it is put through, and what every exact reading says there: what D13 needs.

Bandits are asked about all that can happen in their first pulls, the hidden goal about walks of one who changes its
mind on every step: these lead to places where the readings disagree.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.play_trials import play_trials
from planprobe.core.protocols import Policy, State
from planprobe.core.records import Evidence
from planprobe.instruments.detectors import mixture
from planprobe.instruments.detectors.mixture import MIXTURE
from planprobe.instruments.detectors.search_order import Search
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.trial_inputs import TrialInputs
from planprobe.subjects.references import choice_scores
from planprobe.subjects.references.catalog import THOMPSON
from planprobe.subjects.references.choice_scores import PullHistories, PullTask, ScriptedPulls
from planprobe.subjects.references.goal_players import StepSamplingPlayer
from planprobe.subjects.references.goal_scores import NEAREST, GoalWalks, walk_trials
from planprobe.verdict.criteria import MIXTURE_LEAD

FORCED, DRAWN = "enumerated", "drawn at random"
APART = 1000  # settings of a noise input, in steps of a clock


@dataclass(frozen=True)
class ForcedChoices:
    """Histories put to an agent: readings name -> (H, A) scores; chances (H, A) of the agent; ids (H,) of the units;
    search, the histories under each value of psi, where there is something to be searched for."""

    readings: dict[str, Tensor]
    chances: Tensor
    ids: Tensor
    search: Search | None = None


def choice_task(agent: Agent) -> PullTask | HiddenGoalTask:
    """The task of an agent, where exact readings of its choices are known. Raises: RecipeError (another task)."""
    task = agent.trial_task
    if not isinstance(task, (BanditTask, InformativeBanditTask, HiddenGoalTask)):
        raise RecipeError(
            f"'{agent.name}' plays '{task.kind}', and exact readings of choices are known for bandit, "
            "informative-bandit and hidden-goal.\n  Take an agent of one of these: planprobe agents list."
        )
    return task


def ask_choices(agent: Agent, *, most_histories: int, drawn_trials: int, seed: int = 0) -> dict[str, ForcedChoices]:
    """By kind of histories, the one that is judged first.

    Args: most_histories: of those enumerated. drawn_trials: with random pulls, for histories of every length, or walks.
    Raises: RecipeError (a task without exact readings of choices).
    """
    task = choice_task(agent)
    if isinstance(task, HiddenGoalTask):
        walks, actions = walk_trials(StepSamplingPlayer(seed=seed), task, drawn_trials, seed=seed)
        start = independent_noise(agent.net, len(actions))
        env = agent.make_trials(len(actions), seed=seed)
        rollout = play_trials(agent.net, env, forced=actions, initial_state=start)
        ids = torch.arange(len(actions))[:, None].expand_as(actions).flatten()
        chances = rollout.logits.double().softmax(-1).flatten(0, 1)
        search = Search(walks.belief.flatten(0, 1), walks.ways[walks.squares].flatten(0, 1), ids)
        return {DRAWN: ForcedChoices(walk_readings(walks), chances, ids, search)}
    forced = choice_scores.enumerate_histories(task, choice_scores.depth_within(task, most_histories))
    found = {FORCED: _ask_pulls(agent, task, forced, *forced.prefixes(task.num_pulls))}
    drawn = choice_scores.draw_histories(task, drawn_trials, seed=seed)
    rows, steps = torch.ones_like(drawn.actions).nonzero(as_tuple=True)
    return found | {DRAWN: dataclasses.replace(_ask_pulls(agent, task, drawn, rows, steps), ids=rows)}


def judge_choices(asked: ForcedChoices, *, num_repeats: int, seed: int = 0) -> Evidence:
    """D13 on histories of one kind. num_repeats: simulations of each reading."""
    return mixture.run(
        asked.readings, asked.chances, history_ids=asked.ids, search=asked.search,
        min_share=MIXTURE_LEAD.value, num_repeats=num_repeats, seed=seed,
    )  # fmt: skip


def independent_noise(policy: Policy, num_trials: int) -> State | None:
    """A memory to begin with in which every trial has a noise of its own, where a net has a noise input: organisms draw
    by their clock, and would all draw alike where all have seen the same. None where there is nothing to be set."""
    if not getattr(policy, "clocked", False):
        return None
    *memory, clock = policy.initial_state(num_trials, (1, 1))
    return (*memory, clock + APART * torch.arange(num_trials)[:, None].to(clock.dtype))


def pull_readings(task: PullTask, histories: PullHistories) -> dict[str, Tensor]:
    """Scores (N, L, A) of each reading before each pull, by the names that D13 goes by."""
    scores = choice_scores.score_readings(task, histories)
    return {(MIXTURE if name == THOMPSON else name): score for name, score in scores.items()}


def walk_readings(walks: GoalWalks) -> dict[str, Tensor]:
    """Log chances (N * T, A) of each reading on each step of walks."""
    return {MIXTURE: walks.mixture().flatten(0, 1).log(), NEAREST: walks.nearest().flatten(0, 1).log()}


def _ask_pulls(agent: Agent, task: PullTask, histories: PullHistories, rows: Tensor, lengths: Tensor) -> ForcedChoices:
    env = TrialInputs(ScriptedPulls(task, histories.rewards), agent.recipe.inputs)
    rollout = play_trials(agent.net, env, forced=histories.actions)
    readings = {name: scores[rows, lengths] for name, scores in pull_readings(task, histories).items()}
    return ForcedChoices(readings, rollout.logits.double().softmax(-1)[rows, lengths], torch.arange(len(rows)))
