"""The arithmetic of Sokoban generation: carve rooms, place targets, play backwards, on thousands of boards at once.

Boards are cell-major here, (cells, N), so that a neighbour is a contiguous slice, and flood fills run on 64 boards per
machine word. Every array says so in its docstring; `generate_sokoban` turns the result into a `LevelSet`.
"""

from __future__ import annotations

import numpy as np

_CHANGE_DIRECTION = 0.35
_STEPS_PER_SIDE = 1.7
_MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
# The five stamps of the carving walker, each as four (row, column) offsets; the centre is repeated as padding.
_STAMPS = np.array(
    [
        [(0, 0), (0, -1), (0, 1), (0, 0)],
        [(0, 0), (-1, 0), (1, 0), (0, 0)],
        [(0, 0), (0, -1), (1, 0), (0, 0)],
        [(0, 0), (0, -1), (1, 0), (1, -1)],
        [(0, 0), (0, 1), (1, 0), (0, 0)],
    ]
)


def carve_rooms(num_rooms: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Connected rooms, (size * size, num_rooms) bool, True = wall; the outer border is always wall.

    A walker stamps small shapes for 1.7 steps per unit of width and height. Every stamp holds its own centre, and
    centres follow each other, hence one connected room.
    """
    walls = np.ones((size * size, num_rooms), dtype=bool)
    columns = np.arange(num_rooms)
    place = rng.integers(1, size - 1, size=(2, num_rooms))
    direction = rng.integers(4, size=num_rooms)
    for _ in range(int(_STEPS_PER_SIDE * 2 * size)):
        turn = rng.random(num_rooms) < _CHANGE_DIRECTION
        direction = np.where(turn, rng.integers(4, size=num_rooms), direction)
        place = np.clip(place + _MOVES[direction].T, 1, size - 2)
        stamp = _STAMPS[rng.integers(len(_STAMPS), size=num_rooms)]
        for square in range(stamp.shape[1]):
            row, column = place + stamp[:, square].T
            walls[row * size + column, columns] = False
    grid = walls.reshape(size, size, num_rooms)
    grid[[0, -1]] = True
    grid[:, [0, -1]] = True
    return walls


def place_targets(walls: np.ndarray, boxes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct random floor squares: targets (boxes, N), a player (N,), and whether the room is large enough (N,)."""
    order = rng.random(walls.shape, dtype=np.float32)
    order[walls] = 2.0
    squares = np.argpartition(order, boxes, axis=0)[: boxes + 1]
    squares = np.take_along_axis(squares, np.argsort(np.take_along_axis(order, squares, 0), axis=0), 0)
    return squares[:boxes], squares[boxes], (~walls).sum(0) >= 2 * boxes + 1


def play_backwards(
    walls: np.ndarray, targets: np.ndarray, players: np.ndarray, num_pulls: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pull random reachable boxes `num_pulls` times; the best state seen: boxes (K, N), player (N,), score (N,).

    The player may walk anywhere between two pulls. Score 0 = no acceptable state was met.
    """
    size = int(len(walls) ** 0.5)
    columns = np.arange(walls.shape[1])
    offsets = np.array([-size, size, -1, 1])[None, :, None]
    free = ~walls
    boxes, players = targets.copy(), players.copy()
    free[boxes, columns] = False
    num_boxes = len(boxes)
    switches = np.zeros(len(columns), dtype=np.int64)
    last_box = np.full(len(columns), -1)
    best_boxes, best_players, best_scores = boxes.copy(), players.copy(), np.zeros(len(columns), dtype=np.int64)
    for _ in range(num_pulls):
        reached = flood(free, players, size)
        ahead = boxes[:, None] + offsets  # (K, 4, N): where the player stands, and where the box goes
        beyond = np.clip(ahead + offsets, 0, len(walls) - 1)  # where the player ends; a clipped one is behind a wall
        possible = reached[ahead, columns] & free[beyond, columns]
        draw = np.where(possible, rng.random(possible.shape, dtype=np.float32), -1).reshape(num_boxes * 4, -1)
        choice = draw.argmax(0)
        moved = np.flatnonzero(draw[choice, columns] >= 0)
        box_id, direction = np.divmod(choice[moved], 4)
        free[boxes[box_id, moved], moved] = True
        boxes[box_id, moved] = ahead[box_id, direction, moved]
        players[moved] = beyond[box_id, direction, moved]
        free[boxes[box_id, moved], moved] = False
        switches[moved] += box_id != last_box[moved]
        last_box[moved] = box_id
        scores = _difficulty(boxes, targets, switches, size)
        better = scores > best_scores
        best_boxes[:, better], best_players[better] = boxes[:, better], players[better]
        best_scores[better] = scores[better]
    return best_boxes, best_players, best_scores


def _difficulty(boxes: np.ndarray, targets: np.ndarray, switches: np.ndarray, size: int) -> np.ndarray:
    """Displacement of every box from its own target x number of box runs, (N,); 0 where a box stands on any target."""
    rows, columns = np.divmod(boxes, size)
    target_rows, target_columns = np.divmod(targets, size)
    displacement = (abs(rows - target_rows) + abs(columns - target_columns)).sum(0)
    on_target = (boxes[:, None] == targets[None]).any((0, 1))
    return np.where(on_target, 0, displacement * switches)


def draw_starts(walls: np.ndarray, boxes: np.ndarray, players: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniformly random square of the player's region, (N,)."""
    free = ~walls
    free[boxes, np.arange(walls.shape[1])] = False
    reached = flood(free, players, int(len(walls) ** 0.5))
    return np.where(reached, rng.random(walls.shape, dtype=np.float32), -1).argmax(0)


def flood(free: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """Squares that can be walked to from each start: (cells, N) bool from free (cells, N) bool and starts (N,).

    N must be a multiple of 64: levels are packed 64 to a word. Directional sweeps reach the far side of a room in one
    pass, so that few rounds are needed however large the board.
    """
    mask = np.zeros_like(free)
    mask[starts, np.arange(free.shape[1])] = True
    shape = (size, size, free.shape[1] // 64)
    reached = np.packbits(mask, axis=1).view(np.uint64).reshape(shape)
    open_squares = np.packbits(free, axis=1).view(np.uint64).reshape(shape)
    reached_by_column, open_by_column = reached.swapaxes(0, 1), open_squares.swapaxes(0, 1)
    while True:
        before = reached.copy()
        for region, allowed in ((reached, open_squares), (reached_by_column, open_by_column)):
            for line in range(1, size - 1):
                region[line] |= region[line - 1] & allowed[line]
            for line in range(size - 2, 0, -1):
                region[line] |= region[line + 1] & allowed[line]
        if np.array_equal(before, reached):
            return np.unpackbits(reached.reshape(len(free), -1).view(np.uint8), axis=1).view(bool)
