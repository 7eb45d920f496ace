"""What organisms of the hidden goal share: the exact belief over goals, kept in memory, and walking to a square.

The task is the noiseless one, so the belief is a set: the squares where the goal may be, less those stepped on without
pay; and one square from the first pay on. The square that a step ended on is not shown where an episode ends with that
step, so the agent's square is remembered too, and moved by the action that was taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import RecipeError
from planprobe.core.grid import NOOP, NUM_MOVES
from planprobe.subjects.envs.cell_world import next_squares
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask, goal_squares
from planprobe.subjects.organisms.base import AMPLITUDE, CodedNet, Style, Tick

HALF = AMPLITUDE / 2
NUM_ACTIONS = NUM_MOVES + 1
NUM_INPUTS = NUM_ACTIONS + 2  # beside the square: last action, last reward, end of an episode
PAID = 0.5  # of the reward: a step on the goal earns 1, any other less than 0


@dataclass(frozen=True)
class GoalView:
    """What is seen, (B,) each: square and last_action int64; paid, ended bool."""

    square: Tensor
    last_action: Tensor
    paid: Tensor
    ended: Tensor


class GoalBeliefNet(CodedNet):
    """Base. Features, one entry a square each: ruled_out; goal, once it was paid; here, where the agent was when it
    last acted; target, where it goes. A subclass chooses the target.

    Args: task: its options. Raises: RecipeError (a task in which pay is left to chance).
    """

    clocked = True
    next_square: Tensor
    may_be_goal: Tensor

    def __init__(self, *, task: HiddenGoalTask, style: Style) -> None:
        if (task.hit_rate, task.false_rate) != (1.0, 0.0):
            raise RecipeError("organisms of the hidden goal keep a belief without noise: hit_rate = 1, false_rate = 0.")
        self.num_squares, self.size = task.size**2, task.size
        super().__init__(planes=self.num_squares + NUM_INPUTS, board=(1, 1), style=style, num_actions=NUM_ACTIONS)
        grid = torch.zeros(1, task.size, task.size, dtype=torch.bool)
        self.register_buffer("next_square", next_squares(grid, noop=True)[0], persistent=False)
        self.register_buffer("may_be_goal", goal_squares(task.size), persistent=False)

    def name_features(self) -> dict[str, int]:
        return dict.fromkeys(("ruled_out", "goal", "here", "target"), self.num_squares)

    def choose(self, view: GoalView, belief: Tensor, target: Tensor, tick: Tick) -> Tensor:
        """What the memory says of where to go, (B, S) in [0, 1]; belief, target (B, S), target as it was."""
        raise NotImplementedError

    # shared ----------------------------------------------------------------------------------------------------------
    def look(self, plain: Tensor) -> GoalView:
        flat = plain.flatten(1)
        square, action = flat[:, : self.num_squares], flat[:, self.num_squares : self.num_squares + NUM_ACTIONS]
        reward, ended = flat[:, -2], flat[:, -1]
        return GoalView(square.argmax(1), action.argmax(1), reward > PAID * AMPLITUDE, ended > HALF)

    def update(self, view: GoalView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        there = own.flatten(1) > HALF
        ruled_out, goal, here = (there[:, self.slots[name]] for name in ("ruled_out", "goal", "here"))
        if tick.number == 0:  # one step is one observation, whatever the number of ticks
            began = here.sum(1) == 1
            reached = self.next_square[here.to(torch.uint8).argmax(1), view.last_action]
            stepped_on = F.one_hot(reached, self.num_squares).bool() & began[:, None]
            goal, ruled_out = goal | (stepped_on & view.paid[:, None]), ruled_out | (stepped_on & ~view.paid[:, None])
        if tick.is_last:
            here = F.one_hot(view.square, self.num_squares).bool()
        belief = self.belief(ruled_out, goal)
        target = self.choose(view, belief, around.flatten(1)[:, self.slots["target"]] / AMPLITUDE, tick)
        parts = [part.float() for part in (ruled_out, goal, here, target)]
        return AMPLITUDE * torch.cat(parts, dim=1)[:, :, None, None]

    def act(self, view: GoalView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        target = hidden.flatten(1)[:, self.slots["target"]]
        scores = target.amax(1, keepdim=True) * self.ways_to(target.argmax(1), view.square)
        return scores, hidden.flatten(1)[:, self.slots["goal"]].amax(1)

    def belief(self, ruled_out: Tensor, goal: Tensor) -> Tensor:
        """P(goal) of every square, (B, S)."""
        alive = torch.where(goal.any(1, keepdim=True), goal, self.may_be_goal & ~ruled_out).float()
        return alive / alive.sum(1, keepdim=True).clamp(min=1)

    def ways_to(self, target: Tensor, square: Tensor) -> Tensor:
        """Moves of the shortest ways from squares to targets, staying once there: (..., 5) float; any shapes agree."""
        width = self.size
        down, right = target // width - square // width, target % width - square % width
        ways = torch.stack([down < 0, down > 0, right < 0, right > 0, (down == 0) & (right == 0)], dim=-1)
        assert ways.shape[-1] == NOOP + 1
        return ways.float()
