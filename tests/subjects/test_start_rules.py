"""Levels of one small pool, starts in sight of the goal: against brute force, in every split and in training."""

import torch

from planprobe.core.grid import TARGET, WALL, move_offsets
from planprobe.subjects.envs.catalog import make_env, named_levels
from planprobe.subjects.envs.distance import distance_maps, squares_in_sight
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.recipe import TaskRecipe

POOL, SIGHT = TaskRecipe(size=9, pool=3, num_levels=3), TaskRecipe(size=9, in_sight=True, num_levels=40)


def goals_of(boards):
    return ((boards & TARGET) != 0).flatten(-2).to(torch.uint8).argmax(-1)


def seen_from(goal, walls):
    """Squares on the four straight lines from a goal, in plain Python."""
    found = set()
    for offset in move_offsets(9)[:4].tolist():
        square = goal + offset
        while not walls[square]:
            found.add(square)
            square += offset
    return found


def test_sight_is_the_straight_lines_from_the_goal():
    levels = generate_mazes(30, size=9, seed=3)
    walls, goals = (levels.boards & WALL) != 0, goals_of(levels.boards)
    sight = squares_in_sight(walls, goals).flatten(1)
    for row in range(30):
        expected = seen_from(int(goals[row]), walls[row].flatten().tolist())
        assert set(sight[row].nonzero().squeeze(1).tolist()) == expected


def test_every_start_is_in_sight_in_training_and_held_out():
    for name in ("train", "test"):
        levels = named_levels(SIGHT, name, 40)
        sight = squares_in_sight((levels.boards & WALL) != 0, goals_of(levels.boards)).flatten(1)
        assert bool(sight.gather(1, levels.players[:, None]).all())
    env = make_env(SIGHT, named_levels(SIGHT, "train", 40), 16, training=True, seed=1)
    env.reset()
    for _ in range(40):
        env.begin(torch.arange(16))
        sight = squares_in_sight((env.cells.view(-1, 9, 9) & WALL) != 0, goals_of(env.cells.view(-1, 9, 9)))
        assert bool(sight.flatten(1).gather(1, env.players[:, None]).all())


def test_all_splits_of_a_pool_are_made_of_the_same_boards_with_other_starts():
    boards = named_levels(POOL, "train", 3).boards
    for name in ("train", "valid", "test", "far"):
        levels = named_levels(POOL, name, 24)
        assert {bytes(board.numpy()) for board in levels.boards} <= {bytes(board.numpy()) for board in boards}
        goals = goals_of(levels.boards)
        distance = distance_maps((levels.boards & WALL) != 0, goals).flatten(1).gather(1, levels.players[:, None])
        assert bool((distance > 0).all())
    train, test = named_levels(POOL, "train", 24), named_levels(POOL, "test", 24)
    assert torch.equal(train.boards, test.boards)
    assert not torch.equal(train.players, test.players)
    env = make_env(POOL, train, 8, training=True)
    env.reset()
    assert torch.equal(goals_of(env.cells.view(-1, 9, 9)), goals_of(train.boards[env.level_ids]))
    assert not torch.equal(env.players, train.players[env.level_ids])


def test_tasks_without_such_rules_have_the_levels_they_had():
    plain = named_levels(TaskRecipe(size=9), "test", 20)
    expected = generate_mazes(20, size=9, braid=(0.0, 0.5), seed=3, split="test")
    assert torch.equal(plain.boards, expected.boards)
    assert torch.equal(plain.players, expected.players)
