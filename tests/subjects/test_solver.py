"""The solver against brute force: a search over single moves that shares no code and no idea with it."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from planprobe.core.errors import LevelFormatError, UnreachableError
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.level_text import boxoban_levels, levels_from_text
from planprobe.subjects.envs.solver import Solution, dead_squares, optimal_actions, solve, solve_levels


def level(text: str) -> tuple[torch.Tensor, int]:
    levels = levels_from_text(text, "drawn")[0]
    return levels.boards[0], int(levels.players[0])


def move(walls: frozenset[int], state: tuple[int, frozenset[int]], offset: int) -> tuple[int, frozenset[int]] | None:
    """One move by the rules of the game."""
    player, boxes = state
    ahead = player + offset
    if ahead in walls:
        return None
    if ahead in boxes:
        if ahead + offset in walls or ahead + offset in boxes:
            return None
        boxes = (boxes - {ahead}) | {ahead + offset}
    return ahead, boxes


def read(board: np.ndarray, player: int) -> tuple[frozenset[int], frozenset[int], tuple[int, frozenset[int]], tuple]:
    cells = np.asarray(board).ravel()
    walls, targets, boxes = (frozenset(np.flatnonzero(cells & flag).tolist()) for flag in (WALL, TARGET, BOX))
    width = board.shape[1]
    return walls, targets, (player, boxes), (-width, width, -1, 1)


def brute_force(board: np.ndarray, player: int, *, metric: str) -> int | None:
    """Fewest moves or pushes by search over single moves, None where there is no solution."""
    walls, targets, start, offsets = read(board, player)
    cost, queue = {start: 0}, deque([start])
    done = set()
    while queue:
        state = queue.popleft()
        if state in done:
            continue
        done.add(state)
        if state[1] <= targets:
            return cost[state]
        for offset in offsets:
            after = move(walls, state, offset)
            if after is None:
                continue
            step = 1 if metric == "moves" or after[1] != state[1] else 0
            if cost[state] + step < cost.get(after, 1 << 30):
                cost[after] = cost[state] + step
                (queue.append if step else queue.appendleft)(after)
    return None


def check_replay(board: np.ndarray, player: int, solution: Solution) -> None:
    """The actions are legal, solve the level, and are counted right."""
    walls, targets, state, offsets = read(board, player)
    pushes = 0
    for action in solution.actions:
        after = move(walls, state, offsets[action])
        assert after is not None, "a blocked move in a solution"
        pushes += after[1] != state[1]
        state = after
    assert state[1] <= targets
    assert (solution.num_moves, solution.num_pushes) == (len(solution.actions), pushes)


def random_boards(num_boards: int, size: int, num_boxes: int, seed: int, *, wall_share: float = 0.25):
    """Boards thrown together at random: many have no solution, some start with boxes on targets."""
    rng = np.random.default_rng(seed)
    for _ in range(num_boards):
        board = np.ones((size, size), dtype=np.uint8)
        board[1:-1, 1:-1] = rng.random((size - 2, size - 2)) < wall_share
        floor = np.flatnonzero(board.ravel() == 0)
        if len(floor) <= num_boxes:
            continue
        board.ravel()[rng.permutation(floor)[:num_boxes]] |= TARGET
        order = rng.permutation(floor)
        board.ravel()[order[:num_boxes]] |= BOX
        yield board, int(order[num_boxes])


@pytest.mark.parametrize("metric", ["moves", "pushes"])
@pytest.mark.parametrize(
    ("size", "num_boxes", "num_boards"), [(5, 1, 150), (5, 2, 150), (6, 2, 80), (6, 3, 40), (7, 2, 30)]
)
def test_costs_are_optimal_on_random_boards(size: int, num_boxes: int, num_boards: int, metric: str) -> None:
    statuses = set()
    for board, player in random_boards(num_boards, size, num_boxes, seed=size * 10 + num_boxes):
        expected = brute_force(board, player, metric=metric)
        solution = solve(board, player, metric=metric)
        statuses.add(solution.status)
        if expected is None:
            assert solution.status == "unsolvable", board
        else:
            assert solution.status == "solved", board
            check_replay(board, player, solution)
            assert (solution.num_moves if metric == "moves" else solution.num_pushes) == expected, board
    assert statuses == {"solved", "unsolvable"}, "the sample should hold both kinds"


@pytest.mark.parametrize("metric", ["moves", "pushes"])
def test_costs_are_optimal_on_generated_levels(metric: str) -> None:
    levels = generate_sokoban(25, size=7, num_boxes=(1, 3), seed=5)
    for board, player, solution in zip(
        levels.boards, levels.players.tolist(), solve_levels(levels, metric=metric), strict=True
    ):
        check_replay(board, player, solution)
        found = solution.num_moves if metric == "moves" else solution.num_pushes
        assert found == brute_force(board, player, metric=metric)


HAND_WORKED = {
    "one push": ("#####\n#@$.#\n#####", (3,), 1),
    "walk round, then push back": ("#####\n#   #\n#.$@#\n#####", (2,), 1),
    "around the box": ("######\n#    #\n#@ $ #\n#  . #\n#    #\n######", None, 1),
    "already solved": ("####\n#@*#\n####", (), 0),
    "box off a target to let another through": ("#######\n#     #\n#@ $*.#\n#     #\n#     #\n#######", None, 4),
}


@pytest.mark.parametrize("name", HAND_WORKED)
def test_hand_worked_boards(name: str) -> None:
    text, actions, num_pushes = HAND_WORKED[name]
    board, player = level(text)
    solution = solve(board, player)
    assert solution.status == "solved"
    check_replay(board, player, solution)
    assert solution.num_moves == brute_force(board, player, metric="moves")
    if actions is not None:
        assert solution.actions == actions
    if num_pushes is not None:
        assert solution.num_pushes == num_pushes


UNSOLVABLE = {
    "box in a corner": "#####\n#$  #\n# @ #\n#  .#\n#####",
    "frozen pair on the wall": "######\n#$$@ #\n#   .#\n#  . #\n######",
    "player shut in": "#######\n#@#   #\n### $.#\n#     #\n#######",
    "box on the wrong wall": "######\n# $  #\n# @  #\n#  . #\n######",
    "2x2 block in the open": "#######\n#  .. #\n# $$  #\n# $$ @#\n#  .. #\n#######",
}


@pytest.mark.parametrize("metric", ["moves", "pushes"])
@pytest.mark.parametrize("name", UNSOLVABLE)
def test_unsolvable_boards_are_proved_so(name: str, metric: str) -> None:
    board, player = level(UNSOLVABLE[name])
    assert solve(board, player, metric=metric) == Solution(
        "unsolvable", (), 0, 0, solve(board, player, metric=metric).num_nodes
    )


def test_more_boxes_than_targets_is_unsolvable_and_fewer_is_solved() -> None:
    board, player = level("#######\n#@ $. #\n# $  .#\n#     #\n#######")
    fewer = board.clone()
    fewer[2, 2] = 0
    assert solve(fewer, player).status == "solved"
    more = board.clone()
    more[2, 5] = 0
    assert solve(more, player).status == "unsolvable"


def test_budget_is_neither_solved_nor_unsolvable() -> None:
    levels = generate_sokoban(1, size=7, num_boxes=(3, 3), seed=2)
    whole = solve(levels.boards[0], int(levels.players[0]))
    assert whole.status == "solved"
    cut = solve(levels.boards[0], int(levels.players[0]), max_nodes=whole.num_nodes - 1)
    assert (cut.status, cut.actions, cut.num_nodes) == ("budget", (), whole.num_nodes - 1)
    assert solve(levels.boards[0], int(levels.players[0]), max_nodes=whole.num_nodes).status == "solved"


@pytest.mark.parametrize(("metric", "num_nodes"), [("moves", 1348), ("pushes", 213)])
def test_the_search_stays_small(metric: str, num_nodes: int) -> None:
    """A looser bound, a missed deadlock or a state met twice changes no answer, only this count."""
    solutions = solve_levels(generate_sokoban(40, size=7, num_boxes=(3, 3), seed=2), metric=metric)
    assert sum(solution.num_nodes for solution in solutions) <= num_nodes


def test_many_boxes_use_the_assignment_of_scipy() -> None:
    board, player = level("###########\n#@        #\n# $$$$$$$ #\n# ....... #\n#         #\n###########")
    assert solve(board, player, metric="pushes").num_pushes == 7


def test_mazes_are_solved_by_walking() -> None:
    board, player = level("#####\n#@# #\n#   #\n#.# #\n#####")
    assert solve(board, player).actions == (1, 1)
    board[2, 1] = WALL
    assert solve(board, player).status == "unsolvable"


def test_dead_squares_against_a_lone_box_everywhere() -> None:
    for board, _ in random_boards(25, 6, 1, seed=3, wall_share=0.2):
        empty = board & ~np.uint8(BOX)
        floor = np.flatnonzero((empty & WALL).ravel() == 0)
        dead = dead_squares(empty)
        assert not dead[(empty & WALL) != 0].any()
        for square in floor:
            with_box = empty.copy()
            with_box.ravel()[square] |= BOX
            starts = [start for start in floor if start != square]
            can = any(brute_force(with_box, int(start), metric="pushes") is not None for start in starts)
            assert dead.ravel()[square] == (not can), (board, square)


def test_optimal_actions_are_all_of_them() -> None:
    several = 0
    generated = generate_sokoban(40, size=7, num_boxes=(1, 2), seed=9)
    boards = list(zip(generated.boards.numpy(), generated.players.tolist(), strict=True))
    boards += random_boards(40, 5, 1, seed=8, wall_share=0.1)
    for board, player in boards:
        best = brute_force(board, player, metric="moves")
        if best is None:
            with pytest.raises(UnreachableError, match="no solution"):
                optimal_actions(board, player)
            continue
        walls, _, start, offsets = read(board, player)
        expected = []
        for action, offset in enumerate(offsets):
            after = move(walls, start, offset)
            if after is not None and best > 0:
                moved = np.where(board & BOX, board - BOX, board).astype(np.uint8)
                moved.ravel()[list(after[1])] |= BOX
                if brute_force(moved, after[0], metric="moves") == best - 1:
                    expected.append(action)
        assert optimal_actions(board, player) == tuple(expected), board
        several += len(expected) > 1
    assert several > 5, "the sample should hold levels with several best moves"


def test_optimal_actions_says_when_the_budget_is_short() -> None:
    levels = generate_sokoban(1, size=7, num_boxes=(3, 3), seed=2)
    with pytest.raises(UnreachableError, match="not solved within 3 states"):
        optimal_actions(levels.boards[0], int(levels.players[0]), max_nodes=3)


def test_an_executor_changes_nothing() -> None:
    levels = generate_sokoban(70, seed=4)
    with ThreadPoolExecutor(2) as executor:
        assert solve_levels(levels, executor=executor) == solve_levels(levels)
    assert solve_levels(levels)[33] == solve(levels.boards[33], int(levels.players[33]))


@pytest.mark.parametrize(
    ("board", "player", "metric", "message"),
    [
        (np.zeros((5, 5), np.uint8), 7, "moves", "walls all around"),
        (np.ones((5, 5), np.uint8), 7, "moves", "not free floor"),
        (np.ones((5, 5), np.uint8), 70, "moves", "not free floor"),
        (np.ones((2, 5, 5), np.uint8), 7, "moves", "one board"),
        (np.ones((5, 5), np.uint8), 7, "steps", "'pushes' or 'moves'"),
    ],
)
def test_bad_boards_are_refused(board: np.ndarray, player: int, metric: str, message: str) -> None:
    with pytest.raises(LevelFormatError, match=message):
        solve(board, player, metric=metric)


@pytest.mark.skipif(not os.environ.get("PLANPROBE_BOXOBAN"), reason="PLANPROBE_BOXOBAN is not set")
def test_boxoban_test_levels_are_solved() -> None:
    levels: LevelSet = boxoban_levels("unfiltered", "test")[:60]
    solutions = solve_levels(levels, metric="pushes", max_nodes=5000)
    assert {solution.status for solution in solutions} == {"solved"}
    for board, player, solution in zip(levels.boards, levels.players.tolist(), solutions, strict=True):
        check_replay(board, player, solution)
    easy = min(range(60), key=lambda n: solutions[n].num_nodes)
    by_moves = solve(levels.boards[easy], int(levels.players[easy]))
    assert by_moves.num_moves <= solutions[easy].num_moves
    assert by_moves.num_pushes >= solutions[easy].num_pushes
