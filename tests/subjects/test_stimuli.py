"""Levels made to order, each claim about them checked by a plain search that shares no code with the generator."""

import itertools
from collections import deque

import pytest
import torch

from planprobe.core.errors import RecipeError, ShapeError, TooFewLevelsError
from planprobe.core.grid import BOX, OPPOSITE, TARGET, WALL
from planprobe.core.levels import LevelSet, split_names
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.one_box import count_moves_by_push, count_moves_to_solve
from planprobe.subjects.envs.routes import find_two_routes, shared_fraction
from planprobe.subjects.envs.stimuli import (
    candidate_ladder,
    distance_ladder,
    two_route_boxes,
    two_route_mazes,
    two_route_sokoban,
)


def offsets_of(width):
    return (-width, width, -1, 1)


def search(is_free, start, offsets):
    """Moves from `start` to every square that can be reached, by the book."""
    found, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        for offset in offsets:
            if is_free[here + offset] and here + offset not in found:
                found[here + offset] = found[here] + 1
                queue.append(here + offset)
    return found


def check_two_routes(routes, level, is_free, width):
    """Both routes of one level are legal, shortest of their kind, and leave by different moves."""
    offsets = offsets_of(width)
    start = int(routes.levels.players[level])
    for route, action, length in (
        (routes.short_route[level], routes.short_action[level], routes.short_length[level]),
        (routes.long_route[level], routes.long_action[level], routes.long_length[level]),
    ):
        squares = [square for square in route.tolist() if square >= 0]
        assert route.tolist()[len(squares) :] == [-1] * (len(route) - len(squares))
        assert len(squares) == length + 1
        assert squares[0] == start
        assert len(set(squares)) == len(squares)
        assert squares[1] == start + offsets[action]
        assert all(is_free[square] for square in squares)
        assert all(after - before in offsets for before, after in itertools.pairwise(squares))
    goal = squares[-1]
    assert goal in routes.short_route[level].tolist()
    from_goal = search(is_free, goal, offsets)
    assert from_goal[start] == routes.short_length[level]
    first = start + offsets[routes.short_action[level]]
    blocked = [free and square != first for square, free in enumerate(is_free)]
    assert search(blocked, goal, offsets)[start] == routes.long_length[level]
    best_moves = [move for move in range(4) if from_goal.get(start + offsets[move]) == from_goal[start] - 1]
    assert best_moves == [int(routes.short_action[level])], "any other first move must be a mistake"
    return goal


def as_levels(*boards):
    """Levels from text: # wall, . target, $ box, @ player."""
    rows = [board.split() for board in boards]
    codes = {"#": WALL, ".": TARGET, "$": BOX, "@": 0, "-": 0}
    cells = torch.tensor([[[codes[char] for char in row] for row in board] for board in rows], dtype=torch.uint8)
    return LevelSet(cells, torch.tensor(["".join(board).index("@") for board in rows]))


# two routes ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_routes():
    return two_route_mazes(200, seed=0)


def test_two_route_mazes_are_what_they_claim(two_routes):
    for level in range(100):
        is_free = (two_routes.levels.boards[level] != WALL).flatten().tolist()
        goal = check_two_routes(two_routes, level, is_free, 11)
        assert two_routes.levels.boards[level].flatten()[goal] == TARGET
    assert two_routes.gap.min() >= 2
    assert two_routes.gap.max() <= 12
    assert (two_routes.gap % 2 == 0).all()
    assert two_routes.short_length.min() >= 4
    assert two_routes.short_unique.all()
    assert two_routes.long_unique.all()
    assert shared_fraction(two_routes.short_route, two_routes.long_route, 121).max() <= 0.5


def test_two_route_mazes_use_each_layout_once_and_stay_in_their_split(two_routes):
    layouts = LevelSet(two_routes.levels.boards & WALL, two_routes.levels.players)
    assert len(set(layouts.canonical_keys(with_player=False))) == 200
    assert set(split_names(layouts, with_player=False)) == {"test"}


