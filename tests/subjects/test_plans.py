"""Optimal futures: legal, as short as a plain search says, and the same seen from an observation."""

from collections import deque

import pytest
import torch

from planprobe.core.errors import RecipeError, ShapeError
from planprobe.core.grid import BOX, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.level_text import levels_from_text
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.plans import (
    alternative_futures,
    boards_from_observations,
    observation_planner,
    optimal_futures,
    replay_actions,
)
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.envs.solver import solve

UP, DOWN, LEFT, RIGHT = range(4)


def count_steps(board, start):
    """Steps from every square to the target, by the book."""
    codes, width = board.flatten().tolist(), board.shape[1]
    goal = next(square for square, code in enumerate(codes) if code & TARGET)
    found, queue = {goal: 0}, deque([goal])
    while queue:
        here = queue.popleft()
        for offset in move_offsets(width).tolist()[:4]:
            if not codes[here + offset] & WALL and here + offset not in found:
                found[here + offset] = found[here] + 1
                queue.append(here + offset)
    return found


def test_maze_plans_are_shortest_and_take_the_lowest_action_first():
    levels = generate_mazes(40, size=11, braid=(0.3, 0.8), seed=0)
    futures = optimal_futures(levels.boards, levels.players, "maze")
    assert futures.known.all()
    assert not futures.pushed.any()
    for level in range(40):
        steps = count_steps(levels.boards[level], int(levels.players[level]))
        here = int(levels.players[level])
        for step in range(int(futures.moved[level].sum())):
            best = [
                action
                for action, offset in enumerate(move_offsets(11).tolist()[:4])
                if steps.get(here + offset) == steps[here] - 1
            ]
            assert futures.moved[level, step]
            assert futures.actions[level, step] == best[0]
            assert futures.positions[level, step] == here
            here += move_offsets(11).tolist()[best[0]]
        assert steps[here] == 0
        assert (futures.positions[level, step + 1 :] == here).all()


def test_a_maze_worked_out_by_hand():
    levels = levels_from_text("######\n#@ # #\n#  $ #\n#   .#\n######", "drawn")[0]
    boards = levels.boards & ~torch.tensor(BOX, dtype=torch.uint8)
    futures = optimal_futures(boards, levels.players, "maze")
    assert futures.actions[0].tolist() == [DOWN, DOWN, RIGHT, RIGHT, RIGHT]
    assert futures.positions[0].tolist() == [7, 13, 19, 20, 21, 22]


def test_players_on_the_goal_or_cut_off_from_it():
    board = torch.ones(5, 5, dtype=torch.uint8)
    board[1, 1:4] = 0
    board[3, 1] = TARGET
    on_goal = optimal_futures(board[None], torch.tensor([16]), "maze")
    assert on_goal.known.tolist() == [True]
    assert on_goal.moved.tolist() == [[False]]
    cut_off = optimal_futures(board[None], torch.tensor([6]), "maze")
    assert cut_off.known.tolist() == [False]
    assert cut_off.positions.tolist() == [[6, 6]]


def test_sokoban_plans_solve_the_level_in_the_fewest_moves():
    levels = generate_sokoban(25, size=7, num_boxes=(1, 2), seed=1)
    futures = optimal_futures(levels.boards, levels.players, "sokoban")
    assert futures.known.all()
    env = Sokoban(levels, 25, time_limit=500, autoreset=False)
    env.reset(torch.arange(25))
    running = torch.ones(25, dtype=torch.bool)
    for step in range(futures.actions.shape[1]):
        assert torch.equal(futures.positions[:, step], env.players)
        result = env.step(futures.actions[:, step])
        assert torch.equal(result.extras["moved"][running], futures.moved[running, step])
        assert torch.equal(result.extras["pushed"][running], futures.pushed[running, step])
        assert not (futures.moved[~running, step].any())
        assert not (futures.pushed[~running, step].any())
        running &= ~result.solved
    assert not running.any()
    for level in range(0, 25, 5):
        solution = solve(levels.boards[level], int(levels.players[level]))
        assert futures.moved[level].sum() == solution.num_moves
        assert futures.pushed[level].sum() == solution.num_pushes


def test_states_that_cannot_be_solved_or_not_in_time_are_not_known():
    texts = ("######\n#@$ .#\n#    #\n######", "######\n#@  .#\n#$   #\n######")
    drawn = [levels_from_text(text, "drawn")[0] for text in texts]
    boards, players = torch.cat([part.boards for part in drawn]), torch.cat([part.players for part in drawn])
    futures = optimal_futures(boards, players, "sokoban")
    assert futures.known.tolist() == [True, False]
    assert futures.moved.tolist() == [[True, True], [False, False]]
    hard = generate_sokoban(3, size=7, num_boxes=(3, 3), seed=2)
    cut = optimal_futures(hard.boards, hard.players, "sokoban", max_nodes=1)
    assert not cut.known.any()
    assert not cut.moved.any()


