"""Teachers: algorithms that plan by local rules, one tick at a time, so that a net can be taught each of their ticks.

A teacher looks at boards as the net does, once a step, and says after every tick what stands on every square. What it
says follows from what stood there and next door one tick before, so a net of 3x3 kernels can learn to say the same.
After a board was changed under its eyes a teacher is silent for `DELAY` ticks and then begins anew: news from one
square must reach all others first.

    wavefront   the wave from the goal, one square a tick on all sides: a parallel sweep
    rollout     one imagined walker, one step a tick, out of dead ends again, until it arrives: a serial search
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.grid import NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.subjects.organisms.waves import as_entries, as_exits, at_square, best_move, look_ahead

DELAY = 3
SILENT = -1  # class of a square of which nothing is said
FARTHEST = 32  # moves; a value falls from 1 at the goal to 0 here
_SILENT_STATE = ("cells", "players", "age")


class Teacher:
    """What teachers share. Boards (B, H, W) are mazes; squares are flat.

    classes: what it says of every square, name -> number of classes. numbers: the same as numbers in [0, 1]. 'plan' is
    always among the classes: 0 = not on the way, 1..4 = entered by the move up, down, left, right.
    """

    classes: ClassVar[dict[str, int]]
    numbers: ClassVar[tuple[str, ...]] = ()
    maps: ClassVar[tuple[str, ...]]

    def __init__(self, num_boards: int, height: int, width: int, *, device: torch.device | str = "cpu") -> None:
        self.height, self.width, self.device = height, width, device
        self.cells = torch.zeros(num_boards, height * width, dtype=torch.uint8, device=device)
        self.players, self.age = (torch.zeros(num_boards, dtype=torch.int64, device=device) for _ in range(2))
        self.plan = torch.zeros(num_boards, height, width, dtype=torch.int64, device=device)
        self._moves = torch.arange(1, NUM_MOVES + 1, device=device).view(1, -1, 1, 1)  # as a plan tells them
        self._offsets = move_offsets(width, device)

    @property
    def speaks(self) -> Tensor:
        """Boards of which something was said in the last tick, (B,) bool."""
        return self.age >= 1

    def look(self, cells: Tensor, players: Tensor, starts: Tensor) -> None:
        """See the boards, at the beginning of a step. starts (B,) bool: memory is empty."""
        changed = (cells != self.cells).any(1) | self.lost(players)
        self.age = torch.where(starts, 0, torch.where(changed, -DELAY, self.age))
        self.cells, self.players = cells.clone(), players.clone()
        self.walls = ((cells & WALL) != 0).view(-1, self.height, self.width)
        self.goal = ((cells & TARGET) != 0).view_as(self.walls)
        self.here = torch.zeros_like(self.walls).flatten(1).scatter_(1, players[:, None], True).view_as(self.walls)

    def tick(self) -> dict[str, Tensor]:
        """Go on by a tick and say what stands where, each (B, H, W): classes int64 or `SILENT`; numbers, nan."""
        self.age += 1
        self.advance(self.speaks.view(-1, 1, 1))
        silent = ~self.speaks.view(-1, 1, 1)
        said = self.say()
        return {
            name: part.masked_fill(silent, torch.nan if name in self.numbers else SILENT) for name, part in said.items()
        }

    def advise(self) -> Tensor:
        """Chances of the moves (B, 4): the way's, where one leads on from the agent."""
        moves = self.plan[:, None] == self._moves
        onward = at_square(as_exits(moves.float()), self.players)
        open_moves = 1 - at_square(look_ahead(self.walls.float(), fill=1), self.players)
        otherwise = self.without_plan(open_moves)
        otherwise = torch.where(otherwise.any(1, keepdim=True), otherwise, 1.0)  # walled in, or nothing to lean on
        chances = torch.where(onward.any(1, keepdim=True), onward, otherwise)
        return chances / chances.sum(1, keepdim=True)

    # a teacher defines -----------------------------------------------------------------------------------------------
    def lost(self, players: Tensor) -> Tensor:
        """Boards on which the agent has left the way, so that it must begin anew, (B,) bool."""
        return torch.zeros_like(players, dtype=torch.bool)

    def advance(self, speaks: Tensor) -> None:
        """One tick; speaks (B, 1, 1) bool."""
        raise NotImplementedError

    def say(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def without_plan(self, open_moves: Tensor) -> Tensor:
        """What to do where there is no plan yet: weights of the moves, from the open ones (B, 4) in 0, 1."""
        raise NotImplementedError

    # what survives a kill --------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in (*_SILENT_STATE, *self.maps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(self.device).clone())


class WavefrontTeacher(Teacher):
    """One Bellman backup a tick on all squares; then the way is marked from the agent on, one square a tick.

    reached: the wave has been here; move: the best move from here, where it has; value: 1 less a 32nd a move to the
    goal, 0 where it has not been. Until a mark lies beside the agent, it walks at random.
    """

    classes: ClassVar[dict[str, int]] = {"plan": 1 + NUM_MOVES, "reached": 2, "move": NUM_MOVES}
    numbers: ClassVar[tuple[str, ...]] = ("value",)
    maps: ClassVar[tuple[str, ...]] = ("plan", "move", "cost", "reached")

    def __init__(self, num_boards: int, height: int, width: int, *, device: torch.device | str = "cpu") -> None:
        super().__init__(num_boards, height, width, device=device)
        self.move, self.cost = torch.full_like(self.plan, -1), torch.zeros_like(self.plan)
        self.reached = torch.zeros_like(self.plan, dtype=torch.bool)

    def advance(self, speaks: Tensor) -> None:
        anew = (self.age <= 1).view(-1, 1, 1)
        before, move = self.reached & ~anew, self.move.masked_fill(anew, SILENT)
        marked = (self.plan.masked_fill(anew, 0) > 0) | self.here
        nearest, ahead = best_move(look_ahead(before.to(torch.uint8)))
        self.reached = (before | (nearest > 0) | self.goal) & ~self.walls & speaks
        new = self.reached & ~before
        self.cost = torch.where(new, self.age.view(-1, 1, 1) - 1, self.cost)
        self.move = torch.where(new & ~self.goal, ahead, move)
        leads = torch.stack([(move == number) & marked for number in range(NUM_MOVES)], dim=1)
        entered, entry = best_move(as_entries(leads.to(torch.uint8)))
        self.plan = torch.where((entered > 0) & ~self.here & speaks, 1 + entry, 0)

    def say(self) -> dict[str, Tensor]:
        known = self.move.masked_fill(~self.reached, SILENT)
        value = (1 - self.cost / FARTHEST) * self.reached
        return {"plan": self.plan, "reached": self.reached.to(torch.int64), "move": known, "value": value}

    def without_plan(self, open_moves: Tensor) -> Tensor:
        return open_moves


class RolloutTeacher(Teacher):
    """One imagined walker from the agent, one step a tick: the first open square it has not seen, or back out again.

    walker: 0 = not here, 1..4 = here and about to make the move, 5..8 = about to go back on the move it came by; seen:
    it has been here; way: 0, or the move by which it came here, erased as it goes back. Arrived, the way becomes the
    plan, from the goal backwards, one square a tick. Until a plan lies beside the agent, it pushes against a wall.
    """

    classes: ClassVar[dict[str, int]] = {"plan": 1 + NUM_MOVES, "walker": 1 + 2 * NUM_MOVES, "seen": 2, "way": 5}
    maps: ClassVar[tuple[str, ...]] = ("plan", "way", "seen", "head", "decision", "arrived")

    def __init__(self, num_boards: int, height: int, width: int, *, device: torch.device | str = "cpu") -> None:
        super().__init__(num_boards, height, width, device=device)
        self.way, self.seen = torch.zeros_like(self.plan), torch.zeros_like(self.plan, dtype=torch.bool)
        self.head, self.decision = torch.zeros_like(self.age), torch.full_like(self.age, _HALT)
        self.arrived = torch.zeros_like(self.age, dtype=torch.bool)

    def lost(self, players: Tensor) -> Tensor:
        on_way = self.plan.flatten(1).gather(1, players[:, None]).squeeze(1) > 0
        return (players != self.players) & ~on_way

    def advance(self, speaks: Tensor) -> None:
        self._pass_on_plan()
        begins, offsets = self.age == 1, self._offsets
        silent = ~speaks | begins.view(-1, 1, 1)
        self.way, self.seen = self.way.masked_fill(silent, 0), self.seen & ~silent
        self.plan, self.arrived = self.plan.masked_fill(silent, 0), self.arrived & ~silent.flatten()
        way, seen = self.way.flatten(1), self.seen.flatten(1)
        came_by = way.gather(1, self.head[:, None]).squeeze(1)
        goes, returns = self.decision < NUM_MOVES, self.decision == _BACK
        goes, returns = goes & ~silent.flatten(), returns & ~silent.flatten()
        way.scatter_(1, self.head[:, None], torch.where(returns, 0, came_by)[:, None])
        step = torch.where(goes, offsets[self.decision.clamp(max=NUM_MOVES)], 0)
        step = torch.where(returns, -offsets[came_by - 1], step)
        self.head = torch.where(begins, self.players, self.head + step)
        ahead = way.gather(1, self.head[:, None]).squeeze(1)
        way.scatter_(1, self.head[:, None], torch.where(goes, 1 + self.decision, ahead)[:, None])
        seen.scatter_(
            1, self.head[:, None], (seen.gather(1, self.head[:, None]).squeeze(1) | speaks.flatten())[:, None]
        )
        self.arrived |= at_square(self.goal, self.head) & speaks.flatten()
        self.way = way.view_as(self.plan).masked_fill(self.here, 0)
        self.decision = self._decide(offsets)

    def _pass_on_plan(self) -> None:
        """A square of the way joins the plan once the next one has, the goal's once the walker has arrived."""
        moves = self.plan[:, None] == self._moves
        follows = as_exits(moves.to(torch.uint8)).amax(1) > 0
        ready = (follows | (self.goal & self.arrived.view(-1, 1, 1))) & (self.way > 0)
        self.plan = torch.where(ready, self.way, self.plan).masked_fill(self.here, 0)

    def _decide(self, offsets: Tensor) -> Tensor:
        """The walker's next move (B,): 0..3, back, or halt."""
        ahead = self.head[:, None] + offsets[:NUM_MOVES]
        closed = (self.walls | self.seen).flatten(1)
        free = ~closed.gather(1, ahead.clamp(0, closed.shape[1] - 1))
        came_by = self.way.flatten(1).gather(1, self.head[:, None]).squeeze(1)
        choice = torch.where(free.any(1), free.to(torch.uint8).argmax(1), torch.where(came_by > 0, _BACK, _HALT))
        return choice.masked_fill(self.arrived | ~self.speaks, _HALT)

    def say(self) -> dict[str, Tensor]:
        came_by = self.way.flatten(1).gather(1, self.head[:, None]).squeeze(1)
        number = torch.where(self.decision == _BACK, NUM_MOVES + came_by, 1 + self.decision)
        number = number.masked_fill(self.decision == _HALT, 0)
        walker = torch.zeros_like(self.way).flatten(1).scatter_(1, self.head[:, None], number[:, None])
        maps = {"walker": walker.view_as(self.way), "seen": self.seen.to(torch.int64)}
        return {"plan": self.plan, "way": self.way} | maps

    def without_plan(self, open_moves: Tensor) -> Tensor:
        return 1 - open_moves


_BACK, _HALT = NUM_MOVES, NUM_MOVES + 1
TEACHERS: dict[str, type[Teacher]] = {"wavefront": WavefrontTeacher, "rollout": RolloutTeacher}


def get_teacher(name: str) -> type[Teacher]:
    """A kind of teacher by name. Raises: RecipeError (no such teacher)."""
    if name not in TEACHERS:
        raise unknown_name("teacher", name, TEACHERS, error=RecipeError)
    return TEACHERS[name]


def make_teacher(name: str, num_boards: int, height: int, width: int, *, device: torch.device | str = "cpu") -> Teacher:
    """A teacher of so many boards. Raises: RecipeError (no such teacher)."""
    return get_teacher(name)(num_boards, height, width, device=device)
