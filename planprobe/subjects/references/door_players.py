"""Reference players of the doors: Bayes-optimal, greedy about its belief, and the oracle."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.doors import DoorsEnv, door_maps
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.references.door_values import DoorModel, solve_doors


class DoorPlayer:
    """Base: keeps the set of maps (B,) that fit all it has seen; a subclass acts on it."""

    sets: Tensor

    def begin(self, env: TrialEnv) -> None:
        env = cast(DoorsEnv, env)
        self.task, self.model = env.task, DoorModel.of(env.task)
        view = env.observe().flatten(1)
        self.squares = self._squares_in(view)
        self.episode, self.elapsed = torch.zeros_like(self.squares), torch.zeros_like(self.squares)
        self.sets = self.model.start(torch.full_like(self.squares, self.model.full_set), view)
        maps = door_maps(self.task.num_doors)
        goals = torch.full((self.task.num_doors,), self.task.goal)
        distance = distance_maps(maps, goals)
        self._distance = distance.flatten(1).to(torch.int64)  # (M, S)
        self._best_move = optimal_action_mask(distance).flatten(2).to(torch.uint8).argmax(1)  # (M, S)

    def act(self) -> Tensor:
        raise NotImplementedError

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        active = result.extras["active"]
        outcome = {"view": view, "solved": result.solved, "episode_done": result.episode_done}
        self.sets = torch.where(active, self.model.after(self.sets, self.squares, actions, **outcome), self.sets)
        self.squares = self._squares_in(view)
        self.elapsed = torch.where(result.episode_done, 0, self.elapsed + 1)
        self.episode = self.episode + result.episode_done.to(torch.int64)

    def _squares_in(self, view: Tensor) -> Tensor:
        return view[:, : self.model.following.shape[1]].argmax(1)


class DoorBayesPlayer(DoorPlayer):
    """Takes the action with the highest exact value: Bayes-optimal over the whole trial."""

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        self._q = solve_doors(self.task).q

    def act(self) -> Tensor:
        # a board whose trial is over may stand anywhere in the table
        episode = self.episode.clamp(max=self.task.num_episodes - 1)
        step = self.elapsed.clamp(max=self.task.episode_steps - 1)
        return self._q[episode, step, self.sets, self.squares].argmax(1)


class DoorGreedyPlayer(DoorPlayer):
    """Believes in the map, of those that fit, whose way to the goal is shortest, and walks it."""

    def act(self) -> Tensor:
        member = (self.sets[:, None] >> torch.arange(self.task.num_doors) & 1) != 0
        far = self._distance.max() + 1
        distance = torch.where(member, self._distance[:, self.squares].T, far)
        return self._best_move[distance.argmin(1), self.squares]


class DoorOraclePlayer(DoorPlayer):
    """The shortest way on the true map, which it is told."""

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        self._doors = env.latents()["door"]

    def act(self) -> Tensor:
        return self._best_move[self._doors, self.squares]
