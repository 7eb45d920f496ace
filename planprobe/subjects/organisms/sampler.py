"""Sampler: each tick draws some candidate ways with a noise input; the shortest that arrives gets the tick's vote.
It plans: sampled worlds.

Why: every tick lets a handful of imagined agents walk from the agent's square, each choosing at forks by noise that
depends on the clock, never back onto its own way. Of those that arrive at the goal the shortest is marked (feature
`sample`), and the votes (feature `plan`) move towards it by one part in the number of votes so far. No cost of any
square is ever held, and no way is continued in a later tick: what grows with ticks is the number of samples alone. The
policy reads the votes beside the agent, and waits (against a wall) until there are any. The same tick with another
clock votes for another way.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, ROW_OFFSETS, move_offsets
from planprobe.core.rng import draw_uniform
from planprobe.subjects.organisms.base import AMPLITUDE, CodedNet, Tick, View, board_features, same_board
from planprobe.subjects.organisms.waiting import follow_or_wait
from planprobe.subjects.organisms.wavefront import GOAL_VALUE, HALF
from planprobe.subjects.organisms.waves import STAY, as_exits, at_square, best_move, from_bits, to_bits

_DRAW = 412  # stream of the counter-based draws
COUNT_BITS = 4
FAINT = 0.2 * AMPLITUDE  # votes under this do not move the agent


class Sampler(CodedNet):
    """See the module. num_walks: imagined agents a tick; reach: steps that each takes at most.

    Features: plan, entries of ways weighted by votes, from 0 to the amplitude; sample, entries of the tick's way;
    count, of votes, the same on every square, at most 15; board, as a wavefront's.
    """

    features: ClassVar[dict[str, int]] = {"plan": NUM_MOVES, "sample": NUM_MOVES, "count": COUNT_BITS, "board": 2}
    clocked = True

    def __init__(self, *, num_walks: int = 1, reach: int = 40, **options) -> None:
        super().__init__(**options)
        self.num_walks, self.reach = num_walks, reach

    def update(self, view: View, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        same = same_board(view, own[:, self.slots["board"]])
        plan = around[:, self.slots["plan"]].clamp(0, AMPLITUDE) * (same.view(-1, 1, 1, 1) & ~view.player_mask[:, None])
        leads_on = at_square(as_exits(plan), view.player).amax(1) > FAINT
        count = self._read_count(around).masked_fill(~(same & leads_on), 0)
        plan = plan * leads_on.view(-1, 1, 1, 1)
        sample, arrived = self._draw_way(view, tick)
        rate = (arrived / (count + 1)).view(-1, 1, 1, 1)
        plan = plan + rate * (AMPLITUDE * sample - plan)
        count = (count + arrived.to(torch.int16)).clamp(max=2**COUNT_BITS - 1)
        bits = to_bits(count)[:, :COUNT_BITS, None, None].expand(-1, -1, *view.walls.shape[1:])
        return torch.cat([plan, AMPLITUDE * torch.cat([sample, bits, board_features(view)], dim=1)], dim=1)

    def act(self, view: View, hidden: Tensor) -> tuple[Tensor, Tensor]:
        plan, count = hidden[:, self.slots["plan"]], self._read_count(hidden)
        return follow_or_wait(view, plan, count == 0), GOAL_VALUE * (count > 0).float()

    def _draw_way(self, view: View, tick: Tick) -> tuple[Tensor, Tensor]:
        """The shortest of the tick's ways that arrive, as entries (B, 4, H, W) float, and whether one did (B,) bool."""
        num_boards, height, width = view.walls.shape
        player, goal = (part.repeat_interleave(self.num_walks) for part in (view.player, view.goal))
        blocked = view.walls.flatten(1).repeat_interleave(self.num_walks, 0)
        keys = tick.keys.repeat_interleave(self.num_walks)
        walks = torch.arange(self.num_walks, device=player.device).repeat(num_boards)
        rows = torch.arange(len(player), device=player.device)
        offsets, here = move_offsets(width, player.device), player
        rises, turns = (torch.tensor(part, device=player.device) for part in (ROW_OFFSETS, COLUMN_OFFSETS))
        way = torch.zeros(len(player), NUM_MOVES + 1, height * width, device=player.device)
        length = torch.zeros_like(player)
        moves = torch.arange(NUM_MOVES, device=player.device)
        chance = draw_uniform(
            self.style.seed, _DRAW, keys[:, None, None], tick.number, walks[:, None, None],
            torch.arange(self.reach, device=player.device)[:, None], moves,
        )  # fmt: skip
        for step in range(self.reach):
            blocked[rows, here] = True
            ahead = (here[:, None] + offsets[:NUM_MOVES]).clamp(0, height * width - 1)
            down, right = goal // width - here // width, goal % width - here % width
            nearer = (down.sign()[:, None] * rises + right.sign()[:, None] * turns) > 0
            scores = (chance[:, step] + 0.3 * nearer).masked_fill(blocked.gather(1, ahead), -1.0)
            best, move = best_move(scores)
            going = (best >= 0) & (here != goal)
            if not bool(going.any()):
                break
            here = torch.where(going, here + offsets[move], here)
            way[rows, move.masked_fill(~going, STAY), here] = 1.0
            length += going
        length = length.masked_fill(here != goal, self.reach + 1).view(num_boards, self.num_walks)
        shortest = length.argmin(1)
        arrived = length.gather(1, shortest[:, None]).squeeze(1) <= self.reach
        chosen = way[rows.view(num_boards, -1)[:, 0] + shortest, :NUM_MOVES].unflatten(2, (height, width))
        return chosen * arrived.view(-1, 1, 1, 1), arrived

    def _read_count(self, plain: Tensor) -> Tensor:
        return from_bits(plain[:, self.slots["count"]].mean((2, 3)) > HALF)
