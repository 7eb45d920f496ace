"""Rules, rewards, resets and thinking steps of the board environments."""

import pytest
import torch

from planprobe.core.errors import ShapeError
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.protocols import Env
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.level_text import levels_from_text
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.sokoban import Sokoban, dead_square_maps
from planprobe.subjects.envs.solver import dead_squares

UP, DOWN, LEFT, RIGHT, NOOP = range(5)
CORRIDOR = "#######\n#@$ . #\n#  $ .#\n#######\n"


def play(env, actions):
    return [env.step(torch.tensor([action])) for action in actions]


def corridor(**options):
    env = Sokoban(levels_from_text(CORRIDOR, "corridor")[0], 1, autoreset=False, **options)
    env.reset()
    return env


class TestSokoban:
    def test_rewards_of_a_solution_step_by_step(self):
        results = play(corridor(), [RIGHT, RIGHT, LEFT, DOWN, RIGHT, RIGHT])
        rewards = [round(float(result.reward), 4) for result in results]
        assert rewards == [-0.1, 0.9, -0.1, -0.1, -0.1, 10.9]
        assert [bool(result.solved) for result in results] == [False] * 5 + [True]
        assert bool(results[-1].episode_done)
        assert not bool(results[-1].truncated)

    def test_box_pushed_off_its_target_costs_one(self):
        results = play(corridor(), [RIGHT, RIGHT, RIGHT])
        assert round(float(results[-1].reward), 4) == -1.1

    def test_lost_episode_ends_at_once_and_pays_what_is_left_of_its_time(self):
        results = play(corridor(time_limit=10, end_when_lost=True), [RIGHT, RIGHT, RIGHT])
        assert [bool(result.truncated) for result in results] == [False, False, True]
        assert float(results[-1].reward) == pytest.approx(-0.1 - 1 - 7 * 0.1)
        assert not any(bool(r.truncated) for r in play(corridor(end_when_lost=True), [DOWN, DOWN]))  # at the border
        waited = play(corridor(time_limit=10), [RIGHT, RIGHT, RIGHT, *[LEFT] * 7])
        assert bool(waited[-1].truncated)
        assert float(sum(result.reward for result in waited)) == pytest.approx(float(sum(r.reward for r in results)))

    def test_squares_called_dead_are_dead_to_the_solver_too(self):
        levels = generate_sokoban(64, size=7, num_boxes=(1, 2), seed=11)
        maps, num_dead = dead_square_maps(levels.boards), 0
        for board, dead in zip(levels.boards, maps.numpy(), strict=True):
            assert not (dead & ~dead_squares(board)).any()  # the solver also knows where the pusher cannot get to
            num_dead += dead.sum()
        assert num_dead > 64
        assert not (maps & ((levels.boards & BOX) != 0)).any()

    def test_blocked_moves_change_nothing_but_time(self):
        env = corridor(noop=True)
        before = env.observe()
        for action in (UP, LEFT, NOOP):
            result = play(env, [action])[0]
            assert torch.equal(result.observation, before)
            assert not bool(result.extras["moved"])
        assert int(env.elapsed) == 3

    def test_box_against_wall_or_box_does_not_move(self):
        env = Sokoban(levels_from_text("#######\n#@$$..#\n#######\n", "two")[0], 1, autoreset=False)
        env.reset()
        assert not bool(play(env, [RIGHT])[0].extras["pushed"])

    def test_solved_wins_over_the_time_limit(self):
        results = play(corridor(time_limit=6), [RIGHT, RIGHT, LEFT, DOWN, RIGHT, RIGHT])
        assert bool(results[-1].solved)
        assert not bool(results[-1].truncated)

    def test_finished_board_stands_still_without_autoreset(self):
        env = corridor(time_limit=1)
        first, second = play(env, [RIGHT, RIGHT])
        assert bool(first.truncated)
        assert float(second.reward) == 0
        assert torch.equal(first.observation, second.observation)


def test_board_does_not_depend_on_its_batch():
    levels = generate_sokoban(50, size=7, seed=0)
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(0, 4, (60, 8), generator=generator)
    wide, narrow = (Sokoban(levels, boards, time_limit=(5, 15), seed=3) for boards in (8, 3))
    assert torch.equal(wide.reset()[:3], narrow.reset())
    for step in actions:
        first, second = wide.step(step), narrow.step(step[:3])
        assert torch.equal(first.observation[:3], second.observation)
        assert torch.equal(first.reward[:3], second.reward)
        assert torch.equal(first.episode_done[:3], second.episode_done)


