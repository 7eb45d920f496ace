"""What an edit may not write: walls, targets and players; and the memory that it is written into."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from planprobe.core.play import play
from planprobe.instruments.detectors import plan_steering
from planprobe.instruments.detectors.plan_steering import Battery
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.steering.directions import PlanDirections, without_percepts
from planprobe.instruments.steering.route_edits import free_floor, route_edits, squares_on
from planprobe.instruments.steering.steering import SteeringPlan, settle, settled_values, steer_routes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.stimuli import two_route_mazes
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.organisms.families import named_task

SITE = "ticks.*.0.hook_c"
TASK = named_task("maze", 9)
WALL_CODE, TARGET_CODE, PLAYER_CODE, VISIT, FREE = range(5)  # channels of a memory made up by hand
EVERY = torch.arange(20)
make_maze = partial(Maze, time_limit=40, autoreset=False)


@pytest.fixture(scope="module")
def routes():
    return two_route_mazes(20, size=9, seed=3)


@pytest.fixture(scope="module")
def memory(routes):
    """(N, H*W, 5): each thing in a channel of its own, and 1 on the squares of the short way that are entered."""
    boards = routes.levels.boards.flatten(1)
    player = squares_on(routes.levels.players[:, None], 81)
    entered = squares_on(routes.short_route, 81) & ~player
    channels = [boards == 1, boards == 2, player, entered, torch.zeros_like(player)]
    return torch.stack(channels, dim=2).float()


def test_things_go_and_the_plan_stays(routes, memory):
    never, mixed = [1.0, -1.0, 1.0, -1.0, 0.0], [-1.0, 2.0, -1.0, 1.0, 1.0]
    vectors = torch.tensor([never, mixed, [0, 0, 0, 1.0, 0], [1.0, 1.0, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    expected = torch.tensor([[0, 0, 0, -1.0, 0], [0, 0, 0, 1.0, 1.0], [0, 0, 0, 1.0, 0], [0.0] * 5, [0, 0, 0, 0, 1.0]])
    torch.testing.assert_close(without_percepts(vectors, memory, routes, EVERY), expected, atol=1e-5, rtol=0)


def test_axes_come_from_the_levels_that_were_named(routes, memory):
    """What stands in memory on the levels that are reported says nothing: strengths and axes are of the others."""
    vectors = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    changed = memory.clone()
    changed[10:] = torch.randn(memory[10:].shape, generator=torch.Generator().manual_seed(1))
    first = without_percepts(vectors, memory, routes, EVERY[:10])
    torch.testing.assert_close(without_percepts(vectors, changed, routes, EVERY[:10]), first)
    assert not torch.allclose(without_percepts(vectors, changed, routes, EVERY), first)


def test_a_target_is_compared_with_squares_that_are_entered_too(routes, memory):
    """Against floor off the ways it would differ by the plan as well, and the plan would be taken out with it."""
    on_target = routes.levels.boards.flatten(1) == 2
    assert bool((memory[..., VISIT][on_target] == 1).all())
    axis = memory[on_target].mean(0) - memory[free_floor(routes)].mean(0)
    assert axis[VISIT] > 0.5
    visit = torch.eye(5)[VISIT].expand(5, -1)
    torch.testing.assert_close(without_percepts(visit, memory, routes, EVERY), visit, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def reflex():
    return make_organism("reflex", TASK, 301).policy


@pytest.fixture(scope="module")
def signs(reflex):
    """Directions that write a wall for *never* and a target for every move: a lever on who goes by what it sees."""
    plain = torch.zeros(5, reflex.channels)
    plain[0, reflex.slots["wall"]], plain[1:, reflex.slots["target"]] = 1.0, 1.0
    return PlanDirections(plain @ reflex.mix_cell.T, SITE)


def test_a_reflex_goes_by_a_board_that_is_built_for_it_and_by_no_edit_of_a_plan(routes, reflex, signs):
    opened = open_policy(reflex)
    edits, ids = route_edits(routes, "both", num_squares=3), torch.arange(20)
    plan = SteeringPlan(leaving_only=True, leave_steps=4)
    built, alone = (
        steer_routes(opened, make_maze, routes, ids, edits, alpha * signs.vectors[None], directions=signs, plan=plan)
        for alpha in (4.0, 0.0)
    )
    assert built.took_long.mean() > alone.took_long.mean() + 0.4
    evidence = plan_steering.run(
        opened, make_maze, routes, signs, min_effect=0.1, alphas=(4.0,), battery=Battery(2, 1, 1, 1), plan=plan
    )
    assert abs(evidence.effect.value) < 0.15


# settling ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def planner():
    return open_policy(make_organism("wavefront", TASK, 300).policy)


def test_settling_is_thinking_with_nothing_edited(routes, planner):
    levels, ids = routes.levels, torch.arange(20)
    memory = settle(planner, make_maze, levels, steps=5)
    assert settle(planner, make_maze, levels, steps=0) is None
    settled = play(planner, make_maze(levels, 20), ids, initial_state=memory, max_steps=3)
    thought = play(planner, make_maze(levels, 20), ids, thinking_steps=5, max_steps=3)
    torch.testing.assert_close(settled.logits, thought.logits)
    values = settled_values(planner, make_maze, levels, SITE, memory)
    assert values.shape == (20, 81, planner.channels)
    assert not torch.equal(values, settled_values(planner, make_maze, levels, SITE, None))


def test_an_edit_starts_from_the_memory_it_is_given(routes, planner):
    """A wave that has not arrived leaves the agent to noise; once it has, it goes the short way, edits or no edits."""
    nothing = PlanDirections(torch.eye(planner.channels)[:5], SITE)
    edits, ids = route_edits(routes, "none", num_squares=3), torch.tensor([7, 2, 11])
    memory = settle(planner, make_maze, routes.levels, steps=12)
    steer = partial(
        steer_routes, planner, make_maze, routes, ids, edits, nothing.vectors[None], directions=nothing,
        plan=SteeringPlan(leaving_only=True),
    )  # fmt: skip
    assert steer(memory=memory).took_short.tolist() == [[1.0], [1.0], [1.0]]
    shifted = tuple(part.roll(1, 0) for part in memory)  # another level's memory: forgotten, as if there were none
    assert torch.equal(steer(memory=shifted).took_short, steer().took_short)


def test_a_settled_planner_is_redirected_from_a_way_it_is_sure_of(routes, planner):
    plain, marks = torch.zeros(5, planner.channels), planner.slots["plan"]
    plain[0, marks], plain[1:, marks] = -0.5, torch.eye(4)
    directions = PlanDirections(plain @ planner.mix_cell.T, SITE)
    evidence = plan_steering.run(
        planner, make_maze, routes, directions, min_effect=0.1, alphas=(2.0, 4.0), battery=Battery(20, 1, 1, 1),
        settle_steps=8, plan=SteeringPlan(leaving_only=True, leave_steps=2),
    )  # fmt: skip
    alone = next(row for row in evidence.rows if row["half"] == "report" and row["source"] == "no edit")
    assert alone["took_short"] == 1.0 and alone["success"] == 0.0
    assert evidence.effect.value == 1.0 and evidence.outcome == "supported"
