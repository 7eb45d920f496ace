"""Sokoban wavefront: pushes are backed up from the target, walks from behind the box. It plans: a parallel sweep.

Why: on one-box boards the number of pushes left, from every square the box could stand on, spreads from the target one
push a tick; the moves left for the player spread from the squares behind the box, each at the cost of the push that can
be made there, one move a tick. Both are `back_up`s in memory, and no square holds a cost before a chain of them has
come to it. The way of the player to its next push is marked by entries (`plan`), the way of the box by the direction it
is pushed in off each square (`push`). The policy reads `plan` beside the agent, and never walks into the box without a
mark. A box that has moved makes the walk be planned anew, another board everything.

The estimate behind a push leaves out the walks between later pushes: some boards are solved with detours, a few not.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES, OPPOSITE
from planprobe.subjects.organisms.base import AMPLITUDE, BLOCKED, Tick, View, same_board
from planprobe.subjects.organisms.wavefront import HALF, Wavefront
from planprobe.subjects.organisms.waves import (
    FAR,
    NUM_BITS,
    STAY,
    as_exits,
    at_square,
    back_up,
    best_move,
    from_bits,
    look_ahead,
    step_marks,
    to_bits,
    walk,
)

PUSH_COST = 4  # moves that a push is worth, so that pushes are not wasted to save a walk
DETOUR_COST = 4  # what a push costs more where another one is marked


class SokobanWavefront(Wavefront):
    """See the module. Features beside those of a wavefront: push, exits of the box; pushes_known and pushes, its map of
    pushes left; box, where it was."""

    features: ClassVar[dict[str, int]] = {
        **Wavefront.features,
        "push": NUM_MOVES,
        "pushes_known": 1,
        "pushes": NUM_BITS,
        "box": 1,
    }

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        same = same_board(view, own[:, self.slots["board"]]).view(-1, 1, 1, 1)
        box = own[:, self.slots["box"]] > HALF
        unmoved = same & (box[:, 0] == view.boxes).flatten(1).all(1).view(-1, 1, 1, 1)
        pushes = self._back_up_pushes(view, self._read_pushes(around).masked_fill(~same[:, 0], FAR))
        push = self._complete_pushes(view, around[:, self.slots["push"]] * same, pushes)
        sources, best_push = self._push_squares(view, pushes, push)
        cost = self.read_cost(around).masked_fill(~unmoved[:, 0], FAR)
        cost = back_up(cost, sources, self.floor(view))
        plan = self._complete_walk(view, around[:, self.slots["plan"]] * unmoved, cost, sources, best_push)
        known = pushes < FAR
        bits = to_bits(pushes.masked_fill(~known, 0))
        further = torch.cat([push, known[:, None], bits, view.boxes[:, None]], dim=1)
        return torch.cat([self.pack(cost, plan, view), AMPLITUDE * further.float()], dim=1)

    def act(self, view: View, hidden: Tensor) -> tuple[Tensor, Tensor]:
        scores, value = super().act(view, hidden)
        box_ahead = at_square(look_ahead(view.boxes.float()), view.player) > 0
        return scores.masked_fill(box_ahead & (scores < HALF), BLOCKED), value

    def floor(self, view: View) -> Tensor:
        return ~(view.walls | view.boxes)

    def ends(self, view: View) -> Tensor:
        return view.boxes  # targets are floor to the player

    def _read_pushes(self, plain: Tensor) -> Tensor:
        there = plain > HALF
        known = there[:, self.slots["pushes_known"]].squeeze(1)
        return from_bits(there[:, self.slots["pushes"]]).masked_fill(~known, FAR)

    def _pushes_after(self, view: View, pushes: Tensor) -> Tensor:
        """Pushes left after each push of a box on each square, (B, 4, H, W) int16; FAR where it cannot be made."""
        behind = look_ahead(view.walls.to(torch.uint8), fill=1)[:, list(OPPOSITE)] > 0
        return look_ahead(pushes, fill=FAR).masked_fill(behind, FAR)

    def _back_up_pushes(self, view: View, pushes: Tensor) -> Tensor:
        nearest, _ = best_move(-self._pushes_after(view, pushes))
        left = torch.minimum(1 - nearest, torch.where(view.targets, 0, FAR).to(torch.int16))
        return left.clamp(max=FAR).masked_fill(view.walls, FAR)

    def _complete_pushes(self, view: View, marks: Tensor, pushes: Tensor) -> Tensor:
        """Exits of the box on its way to the target, (B, 4, H, W) bool: marked ones where there are, else downhill."""
        after = self._pushes_after(view, pushes)
        can = after < FAR
        strength, marked = best_move(marks.masked_fill(~(can & (marks > HALF)), 0.0))
        nearest, downhill = best_move(-after)
        moves = torch.where(strength > 0, marked, downhill)
        moves = moves.masked_fill((nearest == -FAR) | view.targets, STAY)
        box = view.boxes.flatten(1).to(torch.uint8).argmax(1)
        return step_marks(walk(moves, box), moves) & view.boxes.flatten(1).any(1).view(-1, 1, 1, 1)

    def _push_squares(self, view: View, pushes: Tensor, push: Tensor) -> tuple[Tensor, Tensor]:
        """Where the player can push the box, at what cost, and which way it pushes there, (B, H, W) each."""
        other = push.any(1, keepdim=True) & ~push
        costs = 1 + PUSH_COST * self._pushes_after(view, pushes).to(torch.int32) + DETOUR_COST * other
        costs = costs.clamp(max=FAR).to(torch.int16).masked_fill(~view.boxes[:, None], FAR)
        least, move = best_move(-as_exits(costs - FAR) - FAR)  # of a square: the push that is made from it
        return (-least).clamp(max=FAR), move

    def _complete_walk(self, view: View, marks: Tensor, cost: Tensor, sources: Tensor, best_push: Tensor) -> Tensor:
        """Entries of the player's way up to the push, as `complete`; at the end it enters the square of the box."""
        pushes_here = (sources < FAR) & (sources <= cost) & self.floor(view)
        return self.complete(view, marks, cost, torch.where(pushes_here, best_push, STAY))
