"""D9 on a planner that is obeyed and on one whose plan is never read."""

from functools import lru_cache, partial
from itertools import pairwise

import pytest
import torch
from noisy_planner import NoisyPlanner

from planprobe.core.errors import AddressError, ShapeError, TooFewLevelsError
from planprobe.instruments.detectors import necessity
from planprobe.instruments.erasure.erased_play import Trial
from planprobe.instruments.erasure.erasure import fit_erasure
from planprobe.instruments.erasure.targets import concept_target
from planprobe.instruments.hooks import open_policy
from planprobe.subjects.envs.catalog import distances_to_goal
from planprobe.subjects.envs.distance import optimal_action_mask
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze

SITE, CONCEPT = "ticks.*.0.hook_c", "agent-approach-direction"
FIT = {"sites": SITE, "per_level": 2, "sweeps": 1}
make_maze = partial(Maze, time_limit=25, autoreset=False)


@pytest.fixture(scope="module")
def mazes():
    return generate_mazes(70, size=11, braid=0.3, seed=21, split="test")


@lru_cache
def fitted(obeys):
    """An opened planner and its erasures by horizon; the first levels are for fitting."""
    opened, levels = open_policy(NoisyPlanner(obeys)), generate_mazes(70, size=11, braid=0.3, seed=21, split="test")
    return opened, {
        horizon: fit_erasure(opened, make_maze, levels[:30], concept_target(CONCEPT, horizon=horizon), **FIT)
        for horizon in ((None, (0, 0), (1, 99)) if obeys else (None,))
    }


def first_moves(levels):
    optimal = optimal_action_mask(distances_to_goal(levels)[0]).flatten(2)
    return optimal.gather(2, levels.players[:, None, None].expand(-1, 4, 1)).squeeze(2)


def run(mazes, *, obeys=True, max_steps=None, **options):
    (opened, fits), judged = fitted(obeys), mazes[30:]
    trial = Trial(make_maze, judged, first_moves(judged), max_steps=max_steps, thinking_steps=options.pop("think", 0))
    options = {"min_effect": 0.2, "num_random": 30, "distances": distances_to_goal(judged)[1]} | options
    return necessity.run(opened, trial, fits[None], **options)


@pytest.fixture(scope="module")
def obeyed(mazes):
    told = []
    parts = {f"{first} to {last}": fitted(True)[1][first, last] for first, last in ((0, 0), (1, 99))}
    return run(mazes, max_steps=1, measure="first_move", on_progress=told.append, parts=parts), told


def only(evidence, **wanted):
    rows = [row for row in evidence.rows if all(row[key] == value for key, value in wanted.items())]
    assert len(rows) == 1, wanted
    return rows[0]


def test_an_obeyed_plan_is_needed(obeyed):
    evidence, told = obeyed
    assert evidence.detector == "D9" and evidence.outcome == "supported"
    assert evidence.effect.value > 0.4 and evidence.effect.n == 40
    assert evidence.beyond_controls.low > 0.1 and evidence.beyond_controls.p < 0.05
    assert set(evidence.controls) == set(necessity.CONTROLS)
    assert evidence.beyond_controls.value == pytest.approx(
        evidence.effect.value - max(effect.value for effect in evidence.controls.values())
    )
    assert told == sorted(told) and told[-1] == pytest.approx(1)
    assert any("too few" in note for note in evidence.notes)


def test_rows_break_the_drop_down(obeyed):
    evidence, _ = obeyed
    assert {row["measure"] for row in evidence.rows} == {"first_move"}  # one step says nothing about solving
    everything = only(evidence, levels="all", condition="plan erased")
    assert everything["lost"] == pytest.approx(evidence.effect.value)
    bins = [only(evidence, levels=f"distance bin {number}", condition="plan erased") for number in (1, 2, 3, 4)]
    assert sum(row["num_levels"] for row in bins) == 40
    assert sum(row["num_levels"] * row["lost"] for row in bins) == pytest.approx(40 * everything["lost"])
    assert all(a["distance_high"] <= b["distance_low"] for a, b in pairwise(bins))
    random = only(evidence, levels="all", condition="random subspaces")
    assert random["num_draws"] == 30 and random["least_rate_of_draws"] <= random["rate"]
    assert everything["more_than_random"] == pytest.approx(random["rate"] - everything["rate"])
    assert "more_than_random" not in random


def test_parts_of_the_plan_are_reported_beside_the_whole(obeyed):
    """This planner's code does not say when, so that any part of it takes the rest along."""
    evidence, _ = obeyed
    near, far = (only(evidence, levels="all", condition=f"plan erased, {part}") for part in ("0 to 0", "1 to 99"))
    assert near["lost"] > 0.2 and near["num_draws"] == 1
    random = only(evidence, levels="all", condition="random subspaces")
    for row in (near, far):
        assert row["more_than_random"] == pytest.approx(random["rate"] - row["rate"])


def test_a_plan_that_nobody_reads_is_refuted(mazes):
    evidence = run(mazes, obeys=False, max_steps=1, measure="first_move")
    assert evidence.effect.value == 0 and evidence.beyond_controls.value == 0
    assert evidence.power > 0.8 and evidence.outcome == "refuted"


def test_solving_and_thinking_are_measured(mazes):
    """Whole episodes of a planner that plans in its first step: thinking neither helps nor hurts it."""
    few = mazes[:45]
    evidence = run(few, num_random=1, measure="solved", think=1, num_bins=2)
    taken = {f"{what}{when}" for what in ("solved", "first_move") for when in ("", "_gain", "_thought")}
    assert {row["measure"] for row in evidence.rows} == taken
    for condition in {row["condition"] for row in evidence.rows}:
        rate = {name: only(evidence, levels="all", condition=condition, measure=name)["rate"] for name in taken}
        assert rate["first_move_thought"] == pytest.approx(rate["first_move"] + rate["first_move_gain"])
    assert only(evidence, levels="all", condition="nothing erased", measure="solved")["rate"] > 0.5
    assert only(evidence, levels="all", condition="nothing erased", measure="first_move_gain")["rate"] == 0
    assert evidence.effect.value > 0.4
    assert evidence.outcome == "inconclusive"  # one random subspace cannot show that the plan's is special


def test_an_agent_that_does_nothing_well_cannot_be_refuted(mazes):
    class Lost(NoisyPlanner):
        def step(self, observation, state):
            logits, value, state = super().step(observation, state)
            return -logits, value, state  # walks into walls

    opened, judged = open_policy(Lost()), mazes[30:]
    target = concept_target("agent-visit")
    with pytest.raises(ShapeError, match="nothing to erase"):  # it never moves, so it visits nothing
        fit_erasure(opened, make_maze, mazes[:12], target, sites=SITE, per_level=1, sweeps=1)
    erasure = fitted(False)[1][None]
    trial = Trial(make_maze, judged, first_moves(judged), max_steps=1)
    evidence = necessity.run(opened, trial, erasure, min_effect=0.2, measure="first_move", num_random=2)
    assert evidence.outcome == "inconclusive" and any("no room" in note for note in evidence.notes)


def test_wrong_requests(mazes):
    with pytest.raises(TooFewLevelsError, match="10"):
        run(mazes[:35])
    with pytest.raises(ShapeError, match="distances"):
        run(mazes[:45], distances=torch.zeros(3))
    with pytest.raises(ShapeError, match="num_random"):
        run(mazes[:45], num_random=0)
    with pytest.raises(AddressError, match="thinking_steps"):
        run(mazes[:45], measure="solved_gain")
