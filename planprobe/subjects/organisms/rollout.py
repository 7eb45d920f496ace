"""Rollout: one simulated step of one candidate way a tick; the shortest of K is kept, then followed. Plans: serially.

Why: there is one imagined agent. Each tick it takes one step on open floor, or one step back out of a dead end, and the
way behind it is marked. When it arrives at the goal, its way is kept if it is the first or shorter than the one kept,
and the next candidate begins at the agent, with other preferences at forks. Nothing is known of a square that it has
not walked over, so ticks grow with the distance and with the number of candidates. The policy reads the marks of the
way that was kept, and waits (against a wall) until all candidates are done. A board that is not the one remembered, or
a square from which no mark leads on, makes it begin anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, ROW_OFFSETS, move_offsets
from planprobe.core.rng import draw_uniform
from planprobe.subjects.organisms.base import AMPLITUDE, CodedNet, Tick, View, board_features, same_board
from planprobe.subjects.organisms.waiting import follow_or_wait, way_along
from planprobe.subjects.organisms.wavefront import GOAL_VALUE, HALF, STEP_VALUE
from planprobe.subjects.organisms.waves import at_square, best_move, from_bits, look_ahead, to_bits

_FORK = 411  # stream of the counter-based draws
COUNT_BITS = 3


@dataclass(frozen=True)
class Search:
    """Memory of the search. plan, way (B, 4, H, W) bool entries; dead, head, root (B, H, W) bool; count (B,) int16:
    candidates that are done."""

    plan: Tensor
    way: Tensor
    dead: Tensor
    head: Tensor
    root: Tensor
    count: Tensor


class Rollout(CodedNet):
    """See the module. num_candidates: K, under 8.

    Features: plan, entries of the way that was kept; way, of the candidate; dead, squares it came back from; head,
    where it is; root, where it began; count, of candidates done, the same on every square; board, as a wavefront's.
    """

    features: ClassVar[dict[str, int]] = {
        "plan": NUM_MOVES, "way": NUM_MOVES, "dead": 1, "head": 1, "root": 1, "count": COUNT_BITS, "board": 2,
    }  # fmt: skip

    def __init__(self, *, num_candidates: int = 2, **options) -> None:
        super().__init__(**options)
        self.num_candidates = num_candidates

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        search, arrives = self._recall(view, around, same_board(view, own[:, self.slots["board"]]))
        searching = search.count < self.num_candidates
        walked = self._step(view, search, arrives)
        chosen = Search(*(_where(searching, new, old) for new, old in zip(_parts(walked), _parts(search), strict=True)))
        bits = to_bits(chosen.count)[:, :COUNT_BITS, None, None].expand(-1, -1, *view.walls.shape[1:])
        single = torch.stack([chosen.dead, chosen.head, chosen.root], dim=1)
        return AMPLITUDE * torch.cat([chosen.plan, chosen.way, single, bits, board_features(view)], dim=1)

    def act(self, view: View, hidden: Tensor) -> tuple[Tensor, Tensor]:
        waiting = self._read_count(hidden) < self.num_candidates
        plan = hidden[:, self.slots["plan"]]
        entries, arrives = way_along(plan > HALF, view)
        value = (GOAL_VALUE - STEP_VALUE * entries.sum((1, 2, 3))) * arrives
        return follow_or_wait(view, plan, waiting), value

    def _recall(self, view: View, around: Tensor, same: Tensor) -> tuple[Search, Tensor]:
        """What is remembered, begun anew where it must be; and whether the plan arrives, (B,) bool."""
        there = around > torch.where(same, HALF, math.inf).view(-1, 1, 1, 1)
        plan, arrives = way_along(there[:, self.slots["plan"]], view)
        count = self._read_count(around).masked_fill(~same, 0)
        dead, head, root = (there[:, self.slots[name]].squeeze(1) for name in ("dead", "head", "root"))
        leads_on = plan.flatten(1).any(1)
        one_head = head.flatten(1).sum(1) == 1
        searching = count < self.num_candidates
        lost = torch.where(searching, ~at_square(root, view.player) | ~one_head, ~leads_on) | ~same
        way = there[:, self.slots["way"]] & ~lost.view(-1, 1, 1, 1)
        begin = lost.view(-1, 1, 1)
        here = view.player_mask
        search = Search(
            plan, way, dead & ~begin, torch.where(begin, here, head), torch.where(begin, here, root),
            count.masked_fill(lost, 0),
        )  # fmt: skip
        return search, arrives

    def _step(self, view: View, search: Search, arrives: Tensor) -> Search:
        """One step of the imagined agent."""
        width, head = view.walls.shape[2], search.head.flatten(1).to(torch.uint8).argmax(1)
        length, best = search.way.sum((1, 2, 3)), search.plan.sum((1, 2, 3))
        too_long = arrives & (length >= best)
        at_goal = at_square(view.targets, head)
        blocked = view.walls | search.dead | search.root | search.way.any(1)
        open_ahead = at_square(look_ahead((~blocked).to(torch.uint8)), head) > 0
        open_ahead &= ~(too_long | at_goal)[:, None]
        strength, move = best_move(self._preference(view, search, head).masked_fill(~open_ahead, -1.0))
        forward = strength >= 0
        entered = at_square(search.way, head)
        at_root = ~entered.any(1)
        back = best_move(entered.to(torch.uint8))[1]
        offsets = move_offsets(width, head.device)
        ahead = torch.where(forward, head + offsets[move], torch.where(at_root, head, head - offsets[back]))
        ahead = ahead.clamp(0, view.walls[0].numel() - 1)  # out of range only by marks that an edit wrote on the border
        ended = (at_goal | at_root) & ~forward
        better = at_goal & ~too_long
        way, dead = search.way.flatten(2).clone(), search.dead.flatten(1).clone()
        rows = torch.arange(len(head), device=head.device)
        way[rows, move, ahead] |= forward
        retreat = ~forward & ~ended
        way[rows, :, head] &= ~retreat[:, None]
        dead[rows, head] |= retreat
        way, dead = way.view_as(search.way), dead.view_as(search.dead)
        new_head = torch.zeros_like(dead.flatten(1)).scatter_(1, ahead[:, None], True).view_as(dead)
        return Search(
            _where(better, search.way, search.plan), way & ~ended.view(-1, 1, 1, 1), dead & ~ended.view(-1, 1, 1),
            _where(ended, search.root, new_head), search.root, search.count + ended.to(torch.int16),
        )  # fmt: skip

    def _preference(self, view: View, search: Search, head: Tensor) -> Tensor:
        """Of the moves at the head, (B, 4) in [0, 2]: towards the goal, and chance, by candidate and square."""
        width = view.walls.shape[2]
        down, right = view.goal // width - head // width, view.goal % width - head % width
        rows, columns = (torch.tensor(part, device=head.device) for part in (ROW_OFFSETS, COLUMN_OFFSETS))
        nearer = (down.sign()[:, None] * rows + right.sign()[:, None] * columns) > 0
        counters = (search.count.to(torch.int64)[:, None], head[:, None], torch.arange(NUM_MOVES, device=head.device))
        return draw_uniform(self.style.seed, _FORK, *counters) + 0.5 * nearer

    def _read_count(self, plain: Tensor) -> Tensor:
        return from_bits(plain[:, self.slots["count"]].mean((2, 3)) > HALF)


def _parts(search: Search) -> tuple[Tensor, ...]:
    return search.plan, search.way, search.dead, search.head, search.root, search.count


def _where(condition: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(condition.view(-1, *[1] * (new.ndim - 1)), new, old)
