"""Wavefront: one Bellman backup a tick, from the goal outwards, in memory across steps. It plans: a parallel sweep.

Why: no square's cost is known before a chain of backups has come to it from the goal, one square a tick. `back_up` is
exact BFS: after k ticks on a board every square nearer than k moves holds its distance, all others hold none. The way
that the agent will take is marked by the moves that enter its squares, once the wave has come to the agent; the policy
reads these marks beside the agent and nothing else (walls apart). Where there are none, noise chooses among the open
moves. All squares are backed up at once, so the ticks needed depend on the distance and not on the number of ways.

The marks are a commitment: marks that lead on from the agent are kept, and completed downhill where they end, without
turning back at once. So a way that is written into memory is followed to its end. A board that is not the one
remembered, square by square, makes the agent forget everything and plan anew.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES, OPPOSITE
from planprobe.subjects.organisms.base import AMPLITUDE, BLOCKED, CodedNet, Tick, View, board_features, same_board
from planprobe.subjects.organisms.rules import reflex_scores
from planprobe.subjects.organisms.waves import (
    FAR,
    NUM_BITS,
    STAY,
    as_entries,
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

HALF = AMPLITUDE / 2
GOAL_VALUE, STEP_VALUE = 10.0, 0.1


class Wavefront(CodedNet):
    """See the module. horizon: the wave stops after so many moves. reflex: go by the reflex, not noise, without a plan.

    Features: reached and cost, the distance map as eight binary digits; plan, the entries of the way; board, the walls
    and targets that the map belongs to.
    """

    features: ClassVar[dict[str, int]] = {"reached": 1, "cost": NUM_BITS, "plan": NUM_MOVES, "board": 2}

    def __init__(self, *, horizon: int = FAR - 1, reflex: bool = False, **options) -> None:
        super().__init__(**options)
        self.horizon, self.reflex = horizon, reflex

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        same = same_board(view, own[:, self.slots["board"]]).view(-1, 1, 1, 1)
        cost = self.read_cost(around).masked_fill(~same[:, 0], FAR)
        marks = around[:, self.slots["plan"]] * same
        cost = back_up(cost, self.sources(view), self.floor(view))
        cost = cost.masked_fill(cost > self.horizon, FAR)
        return self.pack(cost, self.complete(view, marks, cost), view)

    def act(self, view: View, hidden: Tensor) -> tuple[Tensor, Tensor]:
        scores = at_square(as_exits(hidden[:, self.slots["plan"]]), view.player)
        if self.reflex:
            lost = (scores.amax(1, keepdim=True) < HALF).float()
            scores = scores + lost * AMPLITUDE * reflex_scores(view)
        walls = at_square(look_ahead(view.walls.float(), fill=1), view.player)
        cost = at_square(self.read_cost(hidden), view.player)
        value = (GOAL_VALUE - STEP_VALUE * cost).masked_fill(cost == FAR, 0.0)
        return scores + BLOCKED * walls, value

    # parts -----------------------------------------------------------------------------------------------------------
    def sources(self, view: View) -> Tensor:
        """Where the wave begins and at what cost, (B, H, W)."""
        return torch.where(view.targets, 0, FAR).to(torch.int16)

    def floor(self, view: View) -> Tensor:
        """Where one can stand, (B, H, W) bool."""
        return ~view.walls

    def read_cost(self, plain: Tensor) -> Tensor:
        """The distance map in plain features, (B, H, W) int16, FAR = not reached."""
        there = plain > HALF
        return from_bits(there[:, self.slots["cost"]]).masked_fill(~there[:, self.slots["reached"]].squeeze(1), FAR)

    def complete(self, view: View, marks: Tensor, cost: Tensor, last: Tensor | None = None) -> Tensor:
        """Entries of the way from the agent: along marks (B, 4, H, W) where they lead on, downhill where they end.

        last (B, H, W): a move to make on a square in place of going downhill, STAY = none.
        """
        standable = self.floor(view) | view.boxes
        strong = (marks > HALF) & standable[:, None]
        strength, onward = best_move(as_exits(marks.masked_fill(~strong, 0.0)))
        turning_back = strong[:, list(OPPOSITE)]  # entered by the opposite move
        nearest, downhill = best_move(-look_ahead(cost, fill=FAR).masked_fill(turning_back, FAR))
        downhill = downhill.masked_fill(nearest == -FAR, STAY)
        if last is not None:
            downhill = torch.where(last == STAY, downhill, last)
        moves = torch.where(strength > 0, onward, downhill.masked_fill(~self.floor(view) | self.ends(view), STAY))
        entries = as_entries(step_marks(walk(moves, view.player), moves)) & ~view.player_mask[:, None]
        kept = entries & strong
        return torch.where(kept.any(1, keepdim=True), kept, entries)

    def ends(self, view: View) -> Tensor:
        """Where a way ends, (B, H, W) bool."""
        return view.targets

    def pack(self, cost: Tensor, plan: Tensor, view: View) -> Tensor:
        known = cost < FAR
        bits = to_bits(cost.masked_fill(~known, 0))
        return AMPLITUDE * torch.cat([known[:, None], bits, plan, board_features(view)], dim=1)
