"""Every optimal first move: from distance maps of mazes, from exact tables of one-box boards, or from the solver."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import UnreachableError
from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.catalog import distances_to_goal
from planprobe.subjects.envs.distance import optimal_action_mask
from planprobe.subjects.envs.one_box import count_moves_to_solve, squares_of
from planprobe.subjects.envs.solver import optimal_actions, solve

SEARCH_NODES = 20_000  # of the solver, for each board; of one that needs more nothing is known


@dataclass(frozen=True)
class FirstMoves:
    """What is best from every square the player might start on.

    optimal: (N, 4, H*W) bool, first moves of the shortest plans. lengths: (N, H*W) int64 moves of such a plan, -1 where
    there is none or none is known.
    """

    optimal: Tensor
    lengths: Tensor

    def at(self, squares: Tensor) -> Tensor:
        """The lowest optimal move from one square of each level, (N,) int64."""
        picked = self.optimal.gather(2, squares[:, None, None].expand(-1, NUM_MOVES, 1)).squeeze(2)
        return picked.to(torch.uint8).argmax(1)


def optimal_first_moves(levels: LevelSet, kind: str) -> Tensor:
    """Every optimal first move at the start, (N, 4) bool; a row without any where none is known."""
    optimal = find_first_moves(levels, kind).optimal
    return optimal.gather(2, levels.players[:, None, None].expand(-1, NUM_MOVES, 1)).squeeze(2)


def find_first_moves(levels: LevelSet, kind: str) -> FirstMoves:
    """Optimal first moves from every square, by distance maps and one-box tables; with several boxes only from the
    start, by the solver."""
    if kind == "maze":
        distance = distances_to_goal(levels)[0]
        return FirstMoves(optimal_action_mask(distance).flatten(2), distance.flatten(1).to(torch.int64))
    counts = torch.stack([((levels.boards & flag) != 0).flatten(1).sum(1) for flag in (BOX, TARGET)])
    if bool((counts == 1).all()):
        return _one_box_first_moves(levels)
    optimal = torch.zeros(len(levels), NUM_MOVES, levels.height * levels.width, dtype=torch.bool)
    lengths = torch.full(optimal[:, 0].shape, -1, dtype=torch.int64)
    for row, (board, player) in enumerate(zip(levels.boards, levels.players.tolist(), strict=True)):
        solution = solve(board, player, max_nodes=SEARCH_NODES)
        if solution.status != "solved":
            continue
        try:  # the other searches are cut at the optimal length, but a failing one may still be the longer
            moves = optimal_actions(board, player, max_nodes=20 * SEARCH_NODES)
        except UnreachableError:
            continue
        lengths[row, player], optimal[row, list(moves), player] = solution.num_moves, True
    return FirstMoves(optimal, lengths)


def _one_box_first_moves(levels: LevelSet) -> FirstMoves:
    rows = torch.arange(len(levels))
    boxes = squares_of(levels.boards, BOX)
    table = count_moves_to_solve((levels.boards & WALL) != 0, squares_of(levels.boards, TARGET)).to(torch.int64)
    lengths = table[rows, boxes]
    squares, optimal = torch.arange(lengths.shape[1]), []
    for offset in move_offsets(levels.width).tolist()[:NUM_MOVES]:
        ahead = lengths[:, (squares + offset).clamp(0, len(squares) - 1)]
        ahead[rows, boxes - offset] = table[rows, boxes + offset, boxes]  # the player pushes, and stands where it was
        optimal.append((ahead >= 0) & (ahead == lengths - 1))
    return FirstMoves(torch.stack(optimal, dim=1), lengths)
