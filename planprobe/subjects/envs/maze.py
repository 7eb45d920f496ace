"""Full-view maze: walk to the goal. Loops allowed, start and goal drawn anew each episode in training."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.subjects.envs.board_env import DRAW_GOAL, DRAW_START, DRAW_WALK, BoardEnv
from planprobe.subjects.envs.distance import squares_in_sight

STEP_REWARD, GOAL_REWARD = -0.1, 10.0


class Maze(BoardEnv):
    """Batched maze; arguments of `BoardEnv`, and:

    redraw: draw a goal and a start on the level's free squares each episode, in place of the level's own.
    near_fraction: share of redrawn starts that lie a random walk of 1..`max_walk` steps from the goal (easy ones, so
        that an untrained agent meets the goal at all); the rest are uniform over the free squares.
    keep_goals: redraw the start alone; the goal is the level's own.
    in_sight: draw starts from which one can walk straight to the goal.
    Reward: -0.1 a step, +10 at the goal.
    """

    planes = ("wall", "target", "player")

    def __init__(
        self,
        levels: LevelSet,
        num_boards: int,
        *,
        redraw: bool = False,
        near_fraction: float = 0.0,
        max_walk: int = 20,
        keep_goals: bool = False,
        in_sight: bool = False,
        **options,
    ) -> None:
        super().__init__(levels, num_boards, **options)
        self.keep_goals, self.in_sight = keep_goals, in_sight
        self.redraw, self.near_fraction, self.max_walk = redraw, near_fraction, max_walk

    def _move(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        offset = self._offsets[actions]
        ahead = self.players + offset
        open_ahead = (self.cells.gather(1, ahead[:, None]).squeeze(1) & WALL) == 0
        moved = active & (offset != 0) & open_ahead
        self.players = torch.where(moved, ahead, self.players)
        at_goal = (self.cells.gather(1, self.players[:, None]).squeeze(1) & TARGET) != 0
        solved = active & at_goal
        reward = STEP_REWARD * active.to(torch.float32) + GOAL_REWARD * solved
        return reward, solved, {"moved": moved}

    def _place(self, ids: Tensor) -> None:
        if not self.redraw:
            return
        episodes = self.episodes[ids]
        cells = self.cells[ids] & WALL
        free = cells == 0
        if self.keep_goals:
            goals = (self.cells[ids] & TARGET).argmax(1)
        else:
            goals = _pick(free, draw_below(free.sum(1), self.seed, DRAW_GOAL, ids, episodes))
        if self.in_sight:
            others = squares_in_sight(~free.view(-1, self.height, self.width), goals).flatten(1)
        else:
            others = free.scatter(1, goals[:, None], False)
        starts = _pick(others, draw_below(others.sum(1), self.seed, DRAW_START, ids, episodes))
        near = draw_uniform(self.seed, DRAW_WALK, ids, episodes) < self.near_fraction
        starts = torch.where(near, self._walk(free, goals, ids, episodes), starts)
        self.cells[ids] = cells.scatter(1, goals[:, None], TARGET)
        self.players[ids] = starts

    def _walk(self, free: Tensor, goals: Tensor, ids: Tensor, episodes: Tensor) -> Tensor:
        """Where a random walk from the goal stands after its drawn length, at least one square away."""
        lengths = 1 + draw_below(self.max_walk, self.seed, DRAW_WALK, ids, episodes, 0)
        position, answer = goals, goals
        for step in range(self.max_walk + 1):
            answer = torch.where((step <= lengths) | (answer == goals), position, answer)
            neighbours = position[:, None] + self._offsets[:NUM_MOVES]
            options = free.gather(1, neighbours)
            choice = draw_below(options.sum(1), self.seed, DRAW_WALK, ids, episodes, step + 1)
            position = neighbours.gather(1, _pick(options, choice)[:, None]).squeeze(1)
        # a walk of even length may end on the goal: then one more square
        neighbours = goals[:, None] + self._offsets[:NUM_MOVES]
        aside = neighbours.gather(1, free.gather(1, neighbours).to(torch.uint8).argmax(1, keepdim=True)).squeeze(1)
        return torch.where(answer == goals, aside, answer)


def _pick(mask: Tensor, rank: Tensor) -> Tensor:
    """Index of the `rank`-th true entry (from 0) of each row of mask (B, M)."""
    return (mask.cumsum(1) > rank[:, None]).to(torch.uint8).argmax(1)
