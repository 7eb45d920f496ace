"""Sweeper of maze trials: the exact belief over goals, and straight for the one it found. It adapts without planning.

Why: until it has found the goal it goes to squares it has not been on, by chance; from then on it comes nearer to the
goal as the crow flies wherever no wall is in the way, gives way where one is, as the reflex does, and rather goes on
than back to where this walk has been. So later episodes are better for what was learnt in earlier ones, while a wall is
looked at only when it is next to it: no square's value is ever worked out from another's, and a way round is come upon
by going on.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.grid import NUM_MOVES
from planprobe.core.rng import draw_uniform
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.organisms.base import AMPLITUDE, BLOCKED, CodedNet, Style, Tick, View
from planprobe.subjects.organisms.rules import reflex_scores
from planprobe.subjects.organisms.trial_view import HALF, NUM_PLANES, TrialView, look_at_trial, note_last_step
from planprobe.subjects.organisms.waves import at_square, look_ahead

ONWARD = 3.0  # score of a square that the walk has not been on: more than coming nearer
_CHANCE = 416  # stream of the counter-based draws


class TrialSweeper(CodedNet):
    """See the module; for maze trials in full view.

    Features: been, squares stepped on, of the present walk alone once the goal is known; goal, once it was found; here,
    the square when it last acted; luck, the same on every square: what chooses among moves that are alike.
    """

    features: ClassVar[dict[str, int]] = {"been": 1, "goal": 1, "here": 1, "luck": NUM_MOVES}
    clocked = True

    def __init__(self, *, task: MazeTrialTask, style: Style) -> None:
        if task.view != "full":
            raise RecipeError("this sweeper sees its square and the walls beside it: view = 'full'.")
        super().__init__(planes=NUM_PLANES, board=(task.size, task.size), style=style)

    def look(self, plain: Tensor) -> TrialView:
        return look_at_trial(plain)

    def update(self, view: TrialView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        been, goal, here = (own[:, self.slots[name]].flatten(1) > HALF for name in ("been", "goal", "here"))
        rows = torch.arange(len(been), device=been.device)
        if tick.number == 0:  # one step is one observation, whatever the number of ticks
            note_last_step(view, been, goal, here)
            been &= ~(view.ended & goal.any(1))[:, None]
        been[rows, view.player] = True
        if tick.is_last:
            here = torch.zeros_like(here).scatter_(1, view.player[:, None], True)
        luck = draw_uniform(self.style.seed, _CHANCE, tick.keys[:, None], torch.arange(NUM_MOVES, device=been.device))
        known = torch.stack([been, goal, here], dim=1).float()
        features = torch.cat([known, luck[:, :, None].expand(-1, -1, known.shape[2])], dim=1)
        return AMPLITUDE * features.unflatten(2, view.walls.shape[1:])

    def act(self, view: TrialView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        been, goal = (hidden[:, self.slots[name]].squeeze(1) > HALF for name in ("been", "goal"))
        new = at_square(look_ahead((~been).float()), view.player)
        walls = at_square(look_ahead(view.walls.float(), fill=1), view.player)
        straight = reflex_scores(View(view.walls, goal, torch.zeros_like(view.walls), view.player))
        found = goal.flatten(1).any(1)
        luck = hidden[:, self.slots["luck"]].mean((2, 3))
        onward = torch.where(found[:, None], ONWARD * new + straight, new)
        scores = AMPLITUDE * onward + luck + BLOCKED * walls
        return scores, found.float()
