"""The concept that is no plan: on which side of a square a wall stands."""

from functools import partial

import pytest
import torch

from planprobe.core.errors import ShapeError
from planprobe.core.levels import LevelSet
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.steering.directions import wall_directions, wall_sides
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import NetRecipe


def board(*rows):
    return torch.tensor([[[int(square == "#") for square in row] for row in rows]], dtype=torch.uint8)


def test_sides_worked_by_hand():
    sides = wall_sides(board("#####", "#   #", "#   #", "#   #", "#####"))[0]
    assert sides[2, 2] == 0
    assert (sides[1, 2], sides[3, 2], sides[2, 1], sides[2, 3]) == (1, 2, 3, 4)
    assert sides[1, 1] in (1, 3)
    assert (sides[0] == -1).all()


def test_no_side_goes_before_another():
    corners = wall_sides(board("####", "#  #", "#  #", "####").expand(400, -1, -1))[:, 1, 1]
    up = (corners == 1).float().mean()
    assert set(corners.tolist()) == {1, 3}
    assert 0.4 < float(up) < 0.6


@pytest.fixture(scope="module")
def opened():
    torch.manual_seed(0)
    make_env = partial(Maze, autoreset=False)
    levels = generate_mazes(40, size=9, braid=(0.3, 0.5), seed=0)
    net = make_net_for(NetRecipe(channels=12, num_ticks=2, pool_and_inject=False), make_env(levels[:1], 1))
    return open_policy(net), make_env, levels


def test_even_a_random_net_codes_walls(opened):
    policy, make_env, levels = opened
    vectors = wall_directions(policy, make_env, levels, site="ticks.*.0.hook_c")
    assert vectors.shape == (5, 12)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    assert float((vectors[1:] @ vectors[1:].T).fill_diagonal_(-1).max()) < 0.95  # sides are told apart


def test_levels_without_a_square_of_each_class_are_refused(opened):
    policy, make_env, _ = opened
    corridor = board("#########", *["##  #####"] * 7, "#########")
    with pytest.raises(ShapeError, match="every class"):
        wall_directions(policy, make_env, LevelSet(corridor, torch.tensor([11])), site="ticks.*.0.hook_c")
