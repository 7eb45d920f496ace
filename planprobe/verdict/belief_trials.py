"""Trials with the exact posterior beside each step, and untrained nets of an agent's architecture: what D12 needs."""

from __future__ import annotations

import torch

from planprobe.core.play_trials import FREE, play_trials
from planprobe.core.protocols import Policy
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.instruments.detectors.belief import BeliefTrials
from planprobe.subjects.agent import Agent
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.organisms import untrained_like
from planprobe.subjects.organisms.base import CodedNet
from planprobe.subjects.organisms.untrained import Untrained
from planprobe.subjects.references.belief_numbers import exact_belief

FORCED_SHARE = 0.5
UNTRAINED_SEEDS = 1000  # first of them: that of a recipe would give the net with which the agent's training began
_DRAW, _FORCE = 611, 612  # streams of the counter-based draws


def play_belief_trials(
    agent: Agent, num_trials: int, *, forced_share: float = FORCED_SHARE, seed: int = 0
) -> BeliefTrials:
    """Trials with the exact posterior beside each step; half of the actions are the agent's, half are drawn at random.

    An agent that has made up its mind repeats itself, and its last action alone would then say what it believes.
    forced_share: of the actions that are drawn.
    Raises: RecipeError (a task whose belief is not kept in numbers).
    """
    env = agent.make_trials(num_trials)
    boards, steps = torch.arange(num_trials)[:, None], torch.arange(env.longest_trial)
    drawn = draw_below(env.num_actions, seed, _DRAW, boards, steps)
    forced = torch.where(draw_uniform(seed, _FORCE, boards, steps) < forced_share, drawn, FREE)
    rollout = play_trials(agent.net, env, seed=seed, forced=forced, keep_observations=True)
    exact = exact_belief(agent.trial_task, rollout)
    assert rollout.observations is not None  # play_trials was asked to keep them
    return BeliefTrials(
        rollout.observations, rollout.active, exact.numbers, exact.update, exact.psi, exact.psi_chances
    )  # fmt: skip


def untrained_twin(agent: Agent, *, seed: int) -> Policy:
    """A net of the agent's recipe, or an organism's shape, with random weights; torch's generator stays as it was."""
    if isinstance(agent.net, CodedNet | Untrained):
        return untrained_like(agent.net, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEEDS + seed)
        return make_net_for(agent.recipe.net, agent.make_trials(1)).eval()
