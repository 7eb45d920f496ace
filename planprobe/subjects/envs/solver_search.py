"""The search under `solver`: A* over pushes.

Between two pushes the player only walks, so a state is what a push leaves behind: the boxes, and the square the player
stands on. Its successors are all pushes the player can walk to; one flood fill finds them together with their walking
distances. A push that can never be made good is not made: onto a square from which no target can be reached, or into a
2x2 block of boxes and walls. States of equal estimated cost wait in one bucket, last in first out: no heap is needed,
and of equals the one nearest to its goal tends to come first. The bound may be inconsistent (it takes the best side of
every box), hence states are expanded again when a cheaper way to them turns up.
"""

from __future__ import annotations

from typing import NamedTuple

from planprobe.subjects.envs.solver_room import INFINITE, Room

SQUARE_BITS = 10  # a state is boxes << SQUARE_BITS | player, so boards have at most 1024 squares
_SQUARE_MASK = (1 << SQUARE_BITS) - 1


class SearchResult(NamedTuple):
    """How a search ended.

    states: (boxes, player) at the start and after each push, or None where no solution was found.
    exhausted: everything within `max_cost` was searched; without a solution there is none.
    """

    states: list[tuple[int, int]] | None
    num_nodes: int
    exhausted: bool


def search(
    room: Room, boxes: int, player: int, *, count_walking: bool, max_nodes: int, max_cost: int = INFINITE
) -> SearchResult:
    """Find a cheapest solution.

    Args:
        boxes, player: mask and flat square of the start.
        count_walking: cost = all moves; otherwise cost = pushes, and states that differ by a walk are one.
        max_nodes: states to expand before giving up.
        max_cost: ignore dearer solutions.
    """
    unplaced = ~room.targets
    start = boxes << SQUARE_BITS | player
    reached_by: dict[int, tuple[int, int]] = {start: (0, -1)}  # state -> its cost, and the state before
    expanded: dict[int, int] = {}
    total = last = room.bound(boxes)
    if total > max_cost or total == INFINITE:
        return SearchResult(None, 0, True)
    buckets: list[list[tuple[int, int]]] = [[] for _ in range(total)] + [[(0, start)]]
    num_nodes = 0
    while total <= last:
        if not buckets[total]:
            total += 1
            continue
        cost, state = buckets[total].pop()
        boxes, player = state >> SQUARE_BITS, state & _SQUARE_MASK
        if not boxes & unplaced:
            return SearchResult(_trace(reached_by, state), num_nodes, True)
        wave, place = 1 << player, state
        if not count_walking:
            wave = room.reach(wave, room.floor & ~boxes)
            place = boxes << SQUARE_BITS | (wave & -wave).bit_length()
        if expanded.get(place, INFINITE) <= cost:
            continue
        if num_nodes == max_nodes:
            return SearchResult(None, num_nodes, False)
        expanded[place] = cost
        num_nodes += 1
        for steps, child in find_pushes(room, boxes, wave):
            new_cost = cost + steps
            known = reached_by.get(child)
            if known is not None and known[0] <= new_cost:
                continue
            estimate = max(total, new_cost + room.bound(child >> SQUARE_BITS))
            if estimate > max_cost or estimate >= INFINITE:
                continue
            reached_by[child] = (new_cost, state)
            while last < estimate:
                buckets.append([])
                last += 1
            buckets[estimate].append((new_cost, child))
    return SearchResult(None, num_nodes, True)


def find_pushes(room: Room, boxes: int, wave: int) -> list[tuple[int, int]]:
    """Every sensible next push: (moves it takes, walking included; the state after it).

    wave: where the player is, as a mask; several squares mean that walking among them is free.
    """
    width, targets, walls, block = room.width, room.targets, room.walls, room.block
    free = room.floor & ~boxes
    landing = room.alive & ~boxes
    by_direction = (
        (boxes & landing << width) << width & free,
        (boxes & landing >> width) >> width & free,
        (boxes & landing << 1) << 1 & free,
        (boxes & landing >> 1) >> 1 & free,
    )
    stands = by_direction[0] | by_direction[1] | by_direction[2] | by_direction[3]
    free &= ~wave
    steps = 1
    pushes = []
    while wave and stands:
        hits = wave & stands
        if hits:
            stands ^= hits
            for standing, (offset, corner, other_corner) in zip(by_direction, room.directions, strict=True):
                standing &= hits
                while standing:
                    square = standing.bit_length() - 1
                    standing ^= 1 << square
                    square += offset
                    moved = boxes ^ (1 << square | 1 << square + offset)
                    solid = walls | moved
                    ahead, other_ahead = block << square + corner, block << square + other_corner
                    if ahead & solid == ahead and ahead & moved & ~targets:
                        continue
                    if other_ahead & solid == other_ahead and other_ahead & moved & ~targets:
                        continue
                    pushes.append((steps, moved << SQUARE_BITS | square))
        wave = (wave << 1 | wave >> 1 | wave << width | wave >> width) & free
        free ^= wave
        steps += 1
    return pushes


def _trace(reached_by: dict[int, tuple[int, int]], state: int) -> list[tuple[int, int]]:
    """The states from the start to `state`."""
    states = []
    while state != -1:
        states.append((state >> SQUARE_BITS, state & _SQUARE_MASK))
        state = reached_by[state][1]
    return states[::-1]
