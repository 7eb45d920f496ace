"""Steering on planners that are obeyed, or not read, by construction."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hand_built_policies import CHANNELS, OneShotPlanner

from planprobe.core.errors import AddressError, DirectionError, ShapeError
from planprobe.core.levels import LevelSet
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.steering.directions import (
    PlanDirections,
    mean_difference_directions,
    permuted_tables,
    probe_directions,
    random_tables,
)
from planprobe.instruments.steering.route_edits import (
    long_squares,
    players_elsewhere,
    route_edits,
    short_only,
    shuffled_edits,
    swap_routes,
)
from planprobe.instruments.steering.steering import SteeringPlan, measure_spill, steer_routes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.stimuli import two_route_mazes
from planprobe.subjects.nets import make_net
from planprobe.subjects.recipe import NetRecipe

SITE = "ticks.*.0.hook_c"
make_maze = partial(Maze, time_limit=60, autoreset=False)
UP, DOWN, LEFT, RIGHT = 1, 2, 3, 4


@pytest.fixture(scope="module")
def routes():
    return two_route_mazes(12, size=11, seed=1)


@pytest.fixture(scope="module")
def planner():
    return open_policy(OneShotPlanner())


@pytest.fixture(scope="module")
def directions():
    return probe_directions(OneShotPlanner().code_vectors, site=SITE)


def steer(policy, routes, directions, arm, alpha, *, tables=None, edits=None, **plan):
    plan = SteeringPlan(**({"num_squares": 40} | plan))
    edits = edits or route_edits(routes, arm, num_squares=plan.num_squares)
    tables = alpha * (directions.vectors[None] if tables is None else tables)
    ids = torch.arange(len(routes.levels))
    return steer_routes(policy, make_maze, routes, ids, edits, tables, directions=directions, plan=plan)


# which squares -------------------------------------------------------------------------------------------------------
def two_ways():
    """Start 6 on a 5 x 5 board; short way right, right, down, down to 18; long way down, down, right, right."""
    boards = torch.ones(1, 5, 5, dtype=torch.uint8)
    boards[0, 1:4, 1:4] = 0
    boards[0, 2, 2] = 1
    short = torch.tensor([[6, 7, 8, 13, 18, -1]])
    long = torch.tensor([[6, 11, 16, 17, 18, -1]])
    return SimpleNamespace(levels=LevelSet(boards, torch.tensor([6])), short_route=short, long_route=long)


def test_edits_of_each_arm():
    block = route_edits(two_ways(), "block", num_squares=2)
    assert block.squares.tolist() == [[[7, 8]]] and block.classes.tolist() == [[0, 0]]
    direct = route_edits(two_ways(), "direct", num_squares=3)
    assert direct.squares.tolist() == [[[11, 16, 17]]] and direct.classes.tolist() == [[DOWN, DOWN, RIGHT]]
    leaving = route_edits(two_ways(), "direct", num_squares=3, convention="exit")
    assert leaving.squares.tolist() == [[[6, 11, 16]]] and leaving.classes.tolist() == [[DOWN, DOWN, RIGHT]]
    both = route_edits(two_ways(), "both", num_squares=1)
    assert both.squares.tolist() == [[[7, 11]]] and both.classes.tolist() == [[0, DOWN]]
    assert route_edits(two_ways(), "none", num_squares=3).squares.numel() == 0
    with pytest.raises(AddressError, match="bloc"):
        route_edits(two_ways(), "bloc", num_squares=3)


def test_shared_squares_and_ends_are_left_out():
    assert short_only(two_ways()).tolist() == [[7, 8, 13, -1, -1, -1]]
    whole = route_edits(two_ways(), "direct", num_squares=9)
    assert whole.squares.tolist() == [[[11, 16, 17, 18, -1]]]
    squares, moves = long_squares(swap_routes(two_ways()), "entry")
    assert squares.tolist() == [[7, 8, 13, 18, -1]] and moves.tolist() == [[RIGHT, RIGHT, DOWN, DOWN, -1]]


def test_shuffled_squares_are_floor_off_both_ways(routes):
    edits = route_edits(routes, "both", num_squares=3)
    shuffled = shuffled_edits(edits, routes, 5, seed=0)
    assert shuffled.squares.shape == (12, 5, 6) and torch.equal(shuffled.classes, edits.classes)
    walls = routes.levels.boards.flatten(1) == 1
    for level in range(12):
        on_routes = set(routes.short_route[level].tolist()) | set(routes.long_route[level].tolist())
        for table in range(5):
            squares = [square for square in shuffled.squares[level, table].tolist() if square >= 0]
            assert len(set(squares)) == len(squares) <= int((edits.squares[level] >= 0).sum())
            assert not walls[level, squares].any() and not on_routes & set(squares)
    assert torch.equal(shuffled.squares[:, :2], shuffled_edits(edits, routes, 2, seed=0).squares)
    assert not torch.equal(shuffled.squares[:, 0], shuffled.squares[:, 1])
    players = players_elsewhere(routes, seed=0).players
    assert not any(players[level] in routes.long_route[level] for level in range(12))


# directions ----------------------------------------------------------------------------------------------------------
def test_tables_of_directions(directions):
    tables = random_tables(30, CHANNELS, seed=3)
    assert torch.allclose(tables.norm(dim=2), torch.ones(30, 5))
    assert torch.equal(tables[:7], random_tables(7, CHANNELS, seed=3))
    permuted = permuted_tables(directions.vectors, 20, seed=0)
    for table in permuted:
        assert torch.equal(table.sort(dim=0).values, directions.vectors.sort(dim=0).values)
        assert not (table == directions.vectors).all(dim=1).any()


def test_mean_difference_finds_planted_directions():
    generator = torch.Generator().manual_seed(0)
    planted = torch.linalg.qr(torch.randn(12, 5, generator=generator))[0].T
    labels = torch.randint(0, 5, (4000,), generator=generator)
    labels[:2000] = 0  # classes are of very different size
    values = 3 * planted[labels] + 0.3 * torch.randn(4000, 12, generator=generator)
    found = mean_difference_directions(values, labels, site=SITE)
    expected = planted - planted.mean(0)
    cosines = (found.vectors * expected / expected.norm(dim=1, keepdim=True)).sum(1)
    assert cosines.min() > 0.98
    boards = values[:50].T.reshape(1, 12, 5, 10)
    assert (found.read(boards).flatten() == labels[:50]).float().mean() > 0.95
    with pytest.raises(ShapeError, match="every class"):
        mean_difference_directions(values[:2000], labels[:2000], site=SITE)


def test_directions_must_be_unit_vectors_of_five_classes():
    with pytest.raises(DirectionError, match="norm 1"):
        PlanDirections(torch.full((5, 8), 1.0), SITE)
    with pytest.raises(ShapeError, match="never"):
        PlanDirections(torch.eye(8)[:4], SITE)


# steering ------------------------------------------------------------------------------------------------------------
def test_an_obeyed_plan_redirects_the_whole_route(planner, routes, directions):
    alone = steer(planner, routes, directions, "none", 0.0)
    assert alone.took_short.mean() == 1 and alone.took_long.mean() == 0 and alone.solved.mean() == 1
    assert torch.equal(alone.num_steps[:, 0].long(), routes.short_length)
    steered = steer(planner, routes, directions, "both", 3.0)
    assert steered.took_long.mean() == 1 and steered.agreement.mean() == 1 and steered.solved.mean() == 1
    assert torch.equal(steered.num_steps[:, 0].long(), routes.long_length)


def test_the_plan_is_read_before_the_first_action(planner, routes, directions):
    alone = steer(planner, routes, directions, "none", 0.0, num_squares=1)
    assert alone.short_decoded.nanmean() == 1 and alone.long_decoded.nanmean() == 0
    # this planner does not plan anew: what was not edited stays as it was
    edited = steer(planner, routes, directions, "both", 3.0, num_squares=1)
    assert edited.long_decoded.nanmean() == 0 and edited.took_long.mean() == 1
    assert edited.agreement.mean() < 0.5


def test_a_plan_that_is_not_read_redirects_nothing(routes, directions):
    steered = steer(open_policy(OneShotPlanner(obeys=False)), routes, directions, "both", 30.0)
    assert steered.took_short.mean() == 1 and steered.agreement.max() < 1


def test_wrong_squares_names_and_directions_do_not_redirect(planner, routes, directions):
    edits = shuffled_edits(route_edits(routes, "both", num_squares=3), routes, 3, seed=0)
    tables = directions.vectors.expand(3, -1, -1)
    assert steer(planner, routes, directions, "both", 3.0, edits=edits, tables=tables).took_long.mean() == 0
    wrong = steer(planner, routes, directions, "direct", 3.0, tables=permuted_tables(directions.vectors, 8, seed=0))
    right = steer(planner, routes, directions, "direct", 3.0)
    assert right.took_long.mean() == 1 and wrong.took_long.mean() < 0.5
    random = steer(planner, routes, directions, "both", 1.0, tables=random_tables(20, CHANNELS, seed=0))
    assert random.took_long.shape == (12, 20) and random.took_long.mean() < 0.1


def test_strength_zero_is_the_identity_on_a_real_net(routes):
    torch.manual_seed(0)
    net = make_net(NetRecipe(num_ticks=2, channels=8), planes=3, board=(11, 11), num_actions=4)
    opened = open_policy(net)
    directions = PlanDirections(random_tables(1, 8, seed=0)[0], SITE, weights=torch.randn(5, 8), bias=torch.zeros(5))
    alone = steer(opened, routes, directions, "none", 0.0)
    nothing = steer(opened, routes, directions, "both", 0.0)
    for name, value in vars(alone).items():
        assert torch.equal(value.nan_to_num(-1), getattr(nothing, name).nan_to_num(-1)), name
    alone = steer(opened, routes, directions, "none", 0.0, num_squares=2)
    something = steer(opened, routes, directions, "both", 50.0, num_squares=2)
    assert not torch.equal(something.long_decoded.nan_to_num(-1), alone.long_decoded.nan_to_num(-1))
    spill = partial(
        measure_spill, opened, make_maze, routes, torch.arange(12), route_edits(routes, "both", num_squares=3),
        directions=directions, plan=SteeringPlan(), seed=0,
    )  # fmt: skip
    assert spill(0 * directions.vectors[None]).abs().max() == 0
    assert spill(50 * directions.vectors[None]).mean() > 0
    assert not any(point._forward_hooks for point in opened.hook_dict.values())


def test_batches_do_not_matter(planner, routes, directions):
    tables = random_tables(5, CHANNELS, seed=1)
    whole, pieces = (
        steer(planner, routes, directions, "both", 4.0, tables=tables, num_boards=number) for number in (250, 7)
    )
    for name, value in vars(whole).items():
        assert torch.equal(value.nan_to_num(-1), getattr(pieces, name).nan_to_num(-1)), name
    one = steer(planner, routes, directions, "both", 4.0, tables=tables[3:4])
    assert torch.equal(one.took_long[:, 0], whole.took_long[:, 3])


def test_stopping_once_the_start_is_left_changes_no_way(planner, routes, directions):
    tables = random_tables(5, CHANNELS, seed=1)
    whole, leaving = (
        steer(planner, routes, directions, "both", 4.0, tables=tables, leaving_only=which) for which in (False, True)
    )
    for name in ("took_long", "took_short", "long_decoded", "short_decoded"):
        assert torch.equal(getattr(whole, name).nan_to_num(-1), getattr(leaving, name).nan_to_num(-1)), name
    assert not leaving.solved.any() and whole.solved.any()


def test_how_long_the_edit_lasts(planner, routes, directions):
    none = steer(planner, routes, directions, "both", 3.0, steps=0)
    assert none.took_short.mean() == 1
    # the edit stays in memory, so one step of it is enough for this planner
    assert steer(planner, routes, directions, "both", 3.0, steps=1).agreement.mean() == 1
    thinking = steer(planner, routes, directions, "both", 3.0, thinking_steps=2)
    assert thinking.agreement.mean() == 1


def test_an_agent_that_stands_still_is_no_success(routes, directions):
    class Wall(OneShotPlanner):
        def step(self, observation, state):
            _, value, state = super().step(observation, state)
            walls = (
                observation[:, 0]
                .flatten(1)
                .gather(1, observation[:, 2].flatten(1).argmax(1)[:, None] + torch.tensor([-11, 11, -1, 1]))
            )
            return walls.float(), value, state

    steered = steer(open_policy(Wall()), routes, directions, "both", 3.0)
    assert steered.took_long.max() == 0 and steered.took_short.max() == 0 and steered.agreement.max() == 0
