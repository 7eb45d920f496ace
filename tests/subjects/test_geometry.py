"""Static geometry against distances counted by hand and by one search a target."""

import torch

from planprobe.core.grid import TARGET, WALL
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.geometry import observation_geometry, static_geometry, target_distances
from planprobe.subjects.envs.level_text import levels_from_text
from planprobe.subjects.envs.maze import Maze

UP, DOWN, LEFT, RIGHT = range(4)


def test_arrows_point_to_the_nearest_target():
    levels = levels_from_text("########\n#.    .#\n#@$$   #\n########", "drawn")[0]
    planes = static_geometry(levels.boards)[0]
    assert planes.shape == (5, 4, 8)
    arrows = planes[:4, 1].T.tolist()
    assert arrows[2] == [0, 0, 1, 0]  # one step right of the left target
    assert arrows[5] == [0, 0, 0, 1]
    assert arrows[1] == [0, 0, 0, 0]  # on a target
    assert planes[:4, 2, 3].tolist() == [1, 0, 1, 0]  # two ways are as good
    assert planes[4, 2, 3] * 8 == 3


def test_the_nearest_of_several_targets_by_one_search_each():
    levels = generate_sokoban(20, size=7, num_boxes=(1, 3), seed=1)
    found = target_distances(levels.boards)
    assert {int(n) for n in ((levels.boards & TARGET) != 0).sum((1, 2))} == {1, 2, 3}
    for board, nearest in zip(levels.boards, found, strict=True):
        goals = ((board & TARGET) != 0).flatten().nonzero().squeeze(1)
        maps = distance_maps(((board & WALL) != 0).expand(len(goals), -1, -1), goals)
        reached = torch.where(maps >= 0, maps, 10_000).amin(0)
        assert torch.equal(nearest, torch.where(reached == 10_000, -1, reached))


def test_geometry_of_an_observation_ignores_the_agent():
    levels = generate_mazes(4, size=9, braid=(0.3, 0.5), seed=0)
    env = Maze(levels, 4, time_limit=9, autoreset=False)
    seen = env.reset(torch.arange(4))
    draw = observation_geometry()
    before = draw(seen)
    assert torch.equal(before, static_geometry(levels.boards))
    for action in (UP, DOWN, LEFT, RIGHT):
        seen = env.step(torch.full((4,), action)).observation
    assert torch.equal(draw(seen), before)
