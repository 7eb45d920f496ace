"""Geodesic distance and optimal moves against a plain breadth-first search, one board at a time."""

from collections import deque

import pytest
import torch

from planprobe.core.errors import ShapeError
from planprobe.core.grid import COLUMN_OFFSETS, ROW_OFFSETS
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask


def search(walls, goal):
    """Distance of every square to the goal by the book, {(row, column): moves}."""
    height, width = walls.shape
    start = divmod(goal, width)
    if walls[start]:
        return {}
    found, queue = {start: 0}, deque([start])
    while queue:
        row, column = queue.popleft()
        for down, right in zip(ROW_OFFSETS, COLUMN_OFFSETS, strict=True):
            ahead = (row + down, column + right)
            if 0 <= ahead[0] < height and 0 <= ahead[1] < width and not walls[ahead] and ahead not in found:
                found[ahead] = found[row, column] + 1
                queue.append(ahead)
    return found


def random_boards(num_levels, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    walls = torch.rand(num_levels, height, width, generator=generator) < 0.35
    return walls, torch.randint(height * width, (num_levels,), generator=generator)


@pytest.mark.parametrize("shape", [(9, 9), (5, 12), (1, 7), (3, 1)])
def test_distance_and_optimal_moves_are_those_of_a_plain_search(shape):
    walls, goals = random_boards(60, *shape)
    distance = distance_maps(walls, goals)
    optimal = optimal_action_mask(distance)
    assert distance.dtype == torch.int16
    assert optimal.shape == (60, 4, *shape)
    for level in range(60):
        expected = search(walls[level], int(goals[level]))
        for row in range(shape[0]):
            for column in range(shape[1]):
                here = expected.get((row, column), -1)
                assert distance[level, row, column] == here
                moves = [
                    here > 0 and expected.get((row + down, column + right), -9) == here - 1
                    for down, right in zip(ROW_OFFSETS, COLUMN_OFFSETS, strict=True)
                ]
                assert optimal[level, :, row, column].tolist() == moves


def test_boards_with_unreachable_pockets_and_walled_goals_are_covered():
    """The search above only means something if the random boards hold the hard cases."""
    walls, goals = random_boards(60, 9, 9)
    distance = distance_maps(walls, goals)
    goal_is_wall = walls.flatten(1).gather(1, goals[:, None]).squeeze(1)
    assert goal_is_wall.any()
    assert (distance[goal_is_wall] == -1).all()
    assert ((distance == -1) & ~walls)[~goal_is_wall].any()


def test_one_board_alone_is_the_same_board_in_a_batch():
    walls, goals = random_boards(20, 9, 9)
    together = distance_maps(walls, goals)
    for level in range(20):
        assert torch.equal(distance_maps(walls[level : level + 1], goals[level : level + 1])[0], together[level])


def test_inputs_are_left_alone():
    walls, goals = random_boards(5, 9, 9)
    before = walls.clone()
    distance_maps(walls, goals)
    assert torch.equal(walls, before)


def test_the_longest_corridor_is_walked_to_its_end():
    walls = torch.ones(1, 41, 41, dtype=torch.bool)
    walls[0, 1::2, 1:-1] = False
    walls[0, 2:-1:4, -2] = False
    walls[0, 4:-1:4, 1] = False
    distance = distance_maps(walls, torch.tensor([42]))
    assert distance.max() == (~walls).sum() - 1


def test_no_boards_give_no_maps():
    assert distance_maps(torch.zeros(0, 5, 5, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)).shape == (0, 5, 5)


@pytest.mark.parametrize("goals", [[0], [0, 25], [-1, 0]])
def test_goals_that_fit_no_board_are_refused(goals):
    with pytest.raises(ShapeError):
        distance_maps(torch.zeros(2, 5, 5, dtype=torch.bool), torch.tensor(goals))
