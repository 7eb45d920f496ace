"""Pairs of levels: what they promise, checked with a breadth-first search and the solver of their own."""

from collections import deque

import pytest
import torch

from planprobe.core.errors import RecipeError, ShapeError, TooFewLevelsError, UnknownNameError
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.levels import LevelSet, split_names
from planprobe.subjects.envs.first_moves import find_first_moves
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.pairs import join_level_pairs, make_pairs, task_pairs
from planprobe.subjects.envs.solver import optimal_actions, solve
from planprobe.subjects.recipe import TaskRecipe

MAZE = TaskRecipe(kind="maze", size=9)
CASES = [("maze", "move-goal"), ("maze", "toggle-wall"), ("sokoban", "swap-target"), ("sokoban", "toggle-wall")]


@pytest.fixture(scope="module")
def levels():
    return {
        "maze": generate_mazes(60, size=9, seed=3, split="test"),
        "sokoban": generate_sokoban(40, size=6, num_boxes=(1, 1), seed=3, split="test"),
    }


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def made(request, levels):
    kind, change = request.param
    return kind, change, make_pairs(levels[kind], change, kind=kind, seed=0, split="test")


def walk(board, start):
    """Optimal first moves and length in a maze, by a queue."""
    width = board.shape[1]
    cells = board.flatten().tolist()
    goal = cells.index(TARGET)
    distance, waiting = {goal: 0}, deque([goal])
    while waiting:
        here = waiting.popleft()
        for offset in (-width, width, -1, 1):
            if cells[here + offset] != WALL and here + offset not in distance:
                distance[here + offset] = distance[here] + 1
                waiting.append(here + offset)
    steps = enumerate((-width, width, -1, 1))
    return tuple(a for a, offset in steps if distance.get(start + offset) == distance[start] - 1), distance[start]


def first_moves_of(kind, board, player):
    if kind == "maze":
        return walk(board, player)
    return optimal_actions(board, player), solve(board, player).num_moves


def test_each_run_has_one_best_first_move_and_they_differ(made):
    kind, _, pairs = made
    assert len(pairs) >= (20 if kind == "maze" else 4)
    for row in range(min(len(pairs), 12)):
        player = int(pairs.clean.players[row])
        assert player == int(pairs.corrupted.players[row])
        for side, actions in (("clean", pairs.clean_actions), ("corrupted", pairs.corrupted_actions)):
            moves, length = first_moves_of(kind, getattr(pairs, side).boards[row], player)
            assert moves == (int(actions[row]),)
            route = getattr(pairs, f"{side}_routes")[row]
            assert int((route >= 0).sum()) - 1 == length >= 4
            assert int(route[0]) == player
        assert pairs.clean_actions[row] != pairs.corrupted_actions[row]


