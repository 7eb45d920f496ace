"""Replayer: walks its first successful path again, without its loops. It adapts without planning.

Why: it remembers one move for every square of its walk, the one by which it last left it. Following these from where
the walk began is the loop-erased walk, move by move. Until it has found the goal it goes to squares it has not been on,
by chance, and the walls it sees serve to avoid bumping alone. Nothing is ever worked out about a square from another
one, so no second episode is shorter than the first path without its loops.
Source: loop erasure by last exits, Lawler 1980.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.grid import NUM_MOVES
from planprobe.core.rng import draw_uniform
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.organisms.base import AMPLITUDE, BLOCKED, CodedNet, Style, Tick
from planprobe.subjects.organisms.trial_view import HALF, NUM_PLANES, TrialView, last_step, look_at_trial
from planprobe.subjects.organisms.waves import at_square, look_ahead

_CHANCE = 414  # stream of the counter-based draws


class Replayer(CodedNet):
    """See the module; for maze trials in full view from a fixed start.

    Features: exits, of the last move off each square of the present walk; been, squares of any walk; here, the square
    when it last acted; found, the same on every square: the walk led to the goal and is kept; luck, likewise: what
    chooses among ways that look alike.
    """

    features: ClassVar[dict[str, int]] = {"exits": NUM_MOVES, "been": 1, "here": 1, "found": 1, "luck": NUM_MOVES}
    clocked = True

    def __init__(self, *, task: MazeTrialTask, style: Style) -> None:
        if task.view != "full" or task.start != "fixed":
            raise RecipeError("a replayer sees its square and begins where it began: view = 'full', start = 'fixed'.")
        super().__init__(planes=NUM_PLANES, board=(task.size, task.size), style=style)

    def look(self, plain: Tensor) -> TrialView:
        return look_at_trial(plain)

    def update(self, view: TrialView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        there = own > HALF
        exits, been, here = (there[:, self.slots[name]].flatten(2).clone() for name in ("exits", "been", "here"))
        found = own[:, self.slots["found"]].mean((1, 2, 3)) > HALF
        rows = torch.arange(len(exits), device=exits.device)
        if tick.number == 0:  # one step is one observation, whatever the number of ticks
            before, reached, was_one = last_step(view, here[:, 0])
            learns = was_one & (reached != before) & ~found
            exits[rows, :, before] &= ~learns[:, None]
            exits[rows, view.last_action, before] |= learns
            found = found | (learns & view.paid)
            exits &= ~(view.ended & ~found)[:, None, None]  # a walk that led nowhere is forgotten
        been[rows, 0, view.player] = True
        if tick.is_last:
            here = torch.zeros_like(here).scatter_(2, view.player[:, None, None], True)
        shape = view.walls.shape[1:]
        luck = draw_uniform(self.style.seed, _CHANCE, tick.keys[:, None], torch.arange(NUM_MOVES, device=exits.device))
        constant = torch.cat([found[:, None].float(), luck], dim=1)[:, :, None].expand(-1, -1, exits.shape[2])
        return AMPLITUDE * torch.cat([exits, been, here, constant], dim=1).unflatten(2, shape)

    def act(self, view: TrialView, hidden: Tensor) -> tuple[Tensor, Tensor]:
        found = hidden[:, self.slots["found"]].mean((1, 2, 3)) > HALF
        replayed = at_square(hidden[:, self.slots["exits"]], view.player)
        new = at_square(look_ahead((hidden[:, self.slots["been"]].squeeze(1) < HALF).float()), view.player)
        walls = at_square(look_ahead(view.walls.float(), fill=1), view.player)
        luck = hidden[:, self.slots["luck"]].mean((2, 3))
        scores = torch.where(found[:, None], replayed, AMPLITUDE * new + luck) + BLOCKED * walls
        return scores, found.float()
