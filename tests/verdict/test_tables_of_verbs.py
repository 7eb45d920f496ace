"""Steering, subspaces and alignment from an agent in one call, on agents whose answer is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from planprobe.core.errors import NoContrastError, RecipeError
from planprobe.core.grid import WALL, move_offsets
from planprobe.instruments.detectors.plan_steering import Battery
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.steering.steering import SteeringPlan
from planprobe.subjects.envs.catalog import distances_to_goal
from planprobe.subjects.envs.distance import optimal_action_mask
from planprobe.subjects.nets.base import Taps
from planprobe.subjects.recipe import TaskRecipe
from planprobe.subjects.zoo import load_agent
from planprobe.verdict.align_table import align_table
from planprobe.verdict.steer_table import CELLS, HIDDEN, METHODS, default_site, fit_directions, steer_table
from planprobe.verdict.subspace_table import move_pairs, subspace_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bring_your_own.md"
LAST = "ticks.1.0.hook_h"
SMALL = Battery(num_random=2, num_random_choice=1, num_wrong=1, num_shuffles=1)
REACHED = 16  # thinking steps after which the planner knows its way


@pytest.fixture(scope="module")
def planner(tmp_path_factory):
    """The planner of the page on agents of one's own: what it does next is written on its own square."""
    folder = tmp_path_factory.mktemp("planner")
    (folder / "page_agent.py").write_text(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield load_agent("page_agent:make")


# pairs and subspaces -------------------------------------------------------------------------------------------------
def test_pairs_ask_for_moves_that_the_base_allows(planner):
    pairs, bases, sources = move_pairs(planner, 40, thinking_steps=REACHED, seed=3)
    assert len(pairs) == len(bases) == len(sources) == 40 and pairs.base.shape == (40, 1 + REACHED, 3, 9, 9)
    ahead = bases.players + move_offsets(9)[pairs.targets]
    assert ((bases.boards.flatten(1).gather(1, ahead[:, None]) & WALL) == 0).all()
    for levels, is_best in ((sources, True), (bases, None)):
        best = optimal_action_mask(distances_to_goal(levels)[0]).flatten(2)
        best = best.gather(2, levels.players[:, None, None].expand(-1, 4, 1)).squeeze(2)
        right = best.gather(1, pairs.targets[:, None])
        assert right.all() if is_best else not right.all()
    keys = [*bases.canonical_keys(), *sources.canonical_keys()]
    assert len(set(keys)) == len(keys)
    again = move_pairs(planner, 40, thinking_steps=REACHED, seed=3)[0]
    assert torch.equal(again.targets, pairs.targets)


def test_the_square_that_the_planner_reads_carries_its_move(planner):
    table = subspace_table(
        planner, sites=LAST, ranks=(4,), num_pairs=60, thinking_steps=REACHED, num_random=2, epochs=10, seed=1,
        learning_rate=0.05,
    )  # fmt: skip
    hits = {row["condition"]: row["hits"] for row in table.rows}
    assert hits["whole site"] == 1  # it acts on nothing else
    assert hits["no interchange"] == 0  # pairs are chosen so
    assert hits["learned subspace"] > hits["shuffled pairs"]
    assert set(table.fits) == {LAST} and len(table.losses) == 10
    assert not [name for name in hits if name.startswith("untrained")]  # no recipe tells its architecture


class Stubborn(nn.Module):
    """Always goes up. Its channels: where the target is, one square to the right; minus where the agent is; nothing."""

    def __init__(self):
        super().__init__()
        self.ticks = nn.ModuleList([nn.ModuleList([Taps(("h",))])])

    def initial_state(self, num_boards, board=None):
        return ()

    def step(self, observation, state):
        _, target, agent = observation.float().unbind(1)
        h = self.ticks[0][0]("h", torch.stack([target.roll(1, dims=2), -agent, 0 * agent], dim=1))
        logits = h.new_zeros(len(h), 4) + 0 * h.mean()
        return logits, logits[:, 0], ()


def make_stubborn():
    return Stubborn(), TaskRecipe(kind="maze", size=9, eval_time_limit=4)


def test_an_agent_with_one_move_has_no_pairs():
    with pytest.raises(NoContrastError, match="another move"):
        move_pairs(load_agent(f"{__name__}:make_stubborn"), 20)


# channels ------------------------------------------------------------------------------------------------------------
def test_channels_get_the_roles_that_were_built_in():
    table = align_table(
        load_agent(f"{__name__}:make_stubborn"), sites="ticks.*", concepts=(), reach=1, num_levels=40, per_level=2
    )
    assert table.candidates == ("target", "agent")  # no boxes in a maze
    (roles,) = table.roles.values()
    assert [role.role for role in roles] == ["target", "agent", None]
    assert [role.offset for role in roles[:2]] == [(0, 1), (0, 0)]
    assert [role.sign for role in roles[:2]] == [1, -1]
    assert all(role.correlation.value > 0.99 for role in roles[:2])
    assert [row["channel"] for row in table.rows] == [0, 1, 2]


# steering ------------------------------------------------------------------------------------------------------------
def test_a_planner_that_acts_on_its_marks_is_redirected():
    agent = load_agent("planprobe.subjects.organisms:wavefront_maze9_s3")
    table = steer_table(
        agent, alphas=(8,), battery=SMALL, num_levels=20, num_fit_levels=30, per_level=2,
        plan=SteeringPlan(thinking_steps=2, spare_steps=0, leave_steps=3),
    )  # fmt: skip
    assert table.evidence.effect.value > 0.5
    assert table.evidence.beyond_controls.value > 0.3
    assert len(table.routes.levels) == 20 and set(table.level_sets()) == {"steered", "fitted"}


def test_directions_by_read_out_and_by_means(planner):
    """The page's planner: what is beside the agent's way differs, class by class, whichever way it is told."""
    opened, levels = open_policy(planner.net), planner.levels("valid", 40)
    found = {}
    for method in METHODS:
        directions, score = fit_directions(opened, planner.make_env, levels, HIDDEN, method=method)
        assert (score is None) == (method == "mean-difference")
        assert directions.vectors.norm(dim=1) == pytest.approx(torch.ones(5).tolist(), abs=1e-4)
        found[method] = directions
    assert default_site(opened) == HIDDEN  # it has no cells
    similar = (found["probe"].vectors * found["mean-difference"].vectors).sum(1)
    assert similar.mean() > 0.2
    assert default_site(open_policy(load_agent("drc12-rl-maze11-s0").net)) == CELLS


def test_an_unknown_method_is_named(planner):
    with pytest.raises(RecipeError, match="probe or mean-difference"):
        steer_table(planner, method="guess")