def test_a_longer_request_starts_with_the_shorter(two_routes):
    shorter = two_route_mazes(50, seed=0)
    assert shorter.levels.hash() == two_routes.levels[:50].hash()
    assert torch.equal(shorter.long_action, two_routes.long_action[:50])
    assert two_route_mazes(50, seed=1).levels.hash() != shorter.levels.hash()


def test_demands_on_the_gap_are_kept():
    asked = two_route_mazes(30, seed=0, min_gap=6, max_gap=8, min_length=6, max_shared=0.0)
    assert set(asked.gap.tolist()) <= {6, 8}
    assert asked.short_length.min() >= 6
    assert shared_fraction(asked.short_route, asked.long_route, 121).max() == 0


def test_routes_of_a_board_drawn_by_hand():
    levels = as_levels("####### #@----# #-###-# #-#---# #-###-# #---.-# #######")
    pair = find_two_routes(levels.boards == WALL, levels.players, torch.tensor([39]))
    assert pair.short_route.tolist()[0][:8] == [8, 15, 22, 29, 36, 37, 38, 39]
    assert pair.long_route.tolist() == [[8, 9, 10, 11, 12, 19, 26, 33, 40, 39]]
    assert (pair.short_action, pair.long_action) == (1, 3)
    assert (pair.short_length, pair.long_length) == (7, 9)
    assert shared_fraction(pair.short_route, pair.long_route, 49) == 0


def test_a_board_with_one_way_has_no_second_route():
    levels = as_levels("##### #@-.# ##### ##### #####")
    pair = find_two_routes(levels.boards == WALL, levels.players, torch.tensor([8]))
    assert pair.short_length == 2
    assert pair.long_length == -1
    assert pair.long_action == -1
    assert (pair.long_route == -1).all()
    assert not pair.long_unique


def test_equally_short_routes_are_not_called_unique():
    levels = as_levels("##### #@--# #---# #--.# #####")
    pair = find_two_routes(levels.boards == WALL, levels.players, torch.tensor([18]))
    assert not pair.short_unique
    assert pair.short_length == pair.long_length == 4


@pytest.mark.parametrize("demand", [{"min_gap": 0}, {"min_gap": 8, "max_gap": 4}, {"max_shared": 2.0}])
def test_demands_that_mean_nothing_are_refused(demand):
    with pytest.raises(RecipeError):
        two_route_mazes(5, seed=0, **demand)


def test_demands_that_no_maze_meets_end_with_an_error(monkeypatch):
    monkeypatch.setattr("planprobe.subjects.envs.routes.FEWEST_LAYOUTS", 300)
    with pytest.raises(TooFewLevelsError, match="min_length=60"):
        two_route_mazes(5, size=9, seed=0, min_length=60)


# ladders -------------------------------------------------------------------------------------------------------------


