"""Mazes that change before the second episode: which wall, worked out by hand, and what the agent then walks in."""

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.cell_world import next_squares, wall_windows
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.toggled_maze import ToggledMazeTask, find_toggles

TASK = MazeTrialTask(num_mazes=20, split="test", episode_steps=120)
SERPENT = """
#######
#.....#
#####.#
#.....#
#.#####
#.....#
#######
"""
START, GOAL = 8, 22  # (1, 1) and (3, 1): ten moves along the serpent, two through the wall between them
ROUTE = [8, 9, 10, 11, 12, 19, 26, 25, 24, 23, 22]


def serpent(open_square=None):
    walls = torch.tensor([[mark == "#" for mark in row] for row in SERPENT.split()])
    if open_square is not None:
        walls.view(-1)[open_square] = False
    return walls[None]


def toggled(walls, change):
    found = find_toggles(
        walls, torch.tensor([ROUTE]), torch.tensor([GOAL]), torch.tensor([START]), change, torch.tensor([10])
    )
    return int(found.square), int(found.shortest)


def test_which_wall_opens_or_closes_by_hand():
    assert toggled(serpent(), "open") == (15, 2)  # the first in reading order; (2, 3) would have made six moves
    assert toggled(serpent(), "close") == (-1, 0)  # a perfect maze: any passage is needed
    assert toggled(serpent(15), "close") == (9, 2)  # the first passage of the way, now that there is another one
    assert toggled(serpent(15), "open") == (-1, 0)  # none shorter than two


def walk(task, num_boards, seed=5):
    env = task.make_env(num_boards, seed=seed, autoreset=False)
    env.reset()
    steps = []
    for t in range(2 * task.episode_steps):
        steps.append(env.step(draw_below(4, 1, torch.arange(num_boards), t)))
        if bool(env.finished.all()):
            break
    return env, steps


@pytest.mark.parametrize("change", ["open", "close"])
def test_the_changed_maze_is_the_one_that_is_walked_in(change):
    task = ToggledMazeTask.of(TASK, change)
    env, steps = walk(task, 24)
    changed = env.new_shortest > 0
    assert 3 <= int(changed.sum()) < 24
    before = env.latents()["walls"].clone()
    before[changed] = env.new_walls[changed]
    assert torch.equal(env.walls, before)
    plain, _ = walk(TASK, 24)
    differs = (plain.walls != env.walls).flatten(1).sum(1)
    assert torch.equal(differs, changed.long())
    assert bool((plain.walls.sum((1, 2)) - env.walls.sum((1, 2)))[changed].eq(1 if change == "open" else -1).all())
    shortest = distance_maps(env.walls, env.goals).flatten(1).gather(1, env.starts[:, None]).squeeze(1)
    assert torch.equal(shortest[changed].long(), env.new_shortest[changed])
    assert torch.equal(env._next[env.level_ids], next_squares(env.walls))
    assert torch.equal(env._windows[env.level_ids], wall_windows(env.walls, task.view_size))
    found = torch.stack([step.solved & (step.extras["episode"] == 0) for step in steps], 1).any(1)
    assert not bool((changed & ~found).any())


def test_first_episodes_are_those_of_the_unchanged_task_and_boards_do_not_depend_on_the_batch():
    task = ToggledMazeTask.of(TASK, "open")
    (many, steps), (few, _), (_, plain) = walk(task, 12), walk(task, 5), walk(TASK, 12)
    assert torch.equal(many.new_walls[:5], few.new_walls)
    assert torch.equal(many.new_shortest[:5], few.new_shortest)
    for ours, theirs in zip(steps[:10], plain[:10], strict=True):
        first = ours.extras["episode"] == 0
        assert torch.equal(ours.extras["square"][first], theirs.extras["square"][first])


def test_a_resumed_run_knows_its_changed_mazes():
    task = ToggledMazeTask.of(TASK, "open")
    env, _ = walk(task, 8)
    other = task.make_env(8, seed=5, autoreset=False)
    other.load_state_dict(env.state_dict())
    assert torch.equal(other.walls, env.walls)
    assert torch.equal(other._next[other.level_ids], env._next[env.level_ids])


def test_misuse_is_refused():
    with pytest.raises(RecipeError, match="open"):
        ToggledMazeTask.of(TASK, "opened")
    with pytest.raises(RecipeError, match="second episode"):
        ToggledMazeTask(num_episodes=1)
