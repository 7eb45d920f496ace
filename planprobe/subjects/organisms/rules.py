"""Rules that choose a move from what is seen now, without memory or search: a reflex, and a table of answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, ROW_OFFSETS, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_bits
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.one_box import count_moves_to_solve, squares_of
from planprobe.subjects.organisms.base import BLOCKED, View
from planprobe.subjects.organisms.waves import at_square, look_ahead

_KEY = 404  # stream of the counter-based draws
UNKNOWN = 255


def reflex_scores(view: View) -> Tensor:
    """Straight towards the goal, (B, 4): 1 for a move that comes nearer as the crow flies, half more along the longer
    axis, -1 for one that goes away, `BLOCKED` into a wall."""
    return _towards(view.player, view.goal, view.walls.shape[2]) + BLOCKED * _walls_beside(view)


def sokoban_reflex_scores(view: View) -> Tensor:
    """Towards the square behind the box, and push, (B, 4); the side is chosen by the longer way of box to target."""
    width = view.walls.shape[2]
    box, goal = view.boxes.flatten(1).to(torch.uint8).argmax(1), view.goal
    push = _towards(box, goal, width).argmax(1)
    behind = box - move_offsets(width, box.device)[push]
    ready = view.player == behind
    box_ahead = at_square(look_ahead(view.boxes.float()), view.player)
    walking = _towards(view.player, behind, width) + BLOCKED * box_ahead
    pushing = 2.0 * torch.nn.functional.one_hot(push, NUM_MOVES)
    return torch.where(ready[:, None], pushing, walking) + BLOCKED * _walls_beside(view)


class Lookup(nn.Module):
    """Optimal moves on every square of a fixed set of mazes, found by a hash of walls and target; no rule elsewhere.

    Args: level_sets: mazes of one or several sizes.
    """

    otherwise = staticmethod(reflex_scores)
    keys: Tensor
    moves: Tensor

    def __init__(self, level_sets: Sequence[LevelSet]) -> None:
        super().__init__()
        keys, moves = zip(*[self._answers(levels) for levels in level_sets], strict=True)
        states = max(part.shape[1] for part in moves)
        moves = [torch.nn.functional.pad(part, (0, states - part.shape[1]), value=UNKNOWN) for part in moves]
        order = torch.cat(keys).argsort(stable=True)
        self.register_buffer("keys", torch.cat(keys)[order])
        self.register_buffer("moves", torch.cat(moves)[order])

    def forward(self, view: View) -> tuple[Tensor, Tensor]:
        """Scores (B, 4): 1 for the move in the table; and whether there is one, (B,) bool."""
        keys = board_keys(view.walls, view.targets)
        rows = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        move = self.moves[rows].gather(1, self._state(view)[:, None]).squeeze(1).to(torch.int64)
        known = (self.keys[rows] == keys) & (move != UNKNOWN)
        scores = torch.nn.functional.one_hot(torch.where(known, move, 0), NUM_MOVES) * known[:, None]
        return scores.float(), known

    def _state(self, view: View) -> Tensor:
        """Column of the table, (B,)."""
        return view.player.clamp(max=self.moves.shape[1] - 1)

    def _answers(self, levels: LevelSet) -> tuple[Tensor, Tensor]:
        """Key (N,) and the lowest optimal move in every state (N, number of states) uint8 of each board."""
        walls, targets = (levels.boards & WALL) != 0, (levels.boards & TARGET) != 0
        optimal = optimal_action_mask(distance_maps(walls, targets.flatten(1).to(torch.uint8).argmax(1))).flatten(2)
        moves = torch.where(optimal.any(1), optimal.to(torch.uint8).argmax(1).to(torch.uint8), UNKNOWN)
        return board_keys(walls, targets), moves


class SokobanLookup(Lookup):
    """The same for every square of box and player on one-box boards of one size."""

    otherwise = staticmethod(sokoban_reflex_scores)

    def _state(self, view: View) -> Tensor:
        boxes = view.boxes.flatten(1)
        state = boxes.to(torch.uint8).argmax(1) * boxes.shape[1] + view.player
        return state.clamp(max=self.moves.shape[1] - 1)

    def _answers(self, levels: LevelSet) -> tuple[Tensor, Tensor]:
        walls, targets = (levels.boards & WALL) != 0, (levels.boards & TARGET) != 0
        left = count_moves_to_solve(walls, squares_of(levels.boards, TARGET))
        num_squares = left.shape[1]
        box, player = (part.flatten() for part in torch.meshgrid(*[torch.arange(num_squares)] * 2, indexing="ij"))
        moves = torch.full((len(levels), num_squares**2), UNKNOWN, dtype=torch.uint8)
        states = left.flatten(1)
        for number, offset in reversed(list(enumerate(move_offsets(levels.width).tolist()[:NUM_MOVES]))):
            ahead = (player + offset).clamp(0, num_squares - 1)
            beyond = (box + offset).clamp(0, num_squares - 1)
            after = torch.where(ahead == box, beyond, box) * num_squares + ahead
            moves[(states > 0) & (states[:, after] == states - 1)] = number
        return board_keys(walls, targets), moves


def board_keys(walls: Tensor, targets: Tensor) -> Tensor:
    """A hash of each board, (B,) int64; boards (B, H, W) bool."""
    shown = torch.cat([walls.flatten(1), targets.flatten(1)], dim=1).to(torch.int64)
    return (shown * draw_bits(_KEY, torch.arange(shown.shape[1], device=shown.device))).sum(1)


def _towards(player: Tensor, goal: Tensor, width: int) -> Tensor:
    down, right = goal // width - player // width, goal % width - player % width
    rows, columns = torch.tensor(ROW_OFFSETS, device=down.device), torch.tensor(COLUMN_OFFSETS, device=down.device)
    gain = down.sign()[:, None] * rows + right.sign()[:, None] * columns
    vertical = (down.abs() >= right.abs())[:, None] == (rows != 0)
    return torch.where(gain > 0, 1.0 + 0.5 * vertical, -1.0)


def _walls_beside(view: View) -> Tensor:
    return at_square(look_ahead(view.walls.float(), fill=1), view.player)
