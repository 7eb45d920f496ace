"""Signposts point along shortest ways, and nothing else about the maze changes."""

import torch

from planprobe.core.grid import TARGET
from planprobe.core.play import play_levels
from planprobe.subjects.envs.catalog import distances_to_goal, make_env
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.plans import boards_from_observations
from planprobe.subjects.envs.signpost import SignpostMaze, without_signs
from planprobe.subjects.recipe import TaskRecipe
from planprobe.subjects.training.evaluate import env_maker

LEVELS = generate_mazes(20, size=9, seed=3)
TASK = TaskRecipe(size=9, observation="signpost", time_limit=(4, 6))


class Obedient(torch.nn.Module):
    """Goes where the sign under it points."""

    def initial_state(self, num_boards, board=None):
        return ()

    def step(self, observation, state):
        player = observation[:, -1].flatten(1).argmax(1)
        signs = observation[:, 2:6].flatten(2).gather(2, player.view(-1, 1, 1).expand(-1, 4, 1)).squeeze(2).float()
        return signs, signs[:, 0], state


def test_whoever_obeys_goes_a_shortest_way():
    played = play_levels(Obedient(), env_maker(TASK), LEVELS)
    assert torch.equal(played.lengths, distances_to_goal(LEVELS)[1])


def test_the_other_planes_are_those_of_the_plain_maze():
    """In training too, with starts and goals drawn anew as episodes end."""
    env = make_env(TASK, LEVELS, 16, training=True, seed=5)
    plain = make_env(TaskRecipe(size=9, time_limit=(4, 6)), LEVELS, 16, training=True, seed=5)
    assert isinstance(env, SignpostMaze) and env.num_planes == 7
    seen, expected = env.reset(), plain.reset()
    for step in range(15):
        assert torch.equal(without_signs(seen), expected)
        pointing = seen[:, 2:6].sum(1)
        reachable = (seen[:, 0] == 0) & (seen[:, 1] == 0)
        assert torch.equal(pointing == 1, reachable) and int(pointing.max()) == 1
        actions = torch.full((16,), step % 4)
        seen, expected = env.step(actions).observation, plain.step(actions).observation
    boards, players = boards_from_observations(seen, observation="signpost")
    assert torch.equal(boards[:, None], (expected[:, :1] + TARGET * expected[:, 1:2]))
    assert torch.equal(players, plain.players)


def test_the_signs_of_a_stored_environment_come_back():
    env, other = (make_env(TASK, LEVELS, 4, training=True, seed=seed) for seed in (1, 2))
    env.reset(), other.reset()
    other.load_state_dict(env.state_dict())
    assert torch.equal(other.observe(), env.observe())


def test_goals_can_be_kept_while_starts_are_drawn():
    env = Maze(LEVELS, 20, redraw=True, keep_goals=True, autoreset=False)
    ids = torch.arange(20)
    first = env.reset(ids)
    players = env.players.clone()
    again = env.reset(ids)
    goals = (LEVELS.boards & TARGET) != 0
    assert torch.equal(first[:, 1] == 1, goals) and torch.equal(again[:, 1], first[:, 1])
    assert not torch.equal(env.players, players)
    assert not (first[:, 1] * first[:, 2]).any() and not (again[:, 1] * again[:, 2]).any()
