"""Who walks straight for the goal: two mazes by hand, and the two walkers told from each other."""

import torch

from planprobe.core.grid import NUM_MOVES, OPPOSITE, move_offsets
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.references.straight_walks import luck_suffices, straight_moves, walk_straight


def boards(*walls):
    """5 x 5 boards whose inner 3 x 3 squares are floor but for `walls`."""
    plain = torch.ones(len(walls), 5, 5, dtype=torch.bool)
    plain[:, 1:4, 1:4] = False
    for board, squares in zip(plain, walls, strict=True):
        board.view(-1)[list(squares)] = True
    return plain


def test_straight_for_the_goal_by_hand():
    ring, shut_off = (12,), (7, 12, 16, 17)  # there and back for ever
    walls = boards(ring, shut_off)
    assert walk_straight(walls, torch.tensor([6, 6]), torch.tensor([18, 18]), 20).tolist() == [4, -1]
    assert walk_straight(walls, torch.tensor([6, 6]), torch.tensor([18, 18]), 3).tolist() == [-1, -1]


def test_one_goes_along_the_longer_axis_first_and_the_other_along_the_shorter_one():
    walls = boards((12, 17), (8, 12))  # the way down, or the way to the right, is a dead end
    starts, goals = torch.tensor([6, 6]), torch.tensor([18, 18])  # down counts as longer where both are as long
    assert straight_moves(walls, starts, goals, 20).tolist() == [
        [-1, 4],
        [4, 6],
    ]  # one turns back for good, the other in time
    alike = straight_moves(boards(()), torch.tensor([6]), torch.tensor([17]), 20)
    assert alike.tolist() == [[3], [3]]


def lucky(walls, square, goal, back, to_go):
    """Twin of `luck_suffices` on one board (9, 9), move by move; to_go: moves that are left from each square."""
    if square == goal:
        return True
    offsets, crow = move_offsets(9).tolist(), lambda at: abs(at // 9 - goal // 9) + abs(at % 9 - goal % 9)
    ways = [d for d in range(NUM_MOVES) if not bool(walls.view(-1)[square + offsets[d]]) and d != back]
    ways = [d for d in ways if crow(square + offsets[d]) < crow(square)] or ways
    onward = [d for d in ways if to_go[square + offsets[d]] == to_go[square] - 1]
    return any(lucky(walls, square + offsets[d], goal, OPPOSITE[d], to_go) for d in onward)


def test_luck_suffices_where_some_walk_by_the_rule_is_shortest():
    num, squares = 400, torch.arange(81)
    odd = (squares // 9 % 2) + (squares % 9 % 2)  # 2: a cell of a maze, 1: between two cells, 0: between four
    cells = squares[odd == 2]
    inside = (squares // 9 % 8 > 0) & (squares % 9 % 8 > 0)
    opened = draw_uniform(3, torch.arange(num)[:, None], squares) < 0.5
    walls = ~(inside & ((odd == 2) | ((odd == 1) & opened)))
    start, goal = (cells[draw_below(16, 4, part, torch.arange(num))] for part in (0, 1))
    move = draw_below(5, 5, torch.arange(num))  # by which it came, 4 = it stood still
    before = start - move_offsets(9)[move]
    maps = distance_maps(walls.view(-1, 9, 9), goal).flatten(1)
    away = maps.gather(1, start[:, None]).squeeze(1)
    kept = ((away > 0) & ~walls.gather(1, before[:, None]).squeeze(1)).nonzero().squeeze(1)
    known = [(*OPPOSITE, None)[k] for k in move.tolist()]
    expected = [
        any(lucky(walls[i], int(start[i]), int(goal[i]), back, maps[i].tolist()) for back in (known[i], None))
        for i in kept.tolist()
    ]
    assert luck_suffices(walls.view(-1, 9, 9)[kept], start[kept], goal[kept], before[kept]).tolist() == expected
    assert 10 < sum(expected) < len(expected)
