"""Erasure in running nets whose plan code is known, and in nets that learned or drew theirs."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hand_built_policies import CHANNELS, OneShotPlanner
from noisy_planner import NoisyPlanner

from planprobe.core.errors import AddressError, ShapeError, UnknownNameError, UnknownSiteError
from planprobe.core.play import play
from planprobe.instruments.concepts.catalog import States, behaviour_futures, sample_states
from planprobe.instruments.erasure.erased_play import Trial
from planprobe.instruments.erasure.erasure import check_erasure, fit_erasure
from planprobe.instruments.erasure.targets import concept_target
from planprobe.instruments.hooks import capture, intervene, open_policy
from planprobe.subjects.envs.catalog import named_levels
from planprobe.subjects.envs.first_moves import optimal_first_moves
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.nets import make_net
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.organisms.families import named_task
from planprobe.subjects.recipe import NetRecipe
from planprobe.subjects.training.evaluate import env_maker

SITE = "ticks.*.0.hook_c"
CONCEPT = concept_target("agent-approach-direction")
make_maze = partial(Maze, time_limit=60, autoreset=False)


@pytest.fixture(scope="module")
def mazes():
    return generate_mazes(60, size=11, braid=0.3, seed=11, split="valid")


@pytest.fixture(scope="module")
def planner():
    return open_policy(NoisyPlanner(spread=0.3))


@pytest.fixture(scope="module")
def erasure(planner, mazes):
    return fit_erasure(planner, make_maze, mazes[:40], CONCEPT, sites=SITE, per_level=2, sweeps=1)


def floor_of(levels):
    return levels.boards != 1


def test_the_planted_directions_are_found(erasure, planner):
    """The subspace that is taken out of a site is the one that differs between the planner's codes."""
    codes = planner.code_vectors
    expected = torch.linalg.qr((codes[1:] - codes[0]).T.double()).Q
    first, second = erasure.erasers.values()
    found = torch.linalg.qr(first.left).Q
    cosines = torch.linalg.svdvals(expected.T @ found)
    assert first.rank == 4
    assert math.degrees(math.acos(min(1.0, float(cosines[-1])))) < 15  # the largest angle between the two
    assert second.rank == 0  # the second tick only hands on what the first one holds
    assert all(share == pytest.approx(1, abs=1e-3) for share in erasure.explained.values())


def test_nothing_is_left_and_walls_are_left_alone(erasure, planner, mazes):
    others = mazes[40:]
    checks = check_erasure(planner, make_maze, others, CONCEPT, erasure, per_level=3)
    assert [row["site"] for row in checks] == ["ticks.0.0.hook_c", "ticks.1.0.hook_c"]
    for row in checks:
        assert row["explained_before"] > 0.99
        assert row["explained_after"] < 3 * CHANNELS / row["rows"] + 0.02
    ids = torch.arange(len(others))
    env, floor = make_maze(others, len(ids)), floor_of(others)
    with capture(planner, SITE) as clean:
        play(planner, env, ids, max_steps=1)
    with intervene(planner, erasure.edits(floor)), capture(planner, SITE) as erased:
        play(planner, env, ids, max_steps=1)
    before, after = (cache["ticks.0.0.hook_c"][:, 0].movedim(1, -1) for cache in (clean, erased))
    assert torch.equal(before[~floor], after[~floor])
    by_hand = erasure.erasers["ticks.0.0.hook_c"].erase(before[floor])
    assert torch.allclose(after[floor], by_hand, atol=1e-5) and (by_hand - before[floor]).abs().max() > 0.1


def test_an_obeyed_plan_is_needed_and_a_bystander_is_not(erasure, planner, mazes):
    others = mazes[40:52]
    trial = Trial(make_maze, others)
    random = erasure.randomised(4, seed=0)
    assert trial.run(planner).per_level("solved").mean() == 1
    erased = trial.run(planner, erasure).per_level("solved").mean()
    assert erased < 0.3
    wide = trial.run(planner, random)
    assert wide.values["solved"].shape == (12, 4)
    assert wide.per_level("solved").mean() > erased + 0.2
    idle = open_policy(NoisyPlanner(obeys=False))
    idle_erasure = fit_erasure(idle, make_maze, mazes[:20], CONCEPT, sites=SITE, per_level=2, sweeps=1)
    assert trial.run(idle, idle_erasure).per_level("solved").mean() == 1


def test_what_comes_with_thinking_is_taken_out_where_it_was_fitted_after_thinking():
    """A wave has not arrived in the first steps: erasers fitted there leave enough of its marks for who thinks first."""
    task = named_task("maze", 9)
    net = make_organism("wavefront", task, 300).policy
    opened = open_policy(net)
    fit, far = named_levels(task, "valid", 60), named_levels(task, "far", 60)
    moves = optimal_first_moves(far, "maze")
    trial = Trial(env_maker(replace(task, eval_time_limit=1)), far, moves, thinking_steps=8, max_steps=1)
    last = f"ticks.{net.num_ticks - 1}.0.hook_"

    def left(thinking_steps):
        erasure = fit_erasure(
            opened, env_maker(task), fit, CONCEPT, sites=[last + "c", last + "h"], per_level=4, sweeps=1,
            thinking_steps=thinking_steps,
        )  # fmt: skip
        return trial.run(opened, erasure).per_level("first_move_thought").mean(), max(erasure.explained.values())

    (early, early_share), (late, late_share) = left(0), left(8)
    assert early_share < 0.8 < 0.95 < late_share  # of the concept that a linear guess accounts for
    assert late < early - 0.2


