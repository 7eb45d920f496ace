"""An agent's walks in search of a hidden goal, looked at under every goal there may be: what D14 needs.

And who is given whose memory in maze trials, what D8 needs: the donors walked in another maze, so that no way of theirs
is a way there but by chance. On the open grid of a hidden goal a donor's moves lead to its goal whoever makes them, so
that D8 has nothing to say there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.core.protocols import Policy, State
from planprobe.core.records import Evidence
from planprobe.instruments.detectors import commitment, psi_patching
from planprobe.instruments.detectors.commitment import ANEW, HELD, HypothesisTrials
from planprobe.instruments.hooks import open_policy
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.trial_catalog import held_out, make_trial_env
from planprobe.subjects.psi_donors import find_goal_donors, find_wall_beside, score_goal_courses
from planprobe.subjects.references.goal_players import StepSamplingPlayer
from planprobe.subjects.references.goal_scores import GoalWalks, score_walks, walk_trials
from planprobe.verdict.criteria import COMMITMENT, REVALUATION
from planprobe.verdict.forced_choices import APART, independent_noise

NUM_NOISES = 8  # settings of a noise input
SWEEP = "sweep"


@dataclass(frozen=True)
class _Played:
    """One agent's trials: rollout with observations, the same under every goal, and the chances of who sweeps."""

    rollout: TrialRollout
    trials: HypothesisTrials
    sweeping: Tensor


def judge_commitment(agent: Agent, num_trials: int, *, seed: int = 0) -> Evidence:
    """D14 of one agent, beside the player that draws on every step, on the same goals.

    Raises: RecipeError (another task than the hidden goal).
    """
    task = goal_task(agent)
    played = _play(agent, task, num_trials, seed)
    walks, actions = walk_trials(StepSamplingPlayer(seed=seed), task, num_trials, seed=seed)
    control = as_hypotheses(walks, actions, played.rollout.episodes)
    lapse = commitment.commitment(played.trials)[1][HELD]
    assert played.rollout.observations is not None  # play_trials was asked to keep them
    further = commitment.tick_rows(
        open_policy(agent.net, name=agent.name), played.rollout.observations, played.trials, lapse=lapse, seed=seed
    )
    noises = noise_states(agent.net, num_trials)
    if noises:
        further += commitment.noise_rows(
            agent.net, played.rollout.observations, played.rollout.active, noises, seed=seed
        )  # fmt: skip
    return commitment.run(
        played.trials, controls={f"player, {ANEW}": control}, rivals={SWEEP: played.sweeping},
        min_effect=COMMITMENT.value, further=further, seed=seed,
    )  # fmt: skip


def goal_task(agent: Agent) -> HiddenGoalTask:
    """The task of an agent that looks for a hidden goal. Raises: RecipeError (another task)."""
    task = agent.trial_task
    if not isinstance(task, HiddenGoalTask):
        raise RecipeError(
            f"'{agent.name}' plays '{task.kind}'; what every value of psi implies is written down for hidden-goal."
        )
    return task


def noise_states(policy: Policy, num_trials: int) -> list[State]:
    """Memories that differ in the noise input alone, where a net has one: organisms draw by their clock."""
    if not getattr(policy, "clocked", False):
        return []
    *memory, clock = policy.initial_state(num_trials, (1, 1))
    return [(*memory, clock + APART * number) for number in range(NUM_NOISES)]


def sweeping_chances(walks: GoalWalks, actions: Tensor) -> Tensor:
    """Chance (N, T) of each action of who goes to the nearest goal that is left."""
    return walks.nearest().gather(2, actions[..., None]).squeeze(2)


def as_hypotheses(walks: GoalWalks, actions: Tensor, episodes: Tensor) -> HypothesisTrials:
    """Walks under every goal; actions, episodes (N, T)."""
    ways = walks.ways[walks.squares]  # (N, T, G, A)
    taken = ways.gather(3, actions[:, :, None, None].expand(-1, -1, ways.shape[2], 1)).squeeze(3)
    return HypothesisTrials(taken, walks.belief, episodes, torch.ones_like(actions, dtype=torch.bool), ways.shape[3])


def judge_psi_patching(agent: Agent, num_trials: int, *, seed: int = 0) -> Evidence:
    """D8 of an agent that walks a maze twice from one start.

    Raises: RecipeError (another task); TooFewLevelsError (donors); ShapeError (no memory).
    """
    task = agent.trial_task
    if not isinstance(task, MazeTrialTask) or task.num_episodes < 2 or task.start != "fixed":
        raise RecipeError(
            f"'{task.kind}' has no second episode from the same start in a maze of its own, which is where another "
            "trial's memory is given."
        )
    if task.view != "full":
        raise RecipeError(
            f"with view = '{task.view}' memory holds the walls as well as the goal: another trial's memory is of "
            "another maze, and leads astray whoever plans."
        )
    make_trials = partial(make_trial_env, held_out(task), agent.recipe.inputs)
    return psi_patching.run(
        agent.net, make_trials, find_goal_donors, partial(score_goal_courses, wait=psi_patching.WAIT),
        find_wall_beside, num_trials=num_trials, min_effect=REVALUATION.value, seed=seed,
    )  # fmt: skip


def _play(agent: Agent, task: HiddenGoalTask, num_trials: int, seed: int) -> _Played:
    rollout = play_trials(
        agent.net, agent.make_trials(num_trials, seed=seed), seed=seed, keep_observations=True,
        initial_state=independent_noise(agent.net, num_trials),
    )  # fmt: skip
    walks = score_walks(task, rollout.extras["square_before"], rollout.extras["square"], rollout.rewards)
    hypotheses = as_hypotheses(walks, rollout.actions, rollout.episodes)
    return _Played(rollout, hypotheses, sweeping_chances(walks, rollout.actions))