def check_ladder(ladder, rungs, num_per_rung):
    """Distance, chance at the start, and the pairing by layout, from a plain search. num_per_rung: rows."""
    width, offsets = ladder.levels.width, offsets_of(ladder.levels.width)
    for level in range(len(ladder)):
        board = ladder.levels.boards[level].flatten()
        is_free = (board != WALL).tolist()
        start, goal = int(ladder.levels.players[level]), int((board == TARGET).nonzero())
        from_goal = search(is_free, goal, offsets)
        assert from_goal[start] == ladder.distance[level]
        city_block = abs(start // width - goal // width) + abs(start % width - goal % width)
        assert ladder.detour[level] == from_goal[start] - city_block
        around = [from_goal[start + offset] for offset in offsets if is_free[start + offset]]
        assert len(around) == 2
        assert around.count(from_goal[start] - 1) == 1
    walls = (ladder.levels.boards & WALL).view(len(rungs), num_per_rung, width, width)
    assert (walls == walls[:1]).all()
    layouts = walls[0].flatten(1).unique(dim=0, return_inverse=True)[1]
    assert len(torch.stack([layouts, ladder.layout_ids[:num_per_rung]]).unique(dim=1).T) == len(layouts.unique())
    assert torch.equal(
        *(
            ids.expand(len(rungs), -1)
            for ids in (ladder.layout_ids.view(len(rungs), -1)[:1], ladder.layout_ids.view(len(rungs), -1))
        )
    )


def test_distance_ladder_is_what_it_claims():
    rungs = (3, 8, 14, 20)
    ladder = distance_ladder(rungs, 25, seed=0)
    check_ladder(ladder, rungs, 25)
    assert ladder.layout_ids[:25].tolist() == list(range(25))
    assert ladder.distance.tolist() == [rung for rung in rungs for _ in range(25)]
    goals = (ladder.levels.boards == TARGET).flatten(1).to(torch.uint8).argmax(1).view(4, 25)
    assert (goals == goals[0]).all(), "the goal of a layout is the same on each rung"
    shorter = distance_ladder(rungs, 10, seed=0)
    assert torch.equal(shorter.levels.players.view(4, 10), ladder.levels.players.view(4, 25)[:, :10])


def count_routes(is_free, offsets, here, came_by, moves_left):
    """(all, live) routes of at most `moves_left` moves that never turn round, one by one."""
    onward = [
        move for move in range(4) if is_free[here + offsets[move]] and (came_by is None or move != OPPOSITE[came_by])
    ]
    if moves_left == 0 or not onward:
        return 1, int(moves_left == 0)
    parts = [count_routes(is_free, offsets, here + offsets[move], move, moves_left - 1) for move in onward]
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def test_candidate_ladder_is_what_it_claims():
    rungs = (4, 6, 9)
    ladder = candidate_ladder(rungs, 15, distance=10, seed=0)
    check_ladder(ladder, rungs, 15)
    assert (ladder.distance == 10).all()
    assert ladder.candidates.tolist() == [rung for rung in rungs for _ in range(15)]
    for level in range(len(ladder)):
        is_free = (ladder.levels.boards[level] != WALL).flatten().tolist()
        counts = count_routes(is_free, offsets_of(11), int(ladder.levels.players[level]), None, 10)
        assert counts == (ladder.candidates[level], ladder.live[level])


def test_rows_of_a_candidate_ladder_are_matched_by_heading():
    ladder = candidate_ladder((2, 4, 8), 30, distance=10, size=9, seed=0)
    assert torch.equal(*ladder.heading.view(3, -1)[[0, 0, 1, 2]].chunk(2))
    assert 0 < int(ladder.heading.sum()) < len(ladder)
    for level in range(len(ladder)):
        board, start = ladder.levels.boards[level].flatten(), int(ladder.levels.players[level])
        goal = int((board == TARGET).nonzero())
        from_goal = search((board != WALL).tolist(), goal, offsets_of(9))
        crow = {
            square: (square // 9 - goal // 9) ** 2 + (square % 9 - goal % 9) ** 2
            for square in (start + offset for offset in offsets_of(9))
            if board[square] != WALL
        }
        nearest = min(crow, key=crow.get)
        assert len(set(crow.values())) == 2, "one of the two moves must look better"
        assert (from_goal[nearest] < from_goal[start]) == ladder.heading[level]


def test_a_candidate_ladder_has_no_place_twice_and_begins_with_a_shorter_one():
    ladder, shorter = (candidate_ladder((2, 4, 8), number, distance=10, size=9, seed=0) for number in (60, 25))
    goals = (ladder.levels.boards == TARGET).flatten(1).to(torch.uint8).argmax(1)
    places = torch.stack([ladder.layout_ids, ladder.levels.players, goals], dim=1)
    assert len(places.unique(dim=0)) == len(ladder)
    assert ladder.layout_ids.bincount().max() > 3, "some layouts have several rows"
    assert torch.equal(shorter.levels.players.view(3, -1), ladder.levels.players.view(3, -1)[:, :25])
    assert torch.equal(shorter.levels.boards[:25], ladder.levels.boards[:25])


def test_a_small_board_gives_all_the_rows_that_it_has(monkeypatch):
    monkeypatch.setattr("planprobe.subjects.envs.ladders.FEWEST_ROWS", 3)
    monkeypatch.setattr("planprobe.subjects.envs.generate_maze.PATIENCE", 100)
    all_rows = candidate_ladder((2, 3), 10**6, distance=4, size=7, seed=0)
    again = candidate_ladder((2, 3), 10**6 + 1, distance=4, size=7, seed=0)
    assert 3 <= len(all_rows) // 2 < 10**4
    assert torch.equal(all_rows.levels.boards, again.levels.boards)
    monkeypatch.setattr("planprobe.subjects.envs.ladders.FEWEST_ROWS", 10**6)
    with pytest.raises(TooFewLevelsError):
        candidate_ladder((2, 3), 10**6, distance=4, size=7, seed=0)


@pytest.mark.parametrize("rungs", [(), (0, 4), (4, 4)])
def test_rungs_that_mean_nothing_are_refused(rungs):
    with pytest.raises(RecipeError):
        distance_ladder(rungs, 5, seed=0)


def test_a_rung_out_of_reach_ends_with_an_error(monkeypatch):
    monkeypatch.setattr("planprobe.subjects.envs.ladders.FEWEST_LAYOUTS", 300)
    with pytest.raises(TooFewLevelsError, match="rungs closer together"):
        distance_ladder((4, 70), 5, size=9, seed=0)


# Sokoban -------------------------------------------------------------------------------------------------------------


def solve_one_box(is_free, width, target, box, player):
    """Fewest moves to solve from (box, player), None if unsolvable: a forward search over states."""
    queue, seen = deque([(box, player, 0)]), {(box, player)}
    while queue:
        box, player, moves = queue.popleft()
        if box == target:
            return moves
        for offset in offsets_of(width):
            ahead = player + offset
            state = (box + offset, ahead) if ahead == box else (box, ahead)
            if is_free[ahead] and is_free[state[0]] and state not in seen:
                seen.add(state)
                queue.append((*state, moves + 1))
    return None


def test_move_counts_are_those_of_a_plain_search_from_every_state():
    levels = generate_sokoban(4, size=6, num_boxes=(1, 1), seed=2)
    walls = levels.boards == WALL
    targets = ((levels.boards & TARGET) != 0).flatten(1).to(torch.uint8).argmax(1)
    table = count_moves_to_solve(walls, targets)
    for level in range(4):
        is_free = (~walls[level]).flatten().tolist()
        for box in range(36):
            for player in range(36):
                if is_free[box] and is_free[player] and box != player:
                    expected = solve_one_box(is_free, 6, int(targets[level]), box, player)
                else:
                    expected = None
                assert table[level, box, player] == (-1 if expected is None else expected)
    assert (table > 0).any()
    assert (table == -1).any()


def test_pushes_of_a_board_drawn_by_hand():
    levels = as_levels("####### #-----# #-----# #@$--.# #-----# #-----# #######")
    assert count_moves_by_push(levels).tolist() == [[9, 9, -1, 3]]  # pushed left, the box is stuck at the wall


def test_boards_with_two_boxes_are_refused():
    with pytest.raises(ShapeError):
        count_moves_by_push(as_levels("##### #@$$# #..-# #---# #####"))


def test_two_route_sokoban_is_what_it_claims():
    routes = two_route_sokoban(40, seed=0, split="train")
    for level in range(40):
        board = routes.levels.boards[level].flatten()
        box, target = int(((board & BOX) != 0).nonzero()), int(((board & TARGET) != 0).nonzero())
        is_free = ((board & WALL) == 0).tolist()
        can_walk = [free and square != box for square, free in enumerate(is_free)]
        push_square = check_two_routes(routes, level, can_walk, 7)
        offset = offsets_of(7)[routes.push_action[level]]
        assert push_square == box - offset, "both ways end where the box is pushed from"
        # the push is the only best one: every other first push from anywhere costs more
        walk = search(can_walk, int(routes.levels.players[level]), offsets_of(7))
        totals = {}
        for other in offsets_of(7):
            if box - other in walk and is_free[box + other]:
                rest = solve_one_box(is_free, 7, target, box + other, box)
                if rest is not None:
                    totals[other] = walk[box - other] + 1 + rest
        assert [push for push, total in totals.items() if total == min(totals.values())] == [offset]
        best = solve_one_box(is_free, 7, target, box, int(routes.levels.players[level]))
        assert best == totals[offset] > routes.short_length[level]
    assert routes.gap.min() >= 2
    assert routes.short_length.min() >= 3
    assert len(set(routes.levels.canonical_keys(with_player=False))) == 40
    assert set(split_names(routes.levels, with_player=False)) == {"train"}
    assert two_route_sokoban(10, seed=0, split="train").levels.hash() == routes.levels[:10].hash()


def play_box_route(is_free, width, start, box_squares):
    """Moves it takes to push the box along these squares, by the book; the last push leaves the player behind it."""
    moves, player = 0, start
    for box, ahead in itertools.pairwise(box_squares):
        walk = search([free and square != box for square, free in enumerate(is_free)], player, offsets_of(width))
        moves += walk[box - (ahead - box)] + 1
        player = box
        assert is_free[ahead]
        assert ahead - box in offsets_of(width)
    return moves


def test_two_box_routes_are_what_they_claim():
    routes = two_route_boxes(40, seed=0, split="train")
    for level in range(40):
        board, start = routes.levels.boards[level].flatten(), int(routes.levels.players[level])
        is_free = ((board & WALL) == 0).tolist()
        box, target = int(((board & BOX) != 0).nonzero()), int(((board & TARGET) != 0).nonzero())
        firsts = []
        for route, action, moves in (
            (routes.short_route[level], routes.short_action[level], routes.short_moves[level]),
            (routes.long_route[level], routes.long_action[level], routes.long_moves[level]),
        ):
            squares = [square for square in route.tolist() if square >= 0]
            assert route.tolist()[len(squares) :] == [-1] * (len(route) - len(squares))
            assert (squares[0], squares[-1]) == (box, target)
            assert squares.count(box) == 1
            assert squares[1] == box + offsets_of(7)[action]
            # playing the route costs what is claimed, and no solution that begins so is cheaper
            assert play_box_route(is_free, 7, start, squares) == moves
            can_walk = [free and square != box for square, free in enumerate(is_free)]
            rest = solve_one_box(is_free, 7, target, squares[1], box)
            assert search(can_walk, start, offsets_of(7))[2 * box - squares[1]] + 1 + rest == moves
            firsts.append(squares)
        assert solve_one_box(is_free, 7, target, box, start) == routes.short_moves[level]
        inside = firsts[0][1:-1]
        assert sum(square in firsts[1] for square in inside) <= len(inside) / 2
    assert routes.gap.min() >= 2
    assert (routes.short_action != routes.long_action).all()
    assert two_route_boxes(10, seed=0, split="train").levels.hash() == routes.levels[:10].hash()
    assert set(split_names(routes.levels, with_player=False)) == {"train"}


def test_the_long_way_of_a_box_never_brings_it_back():
    """Without the demand on shared squares half of the second-best solutions push the box to and fro."""
    routes = two_route_boxes(40, seed=0, split="train", max_shared=1.0)
    assert ((routes.long_route == routes.long_route[:, :1]).sum(1) == 1).all()
