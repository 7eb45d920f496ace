"""The exact posterior of random tabular MDPs, and players that plan with it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import unknown_name
from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.tabular_mdp import REWARD_MEAN, TabularMdpTask
from planprobe.subjects.envs.trial import TrialEnv

MDP_RULES = ("greedy", "psrl", "thompson")


class MdpBelief:
    """Dirichlet counts of every transition and a normal posterior of every mean reward.

    visits (B, S, A, S) float64: transitions seen; reward_sums, reward_counts (B, S, A) float64. Priors are those of the
    task: a flat Dirichlet, and normal(1, 1) with rewards of known variance 1.
    """

    def __init__(self, task: TabularMdpTask) -> None:
        self.shape = (task.num_states, task.num_actions)

    def begin(self, num_boards: int) -> None:
        self.visits = torch.zeros(num_boards, *self.shape, self.shape[0], dtype=torch.float64)
        self.reward_sums = torch.zeros(num_boards, *self.shape, dtype=torch.float64)
        self.reward_counts = torch.zeros_like(self.reward_sums)

    def see(self, states: Tensor, actions: Tensor, rewards: Tensor, after: Tensor, known: Tensor) -> None:
        """Take in one step, each (B,); known: false where the state that followed was not shown."""
        boards = torch.arange(len(states))
        self.reward_sums[boards, states, actions] += rewards.to(torch.float64)
        self.reward_counts[boards, states, actions] += 1
        self.visits[boards, states, actions, after] += known.to(torch.float64)

    def mean(self) -> tuple[Tensor, Tensor]:
        """Posterior means of transitions (B, S, A, S) and rewards (B, S, A)."""
        weights = 1 + self.visits
        precision = 1 + self.reward_counts
        return weights / weights.sum(-1, keepdim=True), (REWARD_MEAN + self.reward_sums) / precision

    def sample(self, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """One MDP a board drawn from the posterior: transitions, mean rewards."""
        weights = torch.from_numpy(generator.standard_gamma((1 + self.visits).numpy()))
        noise = torch.from_numpy(generator.standard_normal(self.reward_sums.shape))
        _, means = self.mean()
        return weights / weights.sum(-1, keepdim=True), means + noise / (1 + self.reward_counts).sqrt()


def plan(transitions: Tensor, rewards: Tensor, horizon: int) -> Tensor:
    """Optimal Q values with 1, 2, ... horizon steps left, (horizon, B, S, A), by value iteration."""
    values, tables = rewards.new_zeros(rewards.shape[:2]), []
    for _ in range(horizon):
        q = rewards + torch.einsum("bsaz,bz->bsa", transitions, values)
        tables.append(q)
        values = q.amax(-1)
    return torch.stack(tables)


class MdpPlayer:
    """Plans in an MDP taken from the exact posterior.

    rule: 'greedy', its mean, every episode; 'psrl', one draw every episode; 'thompson', one draw every step. A player
    sees what an agent sees: the state that the last action of an episode leads to is never shown.
    Raises: UnknownNameError (no such rule).
    Source: Osband et al. 2013 (posterior sampling).
    """

    def __init__(self, rule: str = "psrl", *, seed: int = 0) -> None:
        if rule not in MDP_RULES:
            raise unknown_name("rule", rule, MDP_RULES)
        self.rule, self.seed = rule, seed

    def begin(self, env: TrialEnv) -> None:
        self.task: TabularMdpTask = env.task
        self.generator = np.random.default_rng(self.seed)
        self.belief = MdpBelief(self.task)
        self.belief.begin(env.num_boards)
        self.states = env.observe().flatten(1).argmax(1)
        self.steps = 0

    def act(self) -> Tensor:
        step = self.steps % self.task.horizon  # episodes keep in step on all boards
        if step == 0 or self.rule == "thompson":
            mdp = self.belief.mean() if self.rule == "greedy" else self.belief.sample(self.generator)
            self.q = plan(*mdp, self.task.horizon)
        return self.q[self.task.horizon - step - 1, torch.arange(len(self.states)), self.states].argmax(1)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        after = view.argmax(1)
        self.belief.see(self.states, actions, result.reward, after, ~result.episode_done)
        self.states = after
        self.steps += 1


class MdpOraclePlayer:
    """Knows the MDP: the most that can be had."""

    def begin(self, env: TrialEnv) -> None:
        latents = env.latents()
        self.q = plan(latents["transitions"], latents["reward_means"], env.task.horizon)
        self.states, self.steps = env.observe().flatten(1).argmax(1), 0

    def act(self) -> Tensor:
        left = len(self.q) - self.steps % len(self.q)
        return self.q[left - 1, torch.arange(len(self.states)), self.states].argmax(1)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        self.states = view.argmax(1)
        self.steps += 1