def test_little_changes_and_not_next_to_the_player(made):
    kind, change, pairs = made
    assert torch.equal(pairs.changed, pairs.clean.boards != pairs.corrupted.boards)
    numbers = pairs.changed.flatten(1).sum(1)
    assert set(numbers.tolist()) == ({1} if change == "toggle-wall" else {2})
    width = pairs.clean.width
    for row, square in pairs.changed.flatten(1).nonzero().tolist():
        down = abs(square // width - int(pairs.clean.players[row]) // width)
        across = abs(square % width - int(pairs.clean.players[row]) % width)
        assert down + across >= 2
    counts = [
        [int(((side.boards & flag) != 0).sum()) for flag in (TARGET, BOX)] for side in (pairs.clean, pairs.corrupted)
    ]
    assert counts[0] == counts[1] == [len(pairs), len(pairs) if kind == "sokoban" else 0]


def test_both_layouts_are_of_the_split(made):
    kind, _, pairs = made
    for levels in (pairs.clean, pairs.corrupted):
        boards = levels.boards & WALL if kind == "maze" else levels.boards
        assert set(split_names(LevelSet(boards, levels.players), with_player=False)) == {"test"}


def test_draws_do_not_depend_on_the_other_levels(made, levels):
    kind, change, pairs = made
    ids = torch.arange(10, 25)
    some = make_pairs(levels[kind][ids], change, kind=kind, seed=0, split="test", numbers=ids)
    same = (pairs.level_ids >= 10) & (pairs.level_ids < 25)
    assert torch.equal(some.level_ids, pairs.level_ids[same])
    assert torch.equal(some.corrupted.boards, pairs.corrupted.boards[same])
    assert torch.equal(some.clean.players, pairs.clean.players[same])


def test_the_seed_decides(levels):
    first, again, other = (make_pairs(levels["maze"], "move-goal", kind="maze", seed=seed) for seed in (0, 0, 1))
    assert first.corrupted.hash() == again.corrupted.hash() != other.corrupted.hash()


def test_tables_of_one_box_boards_agree_with_the_solver(levels):
    some = levels["sokoban"][:6]
    found = find_first_moves(some, "sokoban")
    for row, board in enumerate(some.boards):
        for player in ((board.flatten() & (WALL | BOX)) == 0).nonzero().flatten().tolist()[::3]:
            solution = solve(board, player)
            assert int(found.lengths[row, player]) == (solution.num_moves if solution.status == "solved" else -1)
            if solution.status == "solved":
                moves = tuple(found.optimal[row, :, player].nonzero().flatten().tolist())
                assert moves == optimal_actions(board, player)


def test_boards_with_two_boxes_keep_their_start():
    levels = generate_sokoban(12, size=6, num_boxes=(2, 2), seed=3)
    pairs = make_pairs(levels, "swap-target", kind="sokoban", seed=0, attempts=6)
    assert len(pairs)
    assert torch.equal(pairs.clean.players, levels.players[pairs.level_ids])
    row = int(pairs.level_ids[0])
    assert optimal_actions(levels.boards[row], int(levels.players[row])) == (int(pairs.clean_actions[0]),)


def test_tasks_give_exactly_as_many_as_asked_for_and_more_begin_with_the_fewer():
    few, more = (task_pairs(MAZE, "move-goal", number) for number in (5, 9))
    assert (len(few), len(more)) == (5, 9)
    assert torch.equal(more.corrupted.boards[:5], few.corrupted.boards)
    assert len(set(more.level_ids.tolist())) == 9


def test_swapping_and_joining(made):
    _, _, pairs = made
    back = pairs.swap()
    assert torch.equal(back.clean.boards, pairs.corrupted.boards)
    assert torch.equal(back.corrupted_actions, pairs.clean_actions)
    assert torch.equal(back.clean_routes, pairs.corrupted_routes)
    joined = join_level_pairs([pairs[:2], pairs[2:]])
    assert joined.clean.hash() == pairs.clean.hash()
    assert torch.equal(joined.clean_routes, pairs.clean_routes)


def test_what_no_pair_can_be_made_of(levels):
    with pytest.raises(UnknownNameError, match="Did you mean 'move-goal'"):
        make_pairs(levels["maze"], "move-goals", kind="maze", seed=0)
    with pytest.raises(RecipeError, match="Did you mean 'maze'"):
        make_pairs(levels["maze"], "move-goal", kind="mazes", seed=0)
    with pytest.raises(RecipeError, match="Did you mean 'test'"):
        make_pairs(levels["maze"], "move-goal", kind="maze", seed=0, split="tset")
    with pytest.raises(TooFewLevelsError, match="3 pairs by 'move-goal'"):
        task_pairs(TaskRecipe(kind="maze", size=7), "move-goal", 3, min_length=60, attempts=1)
    with pytest.raises(RecipeError, match="at least one"):
        task_pairs(MAZE, "move-goal", 0)
    pairs = make_pairs(levels["maze"], "move-goal", kind="maze", seed=0)
    with pytest.raises(ShapeError, match="same in both"):
        type(pairs)(**{**vars(pairs), "corrupted_actions": pairs.clean_actions})


def test_a_detour_is_not_found_by_heading_for_the_goal(levels):
    pairs = make_pairs(levels["maze"], "toggle-wall", kind="maze", seed=0, split="test", away=True)
    assert len(pairs) >= 10
    width = pairs.corrupted.width
    goals = ((pairs.corrupted.boards & TARGET) != 0).flatten(1).to(torch.uint8).argmax(1)
    steps = torch.tensor([(-1, 0), (1, 0), (0, -1), (0, 1)])[pairs.corrupted_actions]
    start = torch.stack([pairs.corrupted.players // width, pairs.corrupted.players % width], dim=1)
    goal = torch.stack([goals // width, goals % width], dim=1)
    assert ((start + steps - goal).abs().sum(1) > (start - goal).abs().sum(1)).all()


def test_detours_of_sokoban_are_not_made_by_heading_for_a_push():
    """By hand: no new move comes nearer to a square behind the box on a side that helps, and none pushes from there."""
    task = TaskRecipe(kind="sokoban", size=7, num_boxes=(1, 1))
    pairs = task_pairs(task, "toggle-wall", 12, away=True)
    assert len(pairs) == 12
    steps = {0: (-1, 0), 1: (1, 0), 2: (0, -1), 3: (0, 1)}

    def place(board, flag):
        return divmod(int(((board & flag) != 0).flatten().nonzero()[0]), 7)

    def apart(first, second):
        return abs(first[0] - second[0]) + abs(first[1] - second[1])

    for row in range(12):
        board, action = pairs.corrupted.boards[row], int(pairs.corrupted_actions[row])
        box, target, at = place(board, BOX), place(board, TARGET), divmod(int(pairs.corrupted.players[row]), 7)
        after = (at[0] + steps[action][0], at[1] + steps[action][1])
        for move, (down, right) in steps.items():
            if apart((box[0] + down, box[1] + right), target) < apart(box, target):
                behind = (box[0] - down, box[1] - right)
                assert apart(after, behind) > apart(at, behind)
                assert at != behind or move != action
