"""Who walks straight for the goal: two mazes by hand, and the two walkers told from each other."""

import torch

from planprobe.subjects.references.straight_walks import straight_moves, walk_straight


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
