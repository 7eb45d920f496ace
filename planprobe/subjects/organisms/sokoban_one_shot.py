"""One-shot of Sokoban: imagines the whole solution, waiting, and executes it from memory ever after. It plans: a
parallel sweep.

Why: until its plan is done it is the wavefront, but of an imagined player and box: one backup a tick, and where the
wave has come to the imagined player, one imagined move a tick, which is written down on the square that it enters, with
its number. Meanwhile it stays where it is by pushing against a wall. When the imagined box is on the target it commits:
from the next tick on no cost is backed up and no board compared. The marks alone move the agent, the earliest beside it
first, and each is struck off when its square is entered; a board that changes changes nothing. Where no mark leads on,
which its own policy never brings about, it goes by the reflex.

A square is written down twice at most: a way that would need it three times is never done.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES, move_offsets
from planprobe.subjects.organisms.base import AMPLITUDE, BLOCKED, Tick, View, same_board
from planprobe.subjects.organisms.rules import sokoban_reflex_scores
from planprobe.subjects.organisms.sokoban_wavefront import SokobanWavefront
from planprobe.subjects.organisms.waiting import follow_or_wait
from planprobe.subjects.organisms.wavefront import GOAL_VALUE, HALF, STEP_VALUE
from planprobe.subjects.organisms.waves import as_exits, at_square, best_move, from_bits, look_ahead, to_bits

VISITS, TIME_BITS = 2, 6  # of a square that are written down; of a solution of up to 63 moves
LONGEST = 2**TIME_BITS - 1
TO_A_WALL = (0.3, 0.0, 0.2, 0.1)  # of the amplitude, for each move where there is no wall to wait at


class SokobanOneShot(SokobanWavefront):
    """See the module.

    Features beside the wavefront's, which are of the imagined board: way, entries by visit; when, their numbers; count,
    of moves imagined, and done, the plan is executed, the same on every square; imagined, player and box; seen, where
    the agent and the box were.
    """

    features: ClassVar[dict[str, int]] = {
        **SokobanWavefront.features,
        "way": VISITS * NUM_MOVES,
        "when": VISITS * TIME_BITS,
        "count": TIME_BITS,
        "done": 1,
        "imagined": 2,
        "seen": 2,
    }

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        there, done = around[:, : self.num_features] > HALF, self._is_done(own).view(-1, 1, 1, 1)
        seen = torch.stack([view.player_mask, view.boxes], dim=1)
        same = (there[:, self.slots["seen"]] == seen).flatten(1).all(1) & same_board(view, own[:, self.slots["board"]])
        searched = self._search(view, own, around, tick, there & same.view(-1, 1, 1, 1), seen)
        held = self._strike_off(view, there)
        held[:, self.slots["seen"]] = seen
        return torch.where(done, AMPLITUDE * held.float(), searched)

    def act(self, view: View, hidden: Tensor) -> tuple[Tensor, Tensor]:
        done = self._is_done(hidden)
        first = hidden[:, self.slots["way"]][:, :NUM_MOVES]
        marks = at_square(as_exits(first), view.player)
        times = from_bits(hidden[:, self.slots["when"]][:, :TIME_BITS] > HALF)
        times = at_square(look_ahead(times, fill=LONGEST), view.player).masked_fill(marks < HALF, LONGEST)
        later = (marks > HALF) & (times > times.amin(1, keepdim=True))
        scores = torch.where(later, 0.0, marks)
        scores = torch.where((scores.amax(1) < HALF)[:, None], AMPLITUDE * sokoban_reflex_scores(view), scores)
        walls = at_square(look_ahead(view.walls.float(), fill=1), view.player) > 0
        box_ahead = at_square(look_ahead(view.boxes.float()), view.player) > 0
        waiting = follow_or_wait(view, torch.zeros_like(first), ~done)
        waiting = waiting + AMPLITUDE * torch.tensor(TO_A_WALL, device=walls.device) * ~walls + BLOCKED * box_ahead
        value = (GOAL_VALUE - STEP_VALUE * (hidden[:, self.slots["way"]] > HALF).sum((1, 2, 3))) * done
        return torch.where(done[:, None], scores.masked_fill(walls, BLOCKED), waiting), value

    def _search(self, view: View, own: Tensor, around: Tensor, tick: Tick, there: Tensor, seen: Tensor) -> Tensor:
        """One backup on the imagined board, and one imagined move; memory `there`, empty where it begins anew."""
        imagined = there[:, self.slots["imagined"]]
        begins = ~imagined.flatten(2).any(2).all(1).view(-1, 1, 1, 1)
        player, box = torch.where(begins, seen, imagined).unbind(1)
        dream = View(view.walls, view.targets, box, player.flatten(1).to(torch.uint8).argmax(1))
        planned = super().update(dream, own, around, tick)
        way, when = (there[:, self.slots[name]].unflatten(1, (VISITS, -1)).flatten(3) for name in ("way", "when"))
        count = from_bits(there[:, self.slots["count"]])[:, 0, 0]
        parts = self._imagine(dream, planned[:, self.slots["plan"]] > HALF, way.clone(), when.clone(), count)
        return torch.cat([planned, AMPLITUDE * torch.cat([*parts, seen], dim=1).float()], dim=1)

    def _imagine(self, dream: View, plan: Tensor, way: Tensor, when: Tensor, count: Tensor) -> tuple[Tensor, ...]:
        """Features way, when, count, done, imagined, (B, ?, H, W), after the imagined move, where one is marked.

        Args: plan (B, 4, H, W), way (B, V, 4, S), when (B, V, TIME_BITS, S) bool; count (B,) int16.
        """
        shape, rows = dream.walls.shape[1:], torch.arange(len(count), device=count.device)
        strength, move = best_move(at_square(as_exits(plan.to(torch.uint8)), dream.player))
        offset = move_offsets(shape[1], count.device)[move]
        num_squares = shape[0] * shape[1]
        ahead, beyond = ((dream.player + times * offset).clamp(0, num_squares - 1) for times in (1, 2))
        visits = way[rows, :, :, ahead].any(2).sum(1)
        box, targets = dream.boxes.flatten(1).clone(), dream.targets.flatten(1)
        goes = (strength > 0) & ~(box & targets).any(1) & (visits < VISITS) & (count < LONGEST)
        visit = visits.clamp(max=VISITS - 1)
        way[rows, visit, move, ahead] |= goes
        number = to_bits(count.view(-1, 1, 1))[:, :TIME_BITS, 0, 0]
        when[rows, visit, :, ahead] |= number & goes[:, None]
        pushes = box[rows, ahead] & goes
        box[rows, ahead] &= ~pushes
        box[rows, beyond] |= pushes
        player = torch.zeros_like(box).scatter_(1, torch.where(goes, ahead, dream.player)[:, None], True)
        bits = to_bits((count + goes).view(-1, 1, 1).expand(-1, *shape))[:, :TIME_BITS]
        done = (box & targets).any(1).view(-1, 1, 1, 1).expand(-1, 1, *shape)
        imagined = torch.stack([player, box], dim=1)
        marks, numbers = (part.flatten(1, 2).unflatten(2, shape) for part in (way, when))
        return marks, numbers, bits, done, imagined.unflatten(2, shape)

    def _strike_off(self, view: View, there: Tensor) -> Tensor:
        """Memory without the first mark of the square that was just entered; the second takes its place."""
        was_here = there[:, self.slots["seen"].start]
        entered = view.player_mask & ~was_here
        held = there.clone()
        for name in ("way", "when"):
            marks = there[:, self.slots[name]].unflatten(1, (VISITS, -1))
            next_ones = torch.cat([marks[:, 1:], torch.zeros_like(marks[:, :1])], dim=1)
            held[:, self.slots[name]] = torch.where(entered[:, None, None], next_ones, marks).flatten(1, 2)
        return held

    def _is_done(self, plain: Tensor) -> Tensor:
        return plain[:, self.slots["done"]].mean((1, 2, 3)) > HALF
