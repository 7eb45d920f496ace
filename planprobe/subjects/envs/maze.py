"""Full-view maze: walk to the goal. Loops allowed, start and goal drawn anew each episode in training."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_bits, to_uniform
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
        if redraw:
            self._placing = torch.tensor([DRAW_GOAL, DRAW_START, DRAW_WALK], device=self.device)[:, None]
            self._walk_counters = torch.arange(max_walk + 1, device=self.device)[:, None]
            self._ways, self._num_ways = (part.to(self.device) for part in _ways_out(self.width))
            self._first_ways = torch.arange(0, self._ways.numel(), NUM_MOVES, device=self.device)
            self._move_offsets = move_offsets(self.width)[:NUM_MOVES].tolist()

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

    def _place(self, level_ids: Tensor, ids: Tensor, episodes: Tensor) -> tuple[Tensor, Tensor]:
        if not self.redraw:
            return super()._place(level_ids, ids, episodes)
        to_goal, to_start, to_walk = draw_bits(self.seed, self._placing, ids, episodes)
        boards = self._bank[level_ids]
        free = (boards & WALL) == 0
        goals = (boards & TARGET).argmax(1) if self.keep_goals else _pick(free, to_goal % free.sum(1))
        if self.in_sight:
            others = squares_in_sight(~free.view(-1, self.height, self.width), goals).flatten(1)
        else:
            others = free.scatter(1, goals[:, None], False)
        starts = _pick(others, to_start % others.sum(1))
        near = to_uniform(to_walk) < self.near_fraction
        return torch.where(near, self._walk(free, goals, ids, episodes), starts), goals

    def _load(self, ids: Tensor, level_ids: Tensor, goals: Tensor) -> None:
        if not self.redraw:
            return super()._load(ids, level_ids, goals)
        self.cells[ids] = (self._bank[level_ids] & WALL).scatter(1, goals[:, None], TARGET)

    def _walk(self, free: Tensor, goals: Tensor, ids: Tensor, episodes: Tensor) -> Tensor:
        """Where a random walk from the goal stands after its drawn length, at least one square away.

        Which move each step would make with each set of ways out is drawn at once, so that walking is only looking up.
        """
        draws = draw_bits(self.seed, DRAW_WALK, ids, episodes, self._walk_counters)
        lengths = 1 + draws[0] % self.max_walk
        drawn = self._ways.take(self._first_ways + draws[1:, :, None] % self._num_ways)  # (max_walk, B', 16) offsets
        exits = torch.zeros_like(free, dtype=torch.int64)  # (B', H * W), a bit for each open move; borders are walls
        for move, offset in enumerate(self._move_offsets):
            exits += free.roll(-offset, 1) * (1 << move)
        positions = [goals]
        for offsets in drawn.unbind(0):
            here = positions[-1][:, None]
            positions.append((here + offsets.gather(1, exits.gather(1, here))).squeeze(1))
        walk = torch.stack(positions)
        answer = walk.gather(0, lengths[None])[0]
        # a walk of even length may end on the goal: then one more square, drawn where the walk goes on
        answer = torch.where(answer == goals, walk.gather(0, (lengths + 1).clamp(max=self.max_walk)[None])[0], answer)
        neighbours = goals[:, None] + self._offsets[:NUM_MOVES]
        aside = neighbours.gather(1, free.gather(1, neighbours).to(torch.uint8).argmax(1, keepdim=True)).squeeze(1)
        return torch.where(answer == goals, aside, answer)


def _ways_out(width: int) -> tuple[Tensor, Tensor]:
    """For each set of open moves, a bit a move: their offsets in order (16, 4), and how many (16,), 1 for none.

    A square without a way out is never left.
    """
    offsets = move_offsets(width)[:NUM_MOVES].tolist()
    sets = [[offset for move, offset in enumerate(offsets) if code >> move & 1] for code in range(1 << NUM_MOVES)]
    ways = torch.tensor([ways + [0] * (NUM_MOVES - len(ways)) for ways in sets])
    return ways, torch.tensor([max(len(ways), 1) for ways in sets])


def _pick(mask: Tensor, rank: Tensor) -> Tensor:
    """Index of the `rank`-th true entry (from 0) of each row of mask (B, M)."""
    return (mask.cumsum(1) > rank[:, None]).to(torch.uint8).argmax(1)
