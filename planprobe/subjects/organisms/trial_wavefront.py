"""Wavefront of maze trials: the exact belief over goals, and one backup a tick from where the goal may be. It plans.

Why: cells that were stepped on without pay are ruled out, and a cell that paid is the goal from then on; these are the
targets of the wavefront, and they stand in memory (feature `board`), nowhere else. So it goes a shortest way to the
nearest cell that may hold the goal, and a shortest way to the goal in every later episode, also where its first path
was longer. Whenever the targets change, costs are backed up anew. A parallel sweep, as in `wavefront`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.subjects.envs.maze_trial import MazeTrialTask, cell_squares
from planprobe.subjects.organisms.base import AMPLITUDE, Style, Tick, View
from planprobe.subjects.organisms.trial_view import HALF, NUM_PLANES, TrialView, look_at_trial, note_last_step
from planprobe.subjects.organisms.wavefront import Wavefront


class TrialWavefront(Wavefront):
    """See the module; for maze trials in full view.

    Features beside those of a wavefront: been, squares stepped on; goal, once it was found; here, the square when it
    last acted.
    """

    features: ClassVar[dict[str, int]] = {**Wavefront.features, "been": 1, "goal": 1, "here": 1}
    cells: Tensor

    def __init__(self, *, task: MazeTrialTask, style: Style) -> None:
        if task.view != "full":
            raise RecipeError("this wavefront sees the whole maze: view = 'full'.")
        super().__init__(planes=NUM_PLANES, board=(task.size, task.size), style=style)
        self.register_buffer("cells", cell_squares(task.size), persistent=False)

    def look(self, plain: Tensor) -> TrialView:
        return look_at_trial(plain)

    def update(self, view: TrialView, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        been, goal, here = (own[:, self.slots[name]].flatten(1) > HALF for name in ("been", "goal", "here"))
        rows = torch.arange(len(been), device=been.device)
        if tick.number == 0:  # one step is one observation, whatever the number of ticks
            note_last_step(view, been, goal, here)
        been[rows, view.player] = True  # no episode starts on its goal
        if tick.is_last:
            here = torch.zeros_like(here).scatter_(1, view.player[:, None], True)
        targets = torch.where(goal.any(1, keepdim=True), goal, self.cells & ~been)
        board = View(view.walls, targets.view_as(view.walls), torch.zeros_like(view.walls), view.player)
        further = torch.stack([been, goal, here], dim=1).unflatten(2, view.walls.shape[1:])
        return torch.cat([super().update(board, own, around, tick), AMPLITUDE * further.float()], dim=1)
