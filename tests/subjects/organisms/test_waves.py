"""Moves on whole boards, against loops over squares."""

import pytest
import torch

from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, OPPOSITE, ROW_OFFSETS
from planprobe.subjects.organisms.waves import FAR, STAY, as_entries, as_exits, look_ahead, walk

HEIGHT, WIDTH = 4, 5


def ahead(plane, row, column, move, fill):
    """What lies one move ahead of a square of one plane (H, W)."""
    row, column = row + ROW_OFFSETS[move], column + COLUMN_OFFSETS[move]
    inside = 0 <= row < HEIGHT and 0 <= column < WIDTH
    return plane[row][column] if inside else fill


def each_square(planes, moves, fill):
    """planes (B, 4, H, W) with each plane read ahead by its move, as lists."""
    return [
        [
            [[ahead(plane, row, column, move, fill) for column in range(WIDTH)] for row in range(HEIGHT)]
            for plane, move in zip(board, moves, strict=True)
        ]
        for board in planes.tolist()
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int16])
def test_what_lies_ahead(dtype):
    values = torch.randint(0, 2 if dtype == torch.bool else 9, (3, NUM_MOVES, HEIGHT, WIDTH)).to(dtype)
    fill = True if dtype == torch.bool else FAR
    one = values[:, 0]
    same_four = one[:, None].expand(-1, NUM_MOVES, -1, -1)
    assert look_ahead(one, fill=fill).tolist() == each_square(same_four, range(NUM_MOVES), fill)
    assert as_exits(values).tolist() == each_square(values, range(NUM_MOVES), 0)
    assert as_entries(values).tolist() == each_square(values, OPPOSITE, 0)
    assert as_exits(values).dtype == dtype


def test_the_squares_on_a_way_are_those_of_a_walk():
    """Random fields of moves: ways that end, ways that go round, and one that visits every square."""
    generator = torch.Generator().manual_seed(0)
    moves = torch.randint(0, NUM_MOVES + 1, (60, HEIGHT, WIDTH), generator=generator)
    moves[:20] = torch.where(torch.rand(20, HEIGHT, WIDTH, generator=generator) < 0.5, moves[:1], moves[:20])
    moves[:, 0][moves[:, 0] == 0] = STAY
    moves[:, -1][moves[:, -1] == 1] = STAY
    moves[:, :, 0][moves[:, :, 0] == 2] = STAY
    moves[:, :, -1][moves[:, :, -1] == 3] = STAY
    snake = torch.tensor([[3, 3, 3, 3, 1], [1, 2, 2, 2, 2], [3, 3, 3, 3, 1], [STAY, 2, 2, 2, 2]])
    moves = torch.cat([moves, snake[None]])
    starts = torch.randint(0, HEIGHT * WIDTH, (len(moves),), generator=generator)
    starts[-1] = 0
    visited = walk(moves, starts)
    for board in range(len(moves)):
        here, seen = int(starts[board]), set()
        while here not in seen:
            seen.add(here)
            move = int(moves[board].flatten()[here])
            here += 0 if move == STAY else ROW_OFFSETS[move] * WIDTH + COLUMN_OFFSETS[move]
        assert set(visited[board].flatten().nonzero().flatten().tolist()) == seen
    assert visited[-1].all()
