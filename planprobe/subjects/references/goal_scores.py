"""What exact readings of the hidden goal say of each step of a walk: how likely each action is, goal by goal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.grid import NOOP
from planprobe.subjects.envs.hidden_goal import GOAL_REWARD, HiddenGoalTask, goal_squares
from planprobe.subjects.references.goal_belief import likely_goals, uniform_belief, update_goal_belief
from planprobe.subjects.references.play import Player, play_reference

NEAREST = "sweep: the nearest likely goal"


@dataclass(frozen=True)
class GoalWalks:
    """N trials of T steps. squares (N, T) int64: where each step began. ways (S, S, 5) float64: by square and goal, the
    chance of each action on a shortest way drawn at random, staying once there. belief (N, T, S) float64: of the goal,
    before each step.
    """

    squares: Tensor
    ways: Tensor
    belief: Tensor

    def mixture(self) -> Tensor:
        """P(action) of one who draws a goal from the belief on every step, (N, T, 5) float64."""
        return torch.einsum("ntg,ntga->nta", self.belief, self.ways[self.squares])

    def nearest(self) -> Tensor:
        """P(action) of one who goes for the nearest of the likeliest goals, ties at random, (N, T, 5) float64."""
        distance = goal_distances(int(self.ways.shape[0] ** 0.5))[self.squares].masked_fill(
            ~likely_goals(self.belief.flatten(0, 1)).view_as(self.belief), torch.iinfo(torch.int64).max
        )
        close = (distance == distance.amin(2, keepdim=True)).to(torch.float64)
        return torch.einsum("ntg,ntga->nta", close / close.sum(2, keepdim=True), self.ways[self.squares])


def walk_trials(player: Player, task: HiddenGoalTask, num_trials: int, *, seed: int = 0) -> tuple[GoalWalks, Tensor]:
    """Whole trials as a player plays them: its walks, and its actions (N, T) int64."""
    steps: list[tuple[Tensor, ...]] = []
    play_reference(
        player, task, num_trials, seed,
        on_step=lambda t, actions, result: steps.append(
            (actions, result.extras["square_before"], result.extras["square"], result.reward)
        ),
    )  # fmt: skip
    actions, before, after, rewards = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
    return score_walks(task, before, after, rewards), actions


def score_walks(task: HiddenGoalTask, before: Tensor, after: Tensor, rewards: Tensor) -> GoalWalks:
    """Follow the exact belief along walks.

    Args: before, after (N, T) int64 squares around each step; rewards (N, T).
    """
    goals = goal_squares(task.size) if task.goal is None else torch.arange(task.size**2) == task.goal
    belief = uniform_belief(goals.expand(len(before), -1))
    course = []
    for t in range(before.shape[1]):
        course.append(belief)
        belief = update_goal_belief(
            belief, after[:, t], rewards[:, t] == GOAL_REWARD, hit_rate=task.hit_rate, false_rate=task.false_rate
        )
    return GoalWalks(before, shortest_ways(task.size), torch.stack(course, dim=1))


def shortest_ways(size: int) -> Tensor:
    """P(action) on a shortest way drawn at random on an empty grid, by square and goal: (S, S, 5) float64."""
    squares = torch.arange(size**2)
    down, right = (part[None, :] - part[:, None] for part in (squares // size, squares % size))
    ways = torch.stack([down < 0, down > 0, right < 0, right > 0, (down == 0) & (right == 0)], dim=-1)
    assert ways.shape[-1] == NOOP + 1
    return ways.to(torch.float64) / ways.sum(-1, keepdim=True)


def goal_distances(size: int) -> Tensor:
    """Steps between squares of an empty grid, (S, S) int64."""
    squares = torch.arange(size**2)
    rows, columns = squares // size, squares % size
    return (rows - rows[:, None]).abs() + (columns - columns[:, None]).abs()
