"""Reference players of maze trials: search and remember, replay the loop-erased first path, and the oracle.

They know the walls and where they stand, as the full view shows both; only the oracle knows the goal.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.cell_world import next_squares
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.maze_trial import MazeTrialEnv, cell_squares
from planprobe.subjects.envs.routes import PAD, draw_square
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.references.goal_belief import likely_goals, uniform_belief, update_goal_belief
from planprobe.subjects.references.loop_erasure import erase_loops

_DRAW_TARGET, _DRAW_MOVE = range(2)


class MazeSearchPlayer:
    """Walks a shortest way to the nearest cell where the goal may be; once found, a shortest way to the goal.

    belief (B, S) float64: exact, and the same for an agent that sees its surroundings only.
    Args: seed: of ties among cells and among ways.
    """

    belief: Tensor

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def begin(self, env: TrialEnv) -> None:
        self.env = env = cast(MazeTrialEnv, env)
        self.task, self.walls = env.task, env.walls
        self._next, self._boards, self._t = next_squares(self.walls), env.board_ids, 0
        self.squares = env.players.clone()
        candidates = cell_squares(self.task.size).to(env.device).expand(len(self.squares), -1)
        self.belief = uniform_belief(candidates)
        self._learn(self.squares, torch.zeros_like(env.finished), ~env.finished)

    def act(self) -> Tensor:
        return self._walk_to(self._choose())

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        active = result.extras["active"]
        reached = self._next[self._boards, self.squares, actions]
        self._learn(reached, result.solved, active)
        self.squares = self.env.players.clone()
        # no episode starts on its goal, so a start is a square without the goal
        self._learn(self.squares, torch.zeros_like(active), result.episode_done & ~result.trial_done)
        self._t += 1

    def _choose(self) -> Tensor:
        away = distance_maps(self.walls, self.squares).flatten(1).to(torch.int64)
        away = torch.where(likely_goals(self.belief), away, away.max() + 1)
        return draw_square(away == away.min(1, keepdim=True).values, self.seed, _DRAW_TARGET, self._boards, self._t)

    def _walk_to(self, targets: Tensor) -> Tensor:
        """The next move of a shortest way, ties at random."""
        options = optimal_action_mask(distance_maps(self.walls, targets)).flatten(2)
        options = options.gather(2, self.squares[:, None, None].expand(-1, options.shape[1], 1)).squeeze(2)
        return draw_square(options, self.seed, _DRAW_MOVE, self._boards, self._t)

    def _learn(self, squares: Tensor, solved: Tensor, where: Tensor) -> None:
        if bool(where.any()):
            self.belief[where] = update_goal_belief(self.belief[where], squares[where], solved[where])


class LoopErasedReplayPlayer(MazeSearchPlayer):
    """Searches until it finds the goal, then walks the loop-erased path of that episode, again and again.

    routes (B, R) int64: that path, padded with -1. Raises: RecipeError (a task whose start moves).
    """

    routes: Tensor

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        if self.task.start != "fixed":
            raise RecipeError(
                "a first path can only be replayed from where it began: take a task with start = 'fixed'."
            )
        num_boards = len(self.squares)
        self._walk = torch.full((num_boards, self.task.episode_steps + 1), PAD, device=self.squares.device)
        self._walk[:, 0] = self.squares
        self.routes = torch.full_like(self._walk, PAD)
        self._elapsed = torch.zeros_like(self.squares)

    def act(self) -> Tensor:
        ahead = self.routes.gather(1, (self._elapsed + 1).clamp(max=self.routes.shape[1] - 1)[:, None])
        replayed = (self._next[self._boards, self.squares] == ahead).to(torch.uint8).argmax(1)
        return torch.where(ahead.squeeze(1) == PAD, super().act(), replayed)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        reached = self._next[self._boards, self.squares, actions]
        self._elapsed += result.extras["active"]
        self._walk[self._boards, self._elapsed] = reached
        found = (result.solved & (self.routes[:, 0] == PAD)).nonzero().squeeze(1)
        if len(found):
            erased = erase_loops(self._walk[found])
            self.routes[found, : erased.shape[1]] = erased
        super().see(actions, result, view)
        self._walk[result.episode_done] = PAD
        self._elapsed[result.episode_done] = 0
        self._walk[self._boards, self._elapsed] = self.squares


class ShortestPathOracle(MazeSearchPlayer):
    """A shortest way to the goal, which it is told, from the first episode on."""

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        self._goals = env.latents()["goal"]

    def _choose(self) -> Tensor:
        return self._goals
