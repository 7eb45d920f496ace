"""Random tabular MDPs: transitions and mean rewards are drawn per trial, and several episodes share one draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_normal, draw_uniform
from planprobe.subjects.envs.trial import DRAW_STEP, DRAW_TASK, TrialEnv

REWARD_MEAN, REWARD_SD = 1.0, 1.0
"""Of the prior of every mean reward; a reward has the same standard deviation about its mean."""
_TRANSITIONS, _REWARDS = 0, 1  # what a draw decides


@dataclass(frozen=True)
class TabularMdpTask:
    """Options of a random MDP.

    Each row of the transitions is drawn from a flat Dirichlet, each mean reward r(s, a) from normal(1, 1); a reward is
    normal(r(s, a), 1). Every episode begins in state 0 and lasts `horizon` steps.
    Raises: RecipeError (a number below one, or fewer than two states or actions).
    Source: Duan et al. 2016, after Osband et al. 2013.
    """

    kind: ClassVar[str] = "tabular-mdp"
    num_states: int = 10
    num_actions: int = 5
    horizon: int = 10
    num_episodes: int = 10

    def __post_init__(self) -> None:
        if min(self.num_states, self.num_actions) < 2 or min(self.horizon, self.num_episodes) < 1:
            raise RecipeError(
                "a tabular MDP needs two states and actions, a step and an episode, got "
                f"num_states = {self.num_states}, num_actions = {self.num_actions}, horizon = {self.horizon}, "
                f"num_episodes = {self.num_episodes}."
            )

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> TabularMdpEnv:
        """B random MDPs side by side."""
        return TabularMdpEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


class TabularMdpEnv(TrialEnv):
    """View: one-hot of the state. latents: transitions (B, S, A, S), reward_means (B, S, A)."""

    def __init__(self, num_boards: int, task: TabularMdpTask, **options) -> None:
        super().__init__(num_boards, num_episodes=task.num_episodes, episode_steps=task.horizon, **options)
        self.task, self.num_planes, self.num_actions = task, task.num_states, task.num_actions
        shape = (num_boards, task.num_states, task.num_actions)
        self.transitions = torch.zeros(*shape, task.num_states, device=self.device)
        self.reward_means = torch.zeros(shape, device=self.device)
        self.state = torch.zeros(num_boards, dtype=torch.int64, device=self.device)

    def _begin_trial(self, ids: Tensor) -> None:
        task = self.task
        cells = torch.arange(task.num_states * task.num_actions, device=self.device)
        counters = (DRAW_TASK, ids[:, None], self.trials[ids, None], cells)
        means = REWARD_MEAN + REWARD_SD * draw_normal(self.seed, *counters, _REWARDS)
        self.reward_means[ids] = means.view(-1, task.num_states, task.num_actions)
        states = torch.arange(task.num_states, device=self.device)
        counters = (*(part[..., None] if isinstance(part, Tensor) else part for part in counters), states)
        # exponential draws over their sum are a flat Dirichlet
        weights = -torch.log1p(-draw_uniform(self.seed, *counters, _TRANSITIONS)) + 1e-12
        rows = weights / weights.sum(-1, keepdim=True)
        self.transitions[ids] = rows.view(-1, task.num_states, task.num_actions, task.num_states)

    def _begin_episode(self, ids: Tensor) -> None:
        self.state[ids] = 0

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        counters = (DRAW_STEP, self.board_ids, self.trials, self.episode, self.elapsed)
        noise = draw_normal(self.seed, *counters, _REWARDS)
        reward = self.reward_means[self.board_ids, self.state, actions] + REWARD_SD * noise
        luck = draw_uniform(self.seed, *counters, _TRANSITIONS)
        chances = self.transitions[self.board_ids, self.state, actions]
        after = (luck[:, None] >= chances.cumsum(1)).sum(1).clamp(max=self.task.num_states - 1)
        extras = {"from_state": self.state.clone(), "to_state": after}
        self.state = torch.where(active, after, self.state)
        return reward, torch.zeros_like(active), extras

    def _view(self) -> Tensor:
        return torch.nn.functional.one_hot(self.state, self.task.num_states).to(torch.float32)

    def latents(self) -> dict[str, Tensor]:
        return {"transitions": self.transitions.clone(), "reward_means": self.reward_means.clone()}