def test_each_board_gets_its_own_draw(erasure, planner, mazes):
    """Levels x draws in one batch = every draw by itself."""
    random, few = erasure.randomised(3, seed=3), mazes[50:54]
    together = Trial(make_maze, few).run(planner, random).values["solved"]
    ids = torch.arange(4)
    for draw in range(3):
        with intervene(planner, random.edits(floor_of(few), draws=torch.full((4,), draw))):
            alone = play(planner, make_maze(few, 4), ids).solved
        assert alone.tolist() == together[:, draw].astype(bool).tolist()


def wall_above(rollout, states, levels):
    """Whether the square above is a wall, (M, H, W, 1)."""
    walls = (levels.boards[rollout.level_ids[states.board_ids]] == 1).float()
    return torch.nn.functional.pad(walls, (0, 0, 1, 0))[:, :-1, :, None]


def player_row(rollout, states, levels):
    """Row of the board where the agent stands, (M, 1)."""
    return (rollout.positions[states.board_ids, states.steps] // levels.width)[:, None].double()


def test_several_sweeps_and_sites_in_a_net_with_memory(mazes):
    """What is erased at one site must not come back at the next; joint erasers do that too and move less."""
    net = make_net(
        NetRecipe(kind="drc", channels=8, num_layers=1, num_ticks=2, head="pool", hidden=8),
        planes=3,
        board=(11, 11),
        num_actions=4,
    )
    opened = open_policy(net)
    options = {"sites": "ticks.*.0.hook_h", "per_level": 3, "max_steps": 6}
    fits = {
        name: fit_erasure(opened, make_maze, mazes[:30], wall_above, **options, **how)
        for name, how in {"once": {"sweeps": 1}, "again": {"sweeps": 2}, "joint": {"sweeps": 2, "joint": True}}.items()
    }
    left = {
        name: [
            row["explained_after"]
            for row in check_erasure(opened, make_maze, mazes[:30], wall_above, fit, per_level=3, max_steps=6)
        ]
        for name, fit in fits.items()
    }
    assert min(fits["once"].explained.values()) > 0.3
    assert max(left["again"]) < 0.02 and max(left["joint"]) < 0.02
    assert max(left["again"]) < max(left["once"])
    first, second = fits["joint"].erasers.values()
    assert second.right.shape[1] == 16 and first.right.shape[1] == 8
    assert second.moved < list(fits["again"].erasers.values())[1].moved
    board = fit_erasure(opened, make_maze, mazes[:30], player_row, scope="board", sweeps=1, **options)
    assert board.erasers["ticks.0.0.hook_h"].left.shape[0] == 8 * 121


def test_targets(mazes):
    rollout = play(OneShotPlanner(), make_maze(mazes, 20), torch.arange(20), keep_observations=True)
    states = sample_states(rollout, per_level=3, seed=0)
    whole = CONCEPT(rollout, states, mazes)
    assert whole.shape == (len(states), 11, 11, 5)
    floor = floor_of(mazes)[rollout.level_ids[states.board_ids]]
    assert torch.equal(whole.isnan().any(-1), ~floor)
    assert (whole[floor].sum(-1) == 1).all()
    near = concept_target("agent-approach-direction", horizon=(0, 0))(rollout, states, mazes)
    assert (near[..., 1:].nansum((1, 2, 3)) == 1).all()  # one square is entered by this very action
    far = concept_target("agent-approach-direction", horizon=(1, 99))(rollout, states, mazes)
    assert torch.equal(near[floor][:, 1:] + far[floor][:, 1:], whole[floor][:, 1:])
    planned = concept_target("agent-approach-direction", planner=lambda seen: behaviour_futures(rollout, states))
    assert torch.equal(planned(rollout, states, mazes)[floor], whole[floor])
    actions = concept_target("action-ahead-1")(rollout, states, mazes)
    over = states.steps + 1 >= rollout.lengths[states.board_ids]
    assert torch.equal(actions.isnan().all(1), over)
    known = ~over
    assert torch.equal(actions[known].argmax(1), rollout.actions[states.board_ids[known], states.steps[known] + 1])
    first = States(torch.arange(20), torch.zeros(20, dtype=torch.int64))
    assert torch.equal(concept_target("steps-left")(rollout, first, mazes)[:, 0], rollout.lengths.float())


def test_wrong_requests(planner, mazes, erasure):
    with pytest.raises(UnknownSiteError, match="hook_c"):
        fit_erasure(planner, make_maze, mazes, CONCEPT, sites="ticks.*.0.hook_k")
    with pytest.raises(ShapeError, match="sweeps"):
        fit_erasure(planner, make_maze, mazes, CONCEPT, sites=SITE, sweeps=0)
    with pytest.raises(ShapeError, match="scope='square'"):
        fit_erasure(planner, make_maze, mazes[:2], CONCEPT, sites=SITE, scope="board")
    with pytest.raises(ShapeError, match="horizon"):
        concept_target("agent-approach-direction", horizon=(3, 2))
    with pytest.raises(ShapeError, match="horizon"):
        concept_target("steps-left", horizon=(0, 2))
    with pytest.raises(ShapeError, match="needs distance"):
        fit_erasure(planner, make_maze, mazes[:2], concept_target("distance-to-goal"), sites=SITE, scope="board")
    trial = Trial(make_maze, mazes)
    with pytest.raises(UnknownNameError, match="solved"):
        trial.check_measure("solvd")
    with pytest.raises(AddressError, match="first_moves"):
        trial.check_measure("first_move")
    with pytest.raises(AddressError, match="thinking_steps"):
        trial.check_measure("solved_gain")
    with pytest.raises(AddressError, match="whole episodes"):
        Trial(make_maze, mazes, max_steps=1).check_measure("solved")
    with pytest.raises(ShapeError, match="first_moves"):
        Trial(make_maze, mazes, first_moves=torch.ones(3, 4, dtype=torch.bool))
