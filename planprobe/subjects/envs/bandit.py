"""Bernoulli bandits: arms whose means are drawn per trial, independent, tied to each other, or wandering.

A pull is a step and a trial is `num_pulls` of them: what the field writes as "5 arms, 10 episodes" is ten pulls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.subjects.envs.trial import DRAW_STEP, DRAW_TASK, TrialEnv

STRUCTURES = ("independent", "correlated", "restless")
CORRELATED_MEANS = {"easy": (0.1, 0.9), "medium": (0.25, 0.75), "hard": (0.4, 0.6)}
"""What the first arm may pay, evenly likely; 'uniform' draws it from [0, 1)."""
_LEAP, _LUCK = 0, 1  # what a draw within a step decides: how means move, whether a pull pays


@dataclass(frozen=True)
class BanditTask:
    """Options of a Bernoulli bandit; a pull pays 1 or 0.

    num_arms: K. num_pulls: steps of a trial.
    structure: 'independent', every mean uniform on [0, 1); 'correlated', two arms that pay with p and 1 - p;
    'restless', every mean walks on `num_levels` evenly spaced values from 0 to 1 and reflects at both ends: after each
    pull it goes a level up with probability `walk`, and down with the same. The lattice is the task, no approximation,
    so that the filter is exact.
    preset: of correlated arms: 'uniform', 'easy', 'medium' or 'hard', see CORRELATED_MEANS.
    Raises: RecipeError (fewer than two arms, no pulls, more than two correlated arms, an unknown name, a bad walk).
    Source: Wang et al. 2016 (correlated arms), Duan et al. 2016 (independent arms).
    """

    kind: ClassVar[str] = "bandit"
    num_arms: int = 2
    num_pulls: int = 20
    structure: str = "independent"
    preset: str = "uniform"
    walk: float = 0.1
    num_levels: int = 21

    def __post_init__(self) -> None:
        if self.structure not in STRUCTURES:
            raise unknown_name("structure", self.structure, STRUCTURES, where="bandit", error=RecipeError)
        presets = ("uniform", *CORRELATED_MEANS)
        if self.preset not in presets:
            raise unknown_name("preset", self.preset, presets, where="bandit", error=RecipeError)
        if self.num_arms < 2 or self.num_pulls < 1:
            raise RecipeError(
                f"a bandit needs two arms and one pull, got num_arms = {self.num_arms}, num_pulls = {self.num_pulls}."
            )
        if self.structure == "correlated" and self.num_arms != 2:
            raise RecipeError(f"correlated arms come in twos, got num_arms = {self.num_arms}.")
        if not 0 <= self.walk <= 0.5 or self.num_levels < 2:
            raise RecipeError(
                f"a walk goes up and down with at most 0.5 each over two levels or more, got walk = {self.walk}, "
                f"num_levels = {self.num_levels}."
            )

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> BanditEnv:
        """B bandits side by side."""
        return BanditEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


class BanditEnv(TrialEnv):
    """A bandit with nothing to see: the view is a constant 1, what a pull paid is the reward.

    latents: means (B, K) float32, the chance that each arm pays at the next pull; best_arm (B,) int64.
    """

    num_planes = 1

    def __init__(self, num_boards: int, task: BanditTask, **options) -> None:
        super().__init__(num_boards, num_episodes=1, episode_steps=task.num_pulls, **options)
        self.task, self.num_actions = task, task.num_arms
        self.arms = torch.arange(task.num_arms, device=self.device)
        self.means = torch.zeros(num_boards, task.num_arms, device=self.device)

    def _begin_trial(self, ids: Tensor) -> None:
        counters = (DRAW_TASK, ids[:, None], self.trials[ids, None], self.arms)
        if self.task.structure == "restless":
            levels = draw_below(self.task.num_levels, self.seed, *counters)
            self.means[ids] = levels / (self.task.num_levels - 1)
            return
        means = draw_uniform(self.seed, *counters)
        if self.task.structure == "correlated":
            first = means[:, 0]
            if self.task.preset != "uniform":
                low, high = CORRELATED_MEANS[self.task.preset]
                first = torch.where(first < 0.5, low, high)
            means = torch.stack([first, 1 - first], dim=1)
        self.means[ids] = means

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        luck = draw_uniform(self.seed, DRAW_STEP, self.board_ids, self.trials, self.elapsed, _LUCK)
        paid = luck < self.means.gather(1, actions[:, None]).squeeze(1)
        if self.task.structure == "restless":
            self._walk(active)
        return paid.to(torch.float32), torch.zeros_like(active), {}

    def _walk(self, moving: Tensor) -> None:
        counters = (self.board_ids[:, None], self.trials[:, None], self.elapsed[:, None], _LEAP, self.arms)
        leap = draw_uniform(self.seed, DRAW_STEP, *counters)
        top = self.task.num_levels - 1
        step = (leap < self.task.walk).to(torch.int64) - (leap >= 1 - self.task.walk).to(torch.int64)
        levels = (self.means * top).round().to(torch.int64) + step * moving[:, None]
        # a step off either end is taken the other way
        levels = top - (top - levels.abs()).abs()
        self.means = levels / top

    def _view(self) -> Tensor:
        return torch.ones(self.num_boards, 1, device=self.device)

    def latents(self) -> dict[str, Tensor]:
        return {"means": self.means.clone(), "best_arm": self.means.argmax(1)}
