"""Maze trials in which one wall changes before the second episode, chosen by the way that the agent first walked.

*open*: of the walls beside the first way (without its loops), the first in reading order whose opening makes a way that
is shorter than any there was, and than the one that was walked. *close*: of the passages on that way, likewise the
first whose closing leaves another way to the goal. Where there is none, and where the first episode did not find the
goal, nothing changes. Each is one square away from where the agent walked, so that a view of 3 x 3 squares shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.subjects.envs.cell_world import next_squares, wall_windows
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.maze_trial import MazeTrialEnv, MazeTrialTask
from planprobe.subjects.envs.routes import PAD
from planprobe.subjects.references.loop_erasure import erase_loops, route_lengths

CHANGES = ("open", "close")
NOTHING = -1  # in the place of a square


@dataclass(frozen=True)
class ToggledMazeTask(MazeTrialTask):
    """`MazeTrialTask` with a change, 'open' or 'close', before the second episode.

    Raises: RecipeError (an unknown change; fewer than two episodes, or a start that moves).
    """

    change: str = "open"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.change not in CHANGES:
            raise unknown_name("change", self.change, CHANGES, where="toggled maze trials", error=RecipeError)
        if self.num_episodes < 2 or self.start != "fixed":
            raise RecipeError("a wall changes before the second episode, from a start that is kept: needs both.")

    @classmethod
    def of(cls, task: MazeTrialTask, change: str) -> ToggledMazeTask:
        """A task with a change added."""
        return cls(**{each.name: getattr(task, each.name) for each in fields(MazeTrialTask)}, change=change)

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> ToggledMazeEnv:
        """B mazes side by side."""
        return ToggledMazeEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


class ToggledMazeEnv(MazeTrialEnv):
    """See the module. Beside the bank, each board has a maze of its own: the one that it has changed into.

    extras: new_shortest (B,) int64, moves of the shortest way in the changed maze, 0 before the change or without one;
    toggled (B,) int64, the square that has changed, -1 likewise.
    """

    def __init__(self, num_boards: int, task: ToggledMazeTask, **options) -> None:
        super().__init__(num_boards, task, **options)
        self.change, self.num_mazes = task.change, len(self.bank)
        self.new_walls = self.bank[:1].expand(num_boards, -1, -1).clone()
        self.new_shortest = torch.zeros(num_boards, dtype=torch.int64, device=self.device)
        self.toggled = torch.full_like(self.new_shortest, NOTHING)
        self._first_walk = torch.full((num_boards, task.episode_steps + 1), PAD, device=self.device)
        self._drawn_levels = self.bank
        self._show(self.board_ids)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._show(self.board_ids)

    def _begin_trial(self, ids: Tensor) -> None:
        bank, self.bank = self.bank, self._drawn_levels  # a level is drawn among the mazes of the bank alone
        super()._begin_trial(ids)
        self.bank = bank
        self.new_shortest[ids], self.toggled[ids] = 0, NOTHING
        self._first_walk[ids] = PAD

    def _begin_episode(self, ids: Tensor) -> None:
        found = self.players[ids] == self.goals[ids]  # as the first episode left it
        changing = ids[(self.episode[ids] == 1) & found]
        if len(changing):
            self._toggle(changing)
        super()._begin_episode(ids)
        first = ids[self.episode[ids] == 0]
        self._first_walk[first, 0] = self.players[first]

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        reward, solved, extras = super()._act(actions, active)
        walking = active & (self.episode == 0)
        rows = walking.nonzero().squeeze(1)
        self._first_walk[rows, self.elapsed[rows] + 1] = self.players[rows]
        return reward, solved, extras | {"new_shortest": self.new_shortest.clone(), "toggled": self.toggled.clone()}

    def _toggle(self, ids: Tensor) -> None:
        walls, goals, starts = self.walls[ids], self.goals[ids], self.starts[ids]
        routes = erase_loops(self._first_walk[ids])
        found = find_toggles(walls, routes, goals, starts, self.change, route_lengths(routes))
        changed = found.square >= 0
        ids, squares = ids[changed], found.square[changed]
        new = walls[changed].flatten(1)
        new = new.scatter(1, squares[:, None], ~new.gather(1, squares[:, None])).view_as(walls[changed])
        self.new_walls[ids], self.new_shortest[ids], self.toggled[ids] = new, found.shortest[changed], squares
        self._show(ids)
        self.level_ids[ids] = self.num_mazes + ids

    def _show(self, ids: Tensor) -> None:
        """Put the boards' own mazes behind the bank, with all that is looked up by level."""
        self.bank = torch.cat([self._drawn_levels, self.new_walls])
        if len(self._windows) == self.num_mazes:
            self._windows = torch.cat([self._windows, wall_windows(self.new_walls, self.task.view_size)])
            self._next = torch.cat([self._next, next_squares(self.new_walls)])
        own = self.num_mazes + ids
        self._windows[own] = wall_windows(self.new_walls[ids], self.task.view_size)
        self._next[own] = next_squares(self.new_walls[ids])


@dataclass(frozen=True)
class Toggles:
    """square (B,) int64: the wall or passage that changes, -1 = none; shortest (B,) int64: moves of the new way."""

    square: Tensor
    shortest: Tensor


def find_toggles(walls: Tensor, routes: Tensor, goals: Tensor, starts: Tensor, change: str, lengths: Tensor) -> Toggles:
    """The square that changes on each board; see the module.

    Args: walls (B, H, W) bool; routes (B, R) flat squares of the first way, padded with -1; goals, starts, lengths (of
    the routes) (B,).
    """
    num_boards, height, width = walls.shape
    on_route = torch.zeros(num_boards, height * width + 1, dtype=torch.bool, device=walls.device)
    on_route.scatter_(1, torch.where(routes == PAD, height * width, routes), True)
    on_route = on_route[:, :-1].view_as(walls)
    rows, columns = torch.arange(height, device=walls.device)[:, None], torch.arange(width, device=walls.device)
    between = ((rows + columns) % 2 == 1) & (rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1)
    candidates = between.flatten().nonzero().squeeze(1)
    beside = torch.zeros_like(on_route)
    beside[:, 1:] |= on_route[:, :-1]
    beside[:, :-1] |= on_route[:, 1:]
    beside[:, :, 1:] |= on_route[:, :, :-1]
    beside[:, :, :-1] |= on_route[:, :, 1:]
    may = (walls & beside) if change == "open" else (~walls & on_route)
    may = may.flatten(1)[:, candidates]
    changed = walls.flatten(1)[:, None].expand(-1, len(candidates), -1).clone()
    index = candidates[None, :, None].expand(num_boards, -1, 1)
    changed.scatter_(2, index, ~changed.gather(2, index))
    repeated = goals.repeat_interleave(len(candidates))
    away = distance_maps(changed.view(-1, height, width), repeated).flatten(1)
    new = away.gather(1, starts.repeat_interleave(len(candidates))[:, None]).view(num_boards, -1).to(torch.int64)
    old = distance_maps(walls, goals).flatten(1).gather(1, starts[:, None]).to(torch.int64)
    good = may & (new > 0)
    if change == "open":
        good &= (new < old) & (new < lengths[:, None])
    first = good.to(torch.uint8).argmax(1)
    none = ~good.any(1)
    square = candidates[first].masked_fill(none, -1)
    return Toggles(square, new.gather(1, first[:, None]).squeeze(1).masked_fill(none, 0))
