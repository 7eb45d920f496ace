"""Optimal Sokoban: the shortest solution of a level in moves or in pushes, and which first moves keep it shortest.

The reference every plan label and difficulty bucket rests on. Exact within a budget of expanded states: a level that is
not solved within it is reported so, never guessed. A maze (no box, one target) is solved by walking.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from torch import Tensor

from planprobe.core.errors import LevelFormatError, UnreachableError
from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.solver_room import INFINITE, Room, bits
from planprobe.subjects.envs.solver_search import SQUARE_BITS, search

Metric = Literal["pushes", "moves"]
Status = Literal["solved", "unsolvable", "budget"]
MAX_NODES = 200_000
_LEVELS_PER_JOB = 32


@dataclass(frozen=True)
class Solution:
    """What the solver found.

    status: 'solved', 'unsolvable' (proved), or 'budget' (not solved within max_nodes: nothing is known).
    actions: every move, walking included, as `core.grid` numbers them. With metric 'pushes' the walks between pushes
        are shortest, but the whole need not be.
    num_nodes: states expanded.
    """

    status: Status
    actions: tuple[int, ...]
    num_moves: int
    num_pushes: int
    num_nodes: int


def solve(board: Tensor | np.ndarray, player: int, *, metric: Metric = "moves", max_nodes: int = MAX_NODES) -> Solution:
    """Find a solution with the fewest moves, or the fewest pushes.

    Args:
        board: (H, W) uint8 flags, closed by walls; boxes may be fewer than targets.
        player: flat index.
        metric: 'pushes' is many times faster on large boards: its search ignores where exactly the player stands.
        max_nodes: states to expand at most; one costs about 30 microseconds and 2 kB.
    Raises: LevelFormatError (not a board: open border, player in a wall, unknown metric).
    """
    if metric not in ("pushes", "moves"):
        raise LevelFormatError(f"solve(metric={metric!r}): the metric is 'pushes' or 'moves'.")
    puzzle = _Puzzle.from_board(board, int(player))
    return puzzle.solve(count_walking=metric == "moves", max_nodes=max_nodes, max_cost=INFINITE)


def solve_levels(
    levels: LevelSet, *, metric: Metric = "moves", max_nodes: int = MAX_NODES, executor: Executor | None = None
) -> list[Solution]:
    """Solve every level, in order; an executor (processes, Dask, SLURM) shares out the work and changes no result."""
    boards, players = levels.boards.cpu().numpy(), levels.players.tolist()
    jobs = [
        (boards[start : start + _LEVELS_PER_JOB], players[start : start + _LEVELS_PER_JOB])
        for start in range(0, len(players), _LEVELS_PER_JOB)
    ]
    work = partial(_solve_job, metric=metric, max_nodes=max_nodes)
    solved: Iterable[list[Solution]] = map(work, jobs) if executor is None else executor.map(work, jobs)
    return [solution for part in solved for solution in part]


def optimal_actions(board: Tensor | np.ndarray, player: int, *, max_nodes: int = MAX_NODES) -> tuple[int, ...]:
    """Every first action of some solution with the fewest moves, ascending; empty where nothing is left to do.

    Plans are rarely unique: scoring a decoded plan against a single optimal one would call good moves wrong. Costs
    about as much as four solutions, each search being cut at the optimal length.

    Raises: UnreachableError (unsolvable, or not solved within max_nodes); LevelFormatError.
    """
    puzzle = _Puzzle.from_board(board, int(player))
    whole = puzzle.solve(count_walking=True, max_nodes=max_nodes, max_cost=INFINITE)
    if whole.status != "solved":
        problem = "has no solution" if whole.status == "unsolvable" else f"was not solved within {max_nodes:,} states"
        raise UnreachableError(f"optimal_actions: this level {problem}.\n  Next: raise max_nodes, or leave it out.")
    if not whole.actions:
        return ()
    optimal = []
    for action in range(NUM_MOVES):
        after = puzzle.move(action)
        if action == whole.actions[0]:
            optimal.append(action)
        elif after is not None:
            rest = after.solve(count_walking=True, max_nodes=max_nodes, max_cost=whole.num_moves - 1)
            if rest.status == "budget":
                raise UnreachableError(
                    f"optimal_actions: not decided within {max_nodes:,} states.\n  Next: raise max_nodes."
                )
            if rest.status == "solved":
                optimal.append(action)
    return tuple(optimal)


def dead_squares(board: Tensor | np.ndarray) -> np.ndarray:
    """Floor squares from which even a lone box can never reach a target, (H, W) bool; walls are not dead.

    Stricter than the usual test: the player must be able to walk to every side it pushes from. A floor square that the
    player could never stand on counts too.
    """
    puzzle = _Puzzle.from_board(board, None)
    dead = np.zeros(tuple(board.shape), dtype=bool)
    dead.ravel()[list(bits(puzzle.room.floor & ~puzzle.room.alive))] = True
    return dead


@dataclass(frozen=True)
class _Puzzle:
    """A position: the room, the boxes (mask) and the player (flat index)."""

    room: Room
    boxes: int
    player: int

    @classmethod
    def from_board(cls, board: Tensor | np.ndarray, player: int | None) -> _Puzzle:
        """Check a board and pack it into masks. player: None where only the room matters."""
        cells = board.cpu().numpy() if isinstance(board, Tensor) else np.asarray(board)
        if cells.ndim != 2 or cells.size > 1 << SQUARE_BITS:
            raise LevelFormatError(f"the solver takes one board (H, W) of at most 1024 squares, got {cells.shape}.")
        edges = (cells[0], cells[-1], cells[:, 0], cells[:, -1])
        if not all((edge & WALL).all() for edge in edges):
            raise LevelFormatError("the solver needs walls all around the board.\n  Next: pad it with WALL squares.")
        codes = cells.ravel().tolist()
        floor = sum(1 << square for square, code in enumerate(codes) if not code & WALL)
        boxes = sum(1 << square for square, code in enumerate(codes) if code & BOX)
        targets = sum(1 << square for square, code in enumerate(codes) if code & TARGET)
        if player is not None and (not 0 <= player < cells.size or not (floor & ~boxes) >> player & 1):
            raise LevelFormatError(f"the player's square {player} is not free floor of this {cells.shape} board.")
        return cls(Room(cells.shape[1], cells.size, floor, targets), boxes, player or 0)

    def move(self, action: int) -> _Puzzle | None:
        """The position after one action, None where it is blocked."""
        offset = self.room.offsets[action]
        ahead, boxes = self.player + offset, self.boxes
        if not self.room.floor >> ahead & 1:
            return None
        if boxes >> ahead & 1:
            if not (self.room.floor & ~boxes) >> (ahead + offset) & 1:
                return None
            boxes ^= 1 << ahead | 1 << ahead + offset
        return _Puzzle(self.room, boxes, ahead)

    def solve(self, *, count_walking: bool, max_nodes: int, max_cost: int) -> Solution:
        if not self.boxes:
            return self._solve_maze(max_cost)
        result = search(
            self.room, self.boxes, self.player, count_walking=count_walking, max_nodes=max_nodes, max_cost=max_cost
        )
        if result.states is None:
            return Solution("unsolvable" if result.exhausted else "budget", (), 0, 0, result.num_nodes)
        actions: list[int] = []
        for (boxes, player), (following, square) in zip(result.states, result.states[1:], strict=False):
            landed = (following & ~boxes).bit_length() - 1
            offset = landed - square
            actions += self._walk(player, square - offset, boxes) or []
            actions.append(self.room.offsets.index(offset))
        return Solution("solved", tuple(actions), len(actions), len(result.states) - 1, result.num_nodes)

    def _solve_maze(self, max_cost: int) -> Solution:
        """No box: walk to the nearest target."""
        walks = [self._walk(self.player, target, 0) for target in bits(self.room.targets)]
        best = min((walk for walk in walks if walk is not None and len(walk) <= max_cost), key=len, default=None)
        if best is None:
            return Solution("unsolvable", (), 0, 0, 0)
        return Solution("solved", tuple(best), len(best), 0, 0)

    def _walk(self, start: int, goal: int, boxes: int) -> list[int] | None:
        """A shortest walk around the boxes, as actions."""
        free = self.room.floor & ~boxes
        waves = [1 << goal]
        while not waves[-1] >> start & 1:
            free &= ~waves[-1]
            width, wave = self.room.width, waves[-1]
            wave = (wave << 1 | wave >> 1 | wave << width | wave >> width) & free
            if not wave:
                return None
            waves.append(wave)
        actions, square = [], start
        for wave in waves[-2::-1]:
            action = next(a for a in range(NUM_MOVES) if wave >> square + self.room.offsets[a] & 1)
            actions.append(action)
            square += self.room.offsets[action]
        return actions


def _solve_job(job: tuple[np.ndarray, list[int]], *, metric: Metric, max_nodes: int) -> list[Solution]:
    return [solve(board, player, metric=metric, max_nodes=max_nodes) for board, player in zip(*job, strict=True)]
