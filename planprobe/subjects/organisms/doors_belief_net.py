"""What organisms of the doors share: the exact belief over maps, kept in memory, and the square they acted on.

Nothing is noisy, so the belief is the set of maps that fit all that was seen. Where an episode ends with a step, what
that step showed is not seen, so the square before it is remembered too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.grid import NUM_MOVES
from planprobe.subjects.envs.doors import WIDTH, DoorsTask, door_maps
from planprobe.subjects.organisms.base import AMPLITUDE, CodedNet, Style, Tick
from planprobe.subjects.references.door_values import DoorModel

UP, DOWN, LEFT, RIGHT = range(NUM_MOVES)
HALF = AMPLITUDE / 2
PAID = 0.5  # of the reward: the goal earns nearly 1, any other step less than 0
NUM_INPUTS = NUM_MOVES + 2  # beside the view: last action, last reward, end of an episode
_MODEL_PARTS = ("following", "at_goal", "seen", "at_start")


@dataclass(frozen=True)
class DoorView:
    """What is seen. shown (B, F): the square, one-hot, then walls beside it or the bump; square, last_action (B,)
    int64; paid, ended (B,) bool."""

    shown: Tensor
    square: Tensor
    last_action: Tensor
    paid: Tensor
    ended: Tensor


class DoorsNet(CodedNet):
    """Base of all organisms of the doors: what they see. task: its options."""

    clocked = True
    maps: Tensor

    def __init__(self, *, task: DoorsTask, style: Style) -> None:
        self.task, self.rooms = task, (task.height, WIDTH)
        self.num_squares = task.height * WIDTH
        self.num_shown = self.num_squares + (NUM_MOVES if task.view == "neighbours" else 1)
        super().__init__(planes=self.num_shown + NUM_INPUTS, board=(1, 1), style=style)
        self.register_buffer("maps", door_maps(task.num_doors), persistent=False)

    def look(self, plain: Tensor) -> DoorView:
        flat = plain.flatten(1)
        square, action = flat[:, : self.num_squares].argmax(1), flat[:, self.num_shown : self.num_shown + NUM_MOVES]
        further = flat[:, self.num_squares : self.num_shown] > HALF
        shown = torch.cat([F.one_hot(square, self.num_squares).bool(), further], dim=1)
        return DoorView(shown, square, action.argmax(1), flat[:, -2] > PAID * AMPLITUDE, flat[:, -1] > HALF)

    def to_goal(self, square: Tensor) -> Tensor:
        """One move (B,) int64 in the right room or the door: to the far column, then along it to the goal."""
        row, column = square // WIDTH, square % WIDTH
        goal_row, goal_column = divmod(self.task.goal, WIDTH)
        return torch.where(column < goal_column, RIGHT, torch.where(row < goal_row, DOWN, UP))


class DoorBeliefNet(DoorsNet):
    """Base of those that remember. Features: ruled_out, maps that do not fit; here, the square that was acted on."""

    following: Tensor
    at_goal: Tensor
    seen: Tensor
    at_start: Tensor

    def __init__(self, *, task: DoorsTask, style: Style) -> None:
        super().__init__(task=task, style=style)
        model = DoorModel.of(task)
        for name in _MODEL_PARTS:
            self.register_buffer(name, getattr(model, name), persistent=False)

    def name_features(self) -> dict[str, int]:
        return {"ruled_out": self.task.num_doors, "here": self.num_squares}

    def think(self, alive: Tensor, learnt: Tensor, around: Tensor, tick: Tick) -> Tensor | None:
        """Further features (B, F') bool; alive (B, M) bool: maps that fit; learnt (B,) bool: fewer than a step before;
        around (B, F) bool: what memory holds."""
        return None

    # shared ----------------------------------------------------------------------------------------------------------
    def update(self, view: DoorView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        there = own.flatten(1) > HALF
        alive, here = ~there[:, self.slots["ruled_out"]], there[:, self.slots["here"]]
        learnt = torch.zeros_like(view.ended)
        if tick.number == 0:  # one step is one observation, whatever the number of ticks
            before, alive = alive, self._narrow(alive, view, here)
            learnt = (alive != before).any(1)
        if tick.is_last:
            here = F.one_hot(view.square, self.num_squares).bool()
        parts = [~alive, here]
        further = self.think(alive, learnt, around.flatten(1) > HALF, tick)
        parts += [] if further is None else [further]
        return AMPLITUDE * torch.cat(parts, dim=1).float()[:, :, None, None]

    def alive(self, hidden: Tensor) -> Tensor:
        """Maps that memory holds to be possible, (B, M) bool."""
        return hidden.flatten(1)[:, self.slots["ruled_out"]] <= HALF

    def floor(self, alive: Tensor) -> Tensor:
        """Squares that are open in a map of `alive` (B, M), (B, H, W) bool."""
        return (alive[:, :, None, None] & ~self.maps).any(1)

    def as_sets(self, alive: Tensor) -> Tensor:
        """Bit masks (B,) int64 of (B, M) bool."""
        return (alive.to(torch.int64) << torch.arange(alive.shape[1], device=alive.device)).sum(1)

    def _narrow(self, alive: Tensor, view: DoorView, here: Tensor) -> Tensor:
        """The maps of `alive` that fit what the last step brought too; all of them, where none would be left."""
        model = DoorModel(self.task, self.following, self.at_goal, self.seen, self.at_start)
        sets, before = self.as_sets(alive), here.to(torch.uint8).argmax(1)
        outcome = {"view": view.shown.to(torch.int64), "solved": view.paid, "episode_done": view.ended}
        after = model.after(sets, before, view.last_action, **outcome)
        left = torch.where(here.sum(1) == 1, after, model.start(sets, outcome["view"]))
        left = torch.where(left == 0, model.full_set, left)
        return (left[:, None] >> torch.arange(alive.shape[1], device=alive.device) & 1).bool()