def test_repeated_states_are_solved_once(monkeypatch):
    levels = generate_sokoban(4, size=7, seed=0)
    seen = []

    def solve_levels(some: LevelSet, **options):
        from planprobe.subjects.envs.solver import solve_levels as original

        seen.append(len(some))
        return original(some, **options)

    monkeypatch.setattr("planprobe.subjects.envs.plans.solve_levels", solve_levels)
    rows = torch.tensor([0, 1, 2, 3, 2, 2, 0])
    futures = optimal_futures(levels.boards[rows], levels.players[rows], "sokoban")
    alone = optimal_futures(levels.boards, levels.players, "sokoban")
    assert seen == [4, 4]
    assert torch.equal(futures.positions, alone.positions[rows])
    assert torch.equal(futures.pushed, alone.pushed[rows])


def test_replay_knows_blocked_moves():
    levels = levels_from_text("#######\n#@$$..#\n#     #\n#######", "drawn")[0]
    actions = torch.tensor([[RIGHT, UP, DOWN, RIGHT, 4, UP]])
    futures = replay_actions(levels.boards, levels.players, actions, torch.tensor([6]))
    assert futures.moved[0].tolist() == [False, False, True, True, False, False]
    assert not futures.pushed.any()
    assert futures.positions[0, -1] == 2 * 7 + 2
    short = replay_actions(levels.boards, levels.players, actions, torch.tensor([3]))
    assert short.moved[0].tolist() == [False, False, True, False, False, False]


# observations --------------------------------------------------------------------------------------------------------
def play_some(task, observation):
    """An environment some random steps into its episodes."""
    if task is Maze:
        env = Maze(generate_mazes(12, size=9, seed=0), 12, observation=observation, autoreset=False)
    else:
        env = Sokoban(generate_sokoban(12, size=7, num_boxes=(1, 2), seed=0), 12, observation=observation)
    seen = env.reset(torch.arange(env.num_boards))
    for action in torch.randint(4, (15, env.num_boards), generator=torch.Generator().manual_seed(0)):
        seen = env.step(action).observation
    return env, seen


@pytest.mark.parametrize("observation", ["planes", "rgb"])
@pytest.mark.parametrize("task", [Maze, Sokoban])
def test_an_observation_gives_the_board_back(task, observation):
    env, seen = play_some(task, observation)
    boards, players = boards_from_observations(seen, observation=observation)
    assert boards.dtype == torch.uint8
    assert players.dtype == torch.int64
    assert torch.equal(boards.flatten(1), env.cells)
    assert torch.equal(players, env.players)


def test_the_planner_reads_observations():
    env, seen = play_some(Sokoban, "planes")
    found = observation_planner("sokoban")(seen)
    expected = optimal_futures(env.cells.view(12, 7, 7), env.players, "sokoban")
    tensors = {name: value for name, value in vars(expected).items() if isinstance(value, torch.Tensor)}
    assert set(tensors) == {"positions", "actions", "moved", "pushed", "known", "lengths", "finished"}
    for name, value in tensors.items():
        assert torch.equal(getattr(found, name), value), name
    assert torch.equal(found.fact("board"), env.cells.view(12, 7, 7))


def test_the_alternative_plan_is_the_way_round():
    text = "#######\n#@  .##\n# # # #\n#     #\n#######"
    levels = levels_from_text(text, "drawn")[0]
    optimal = optimal_futures(levels.boards, levels.players, "maze")
    other = alternative_futures(levels.boards, levels.players)
    assert optimal.lengths.tolist() == [3]
    assert optimal.actions[0, :3].tolist() == [RIGHT, RIGHT, RIGHT]
    # down, along the lower corridor and up in the middle: (1, 3) comes before the goal
    assert other.lengths.tolist() == [7]
    assert other.actions[0, :7].tolist() == [DOWN, DOWN, RIGHT, RIGHT, UP, UP, RIGHT]
    assert other.known.all()
    assert other.moved[0].sum() == 7


def test_without_a_second_way_there_is_no_alternative_plan():
    levels = levels_from_text("#######\n#@   .#\n#######", "drawn")[0]
    assert alternative_futures(levels.boards, levels.players).known.tolist() == [False]
    with pytest.raises(RecipeError, match="mazes"):
        observation_planner("sokoban", plan="alternative")
    with pytest.raises(RecipeError, match="Did you mean 'optimal'"):
        observation_planner("maze", plan="optimum")


def test_inputs_that_are_no_state_are_refused():
    _, colours = play_some(Maze, "rgb")
    _, planes = play_some(Maze, "planes")
    with pytest.raises(ShapeError, match="observation='rgb'"):
        boards_from_observations(colours)
    with pytest.raises(ShapeError, match="colour"):
        boards_from_observations(planes, observation="rgb")
    with pytest.raises(ShapeError, match="exactly one player"):
        boards_from_observations(torch.zeros_like(planes))
    with pytest.raises(ShapeError, match="exactly one target"):
        optimal_futures(torch.ones(1, 5, 5, dtype=torch.uint8), torch.tensor([6]), "maze")
    with pytest.raises(RecipeError, match="Did you mean 'sokoban'"):
        optimal_futures(torch.ones(1, 5, 5, dtype=torch.uint8), torch.tensor([6]), "sokobann")
