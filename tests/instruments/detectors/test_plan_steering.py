"""D7 on a planner that is obeyed and on one whose plan is never read."""

from functools import partial

import pytest
from hand_built_policies import CHANNELS, OneShotPlanner

from planprobe.core.errors import AddressError, TooFewLevelsError
from planprobe.instruments.detectors import plan_steering
from planprobe.instruments.detectors.plan_steering import Battery
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.steering.directions import probe_directions, random_tables
from planprobe.instruments.steering.steering import SteeringPlan
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.stimuli import two_route_mazes

SITE = "ticks.*.0.hook_c"
make_maze = partial(Maze, time_limit=60, autoreset=False)
BATTERY = Battery(num_random=25, num_random_choice=2, num_wrong=2, num_shuffles=2)
OBSERVED = ("success", "took_short", "route_agreement", "solved", "num_steps")


@pytest.fixture(scope="module")
def routes():
    return two_route_mazes(40, size=11, seed=2, max_gap=6)


@pytest.fixture(scope="module")
def directions():
    return probe_directions(OneShotPlanner().code_vectors, site=SITE)


def run(routes, directions, *, obeys=True, **options):
    options = {"min_effect": 0.5, "alphas": (0.1, 2.0), "battery": BATTERY, "seed": 0} | options
    options["plan"] = SteeringPlan(num_squares=2, spare_steps=0)
    return plan_steering.run(open_policy(OneShotPlanner(obeys)), make_maze, routes, directions, **options)


@pytest.fixture(scope="module")
def obeyed(routes, directions):
    other = random_tables(1, CHANNELS, seed=77)[0]
    return run(routes, directions, other_concept=other)


def only(evidence, **wanted):
    rows = [row for row in evidence.rows if all(row[key] == value for key, value in wanted.items())]
    assert len(rows) == 1, wanted
    return rows[0]


def test_an_obeyed_plan_is_found(obeyed):
    assert obeyed.detector == "D7" and obeyed.outcome == "supported"
    assert obeyed.effect.value == 1 and obeyed.effect.n == 20  # the second half of 40 levels
    assert obeyed.beyond_controls.low > 0.3 and obeyed.beyond_controls.p < 0.05
    assert set(plan_steering.CONTROLS) <= set(obeyed.controls)
    assert obeyed.controls["shuffled square"].value == 0
    assert all(effect.value < 0.5 for effect in obeyed.controls.values())


def test_the_table_holds_the_whole_factorial(obeyed):
    for arm in ("block", "direct", "both"):
        for source in ("trained", *plan_steering.CONTROLS):
            row = only(obeyed, half="report", arm=arm, source=source, alpha=2.0)
            assert row["num_levels"] == 20
        for alpha in (0.1, 2.0):
            assert only(obeyed, half="choice", arm=arm, source="trained", alpha=alpha)["num_levels"] == 20
    for source in plan_steering.CONTROLS:
        assert only(obeyed, half="choice", arm="both", source=source, alpha=0.1)
    random = only(obeyed, half="report", arm="both", source="random directions", alpha=2.0)
    assert random["num_tables"] == 25 and random["success"] <= random["success_p95_of_tables"] <= 1
    assert random["trained_minus_this"] == pytest.approx(1 - random["success"])
    assert only(obeyed, half="choice", arm="both", source="random directions", alpha=2.0)["num_tables"] == 2


def test_the_strength_is_chosen_on_the_first_half(obeyed):
    weak = only(obeyed, half="choice", arm="both", source="trained", alpha=0.1)
    strong = only(obeyed, half="choice", arm="both", source="trained", alpha=2.0)
    assert weak["success"] == 0 and strong["success"] == 1
    assert not any(row["alpha"] == 0.1 and row["source"] == "trained" for row in obeyed.rows if row["half"] == "report")


def test_rows_tell_what_else_happened(obeyed):
    alone = only(obeyed, half="report", source="no edit")
    assert alone["success"] == 0 and alone["took_short"] == 1 and alone["rise"] == 0
    assert alone["kl_elsewhere_nats"] == 0 and alone["short_decoded"] == 1
    trained = only(obeyed, half="report", arm="both", source="trained")
    assert trained["took_short"] == 0 and trained["route_agreement"] > alone["route_agreement"]
    assert trained["kl_elsewhere_nats"] >= 0


def test_a_plan_that_is_not_read_is_refuted(routes, directions):
    evidence = run(routes, directions, obeys=False, alphas=(2.0,))
    assert evidence.effect.value == 0 and evidence.beyond_controls.value == 0
    assert evidence.power > 0.8 and evidence.outcome == "refuted"
    assert "other concept" not in evidence.controls


def test_directions_that_mean_nothing_are_not_beyond_random(routes):
    noise = random_tables(1, CHANNELS, seed=5)[0]
    evidence = run(routes, probe_directions(noise, site=SITE), alphas=(6.0,))
    assert evidence.outcome != "supported"
    assert evidence.beyond_controls.p > 0.05


def test_the_same_seed_gives_the_same_evidence(routes, directions):
    few, battery = two_route_mazes(20, size=11, seed=3, max_gap=6), Battery(3, 2, 1, 1)
    first, second = (run(few, directions, alphas=(2.0,), battery=battery) for _ in range(2))
    assert first == second
    assert first.outcome == "inconclusive"  # three random tables cannot show that the fitted one is special


def test_wrong_requests(routes, directions):
    with pytest.raises(TooFewLevelsError, match="20"):
        run(two_route_mazes(19, size=11, seed=3), directions)
    with pytest.raises(AddressError, match="none"):
        run(routes, directions, arm="none")
