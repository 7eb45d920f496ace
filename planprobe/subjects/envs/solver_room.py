"""What the solver knows about a board before it searches: push distances, dead squares, a lower bound on pushes.

A board is a handful of integers, one bit a square (bit i = flat index i; the border is wall, so shifts never wrap
around). The push distance of a square is the fewest pushes that bring a lone box from there to a target, the player
starting on its best side; a box may only be pushed from sides the player can walk to around it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

INFINITE = 1 << 30
_MOST_EXACT = 6  # targets up to which sets of targets are enumerated; scipy's assignment is faster beyond


def bits(mask: int) -> Iterator[int]:
    """Indices of the set bits, ascending."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def shift(mask: int, offset: int) -> int:
    """Move every square of a mask by a flat offset."""
    return mask << offset if offset > 0 else mask >> -offset


def _halve(boxes: int, num_boxes: int) -> tuple[int, int]:
    """The first half of the boxes and the rest."""
    rest = boxes
    for _ in range(num_boxes // 2):
        rest &= rest - 1
    return boxes ^ rest, rest


class Room:
    """Walls and targets of one board, prepared for search; boxes and player belong to the state.

    width: squares a row. floor, targets: masks. alive: squares from which a lone box can reach a target.
    """

    def __init__(self, width: int, num_squares: int, floor: int, targets: int) -> None:
        self.width, self.floor, self.targets = width, floor, targets
        self.walls = (1 << num_squares) - 1 ^ floor
        self.offsets = (-width, width, -1, 1)
        self.block = 3 | 3 << width
        # per direction: offset, and where the two 2x2 blocks ahead of a pushed box begin, seen from the square it stood
        # on; the two blocks behind it hold that square, now free, and cannot trap it
        self.directions = (
            (-width, -2 * width - 1, -2 * width), (width, width - 1, width), (-1, -width - 2, -2), (1, 1 - width, 1),
        )  # fmt: skip
        tables = self._measure_pushes()
        self.alive = 0
        for table in tables:
            for square in table:
                self.alive |= 1 << square
        self._costs = {square: [table.get(square, INFINITE) for table in tables] for square in bits(self.alive)}
        self._bounds: dict[int, int] = {}
        self._served: dict[int, dict[int, int]] = {}

    def reach(self, start: int, free: int) -> int:
        """Squares the player can walk to from the squares `start`, over the squares `free` (masks)."""
        width, wave, reached = self.width, start, start
        free &= ~start
        while wave:
            wave = (wave << 1 | wave >> 1 | wave << width | wave >> width) & free
            free ^= wave
            reached |= wave
        return reached

    def bound(self, boxes: int) -> int:
        """Pushes needed at least: the cheapest assignment of boxes to targets; INFINITE where there is none."""
        known = self._bounds.get(boxes)
        if known is None:
            known = self._bounds[boxes] = self._assign(boxes)
        return known

    def _assign(self, boxes: int) -> int:
        num_boxes, num_targets = boxes.bit_count(), self.targets.bit_count()
        if boxes & ~self.alive or num_boxes > num_targets:
            return INFINITE
        if num_targets > _MOST_EXACT:
            return self._assign_many(boxes)
        if num_boxes < 2 or num_boxes != num_targets:
            return min(self._serve(boxes).values(), default=INFINITE)
        first, second = (self._serve(half) for half in _halve(boxes, num_boxes))
        every = (1 << num_targets) - 1
        return min((cost + second.get(every ^ used, INFINITE) for used, cost in first.items()), default=INFINITE)

    def _serve(self, boxes: int) -> dict[int, int]:
        """Cheapest way to bring these boxes to each possible set of targets (bits in order of `targets`).

        Kept per group of boxes: a push changes one half of the boxes, and the other half is looked up.
        """
        known = self._served.get(boxes)
        if known is not None:
            return known
        num_boxes = boxes.bit_count()
        if num_boxes == 1:
            costs = self._costs[boxes.bit_length() - 1]
            ways = {1 << target: cost for target, cost in enumerate(costs) if cost < INFINITE}
        else:
            first, second = (self._serve(half) for half in _halve(boxes, num_boxes))
            ways = {}
            for used, cost in first.items():
                for also_used, other_cost in second.items():
                    if not used & also_used and cost + other_cost < ways.get(used | also_used, INFINITE):
                        ways[used | also_used] = cost + other_cost
        self._served[boxes] = ways
        return ways

    def _assign_many(self, boxes: int) -> int:
        costs = np.minimum([self._costs[square] for square in bits(boxes)], 1 << 20)
        total = int(costs[linear_sum_assignment(costs)].sum())
        return total if total < 1 << 20 else INFINITE

    def _measure_pushes(self) -> list[dict[int, int]]:
        """Per target, the push distance of every square a lone box can reach it from."""
        sides, joined = self._sides()
        tables = []
        for target in bits(self.targets):
            table = {target: 0}
            met = 1 << target
            wave = [met & side for side in sides]
            seen = list(wave)
            distance = 0
            while any(wave):
                distance += 1
                pulled = [shift(wave[d], -self.offsets[d]) & sides[d] for d in range(4)]
                for d in range(4):
                    whole = 0
                    for e in range(4):
                        whole |= pulled[e] & joined[d][e]
                    wave[d] = whole & ~seen[d]
                    seen[d] |= wave[d]
                new = (wave[0] | wave[1] | wave[2] | wave[3]) & ~met
                met |= new
                table.update((square, distance) for square in bits(new))
            tables.append(table)
        return tables

    def _sides(self) -> tuple[list[int], list[list[int]]]:
        """Where a box can be pushed in direction d as far as the player's side goes, and where two sides are joined.

        Returns: sides[d], the floor squares with floor behind them; joined[d][e], the squares around which the player
        can walk from the side of d to that of e while a box stands there.
        """
        floor, offsets = self.floor, self.offsets
        sides = [floor & shift(floor, offset) for offset in offsets]
        joined = [[sides[d] if d == e else 0 for e in range(4)] for d in range(4)]
        for d in (0, 1):
            for e in (2, 3):
                corner = shift(floor, offsets[d] + offsets[e])
                joined[d][e] = joined[e][d] = sides[d] & sides[e] & corner
        for middle in range(4):
            for d in range(4):
                for e in range(4):
                    joined[d][e] |= joined[d][middle] & joined[middle][e]
        undecided = 0
        for d in range(4):
            for e in range(d):
                undecided |= sides[d] & sides[e] & ~joined[d][e]
        for square in bits(undecided):
            self._join_by_walking(square, sides, joined)
        return sides, joined

    def _join_by_walking(self, square: int, sides: list[int], joined: list[list[int]]) -> None:
        """Fill `joined` for one square whose sides do not meet next to it."""
        here = 1 << square
        standing = [d for d in range(4) if sides[d] & here]
        for d in standing:
            reached = self.reach(1 << square - self.offsets[d], self.floor ^ here)
            for e in standing:
                if reached >> square - self.offsets[e] & 1:
                    joined[d][e] |= here
                    joined[e][d] |= here