def test_observations_are_never_a_reused_buffer():
    env = Sokoban(generate_sokoban(5, size=7, seed=0), 2)
    first = env.reset()
    copy = first.clone()
    for _ in range(5):
        env.step(torch.tensor([1, 3]))
    assert torch.equal(first, copy)


def test_rgb_preset_uses_the_published_colours():
    env = corridor(observation="rgb")
    pixels = env.observe()[0].permute(1, 2, 0)
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[1, 1].tolist() == [160, 212, 56]
    assert pixels[1, 2].tolist() == [142, 121, 56]
    assert pixels[1, 4].tolist() == [254, 126, 125]


class TestMaze:
    def test_redrawn_start_and_goal_are_free_distinct_and_cover_the_maze(self):
        levels = generate_mazes(4, size=9, seed=0)
        env = Maze(levels, 64, redraw=True, near_fraction=0.5, time_limit=3, seed=1)
        env.reset()
        starts, goals = [], []
        for _ in range(60):
            env.step(torch.zeros(64, dtype=torch.int64))
            walls = (levels.boards.flatten(1)[env.level_ids] & WALL) != 0
            goal = (env.cells & TARGET).argmax(1)
            assert ((env.cells & TARGET) != 0).sum(1).eq(1).all()
            assert not walls.gather(1, goal[:, None]).any()
            assert not walls.gather(1, env.players[:, None]).any()
            fresh = env.elapsed == 0
            assert (goal != env.players)[fresh].all()
            starts += env.players[fresh & (env.level_ids == 0)].tolist()
            goals += goal[fresh & (env.level_ids == 0)].tolist()
        free = int((levels.boards[0] == 0).sum() + (levels.boards[0] == TARGET).sum())
        assert len(set(goals)) > 0.9 * free
        assert len(set(starts)) > 0.9 * free

    def test_goal_ends_the_episode_and_pays(self):
        env = Maze(levels_from_text("#####\n#@ .#\n#####\n", "line")[0], 1, autoreset=False)
        env.reset()
        first, second = play(env, [RIGHT, RIGHT])
        assert round(float(first.reward), 4) == -0.1
        assert round(float(second.reward), 4) == 9.9
        assert bool(second.solved)


class TestThinkingSteps:
    def test_nothing_happens_in_them_and_they_cost_no_time(self):
        env = corridor(thinking_steps=(3, 3))
        before = env.observe()
        results = play(env, [RIGHT, RIGHT, RIGHT])
        assert all(torch.equal(result.observation, before) for result in results)
        assert all(float(result.reward) == 0 and bool(result.extras["thinking"]) for result in results)
        assert int(env.elapsed) == 0
        assert bool(play(env, [RIGHT])[0].extras["pushed"])

    def test_share_and_length_are_as_asked(self):
        env = Maze(generate_mazes(50, size=9, seed=0), 4000, thinking_steps=(2, 4), thinking_fraction=0.3)
        env.reset()
        thinks = env.thinking > 0
        assert abs(float(thinks.float().mean()) - 0.3) < 0.03
        assert set(env.thinking[thinks].tolist()) == {2, 3, 4}


def test_environments_follow_the_protocol_and_refuse_nonsense():
    levels = generate_sokoban(2, size=7, seed=0)
    assert isinstance(Sokoban(levels, 2), Env)
    with pytest.raises(ShapeError, match="at least one level"):
        Sokoban(levels[:0], 2)
    with pytest.raises(ShapeError, match="'pixels' is not one of"):
        Sokoban(levels, 2, observation="pixels")


def test_state_can_be_saved_and_restored():
    env = Sokoban(generate_sokoban(20, size=7, seed=0), 4, time_limit=(5, 9))
    env.reset()
    for _ in range(7):
        env.step(torch.tensor([0, 1, 2, 3]))
    saved, expected = env.state_dict(), [env.step(torch.tensor([3, 2, 1, 0])).observation for _ in range(9)]
    env.load_state_dict(saved)
    assert all(torch.equal(env.step(torch.tensor([3, 2, 1, 0])).observation, each) for each in expected)
