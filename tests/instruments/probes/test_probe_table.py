"""The probe table and D4 on agents whose answer is known: a planner, a bystander, an untrained net."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_built_policies import CHANNELS, OneShotPlanner
from torch import nn

from planprobe.core.errors import (
    ShapeError,
    TooFewLevelsError,
    TrainingLevelsError,
    UnknownConceptError,
    UnknownSiteError,
)
from planprobe.instruments.concepts.catalog import Labels
from planprobe.instruments.detectors import decodable_plan
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.probes.measures import class_measure
from planprobe.instruments.probes.scoreboard import Scoreboard, Truth, bin_horizon, differing_states, make_truth
from planprobe.instruments.probes.table import fit_site_probes, probe_table
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.plans import observation_planner
from planprobe.subjects.nets.drc import DRC
from planprobe.subjects.nets.feedforward import ResNet

SIZE, CONCEPT = 9, "agent-approach-direction"
SITES = "ticks.*.0.hook_c"


def make_env(levels, num_boards):
    return Maze(levels, num_boards, time_limit=30, autoreset=False)


def random_net(seed):
    torch.manual_seed(seed)
    net = DRC(
        planes=3, board=(SIZE, SIZE), num_actions=4, num_layers=1, num_ticks=2, channels=CHANNELS, head="pool", hidden=8
    )
    return net.requires_grad_(False)


def untrained_nets():
    return [random_net(seed) for seed in (1, 2, 3)]


class Detours(OneShotPlanner):
    """Plans like the other, but steps aside first on every board: not the optimal way, and not the code's."""

    def initial_state(self, num_boards, board=None):
        return (*super().initial_state(num_boards, board), torch.zeros(num_boards, 1))

    def step(self, observation, state):
        scores, value, (code, planned) = super().step(observation, state[:2])
        steps = state[2]
        aside = torch.where(scores > -10, -scores, scores)
        return torch.where(steps < 1, aside, scores), value, (code, planned, steps + 1)


@pytest.fixture(scope="module")
def levels():
    return generate_mazes(60, size=SIZE, braid=(0.0, 0.5), seed=0, split="test")


@pytest.fixture(scope="module")
def planner_table(levels):
    torch.manual_seed(0)
    twin = ResNet(planes=3, board=(SIZE, SIZE), num_actions=4, num_blocks=2, channels=8, head="pool", hidden=8)
    progress = []
    table = probe_table(
        open_policy(OneShotPlanner(board=(SIZE, SIZE))), make_env, levels, CONCEPT, sites=SITES,
        random_policies=untrained_nets(), twin=twin, planner=observation_planner("maze"), per_level=3,
        l2_strengths=(1e-3,), on_progress=lambda fraction, text: progress.append((fraction, text)),
    )  # fmt: skip
    return table, progress


# the table --------------------------------------------------------------------------------------------------------
def test_a_row_for_every_cell_with_every_control(planner_table):
    table, _ = planner_table
    keys = [(row["labels"], row["site"], row["tick"], row["layer"], row["kernel"]) for row in table.rows]
    assert len(keys) == len(set(keys)) == 2 * 2 * 2
    for row in table.rows:
        for name in ("macro_f1", "positive_f1", "balanced_accuracy", "mcc", "directional_macro_f1", "delta"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        controls = {key for key in row if key.startswith("control_") and not key.endswith(("_low", "_high"))}
        assert controls == {
            "control_majority", "control_observation_1x1", "control_observation_3x3", "control_observation_full",
            "control_history_1x1", "control_history_3x3", "control_history_full", "control_random_weights",
            "control_twin", "control_shuffled_labels", "control_control_task",
        }  # fmt: skip
        assert row["delta"] == pytest.approx(row["macro_f1"] - row[f"control_{row['best_control']}"])
        assert row["best_control"] != "control_task"
        assert row["p"] <= row["p_holm"] <= 1
        assert row["num_test_levels"] == 12


def test_the_plan_of_a_planner_is_found(planner_table):
    table, _ = planner_table
    row = table.best()
    assert row["macro_f1"] > 0.65
    assert row["balanced_accuracy"] > 0.9  # what it misses are squares it has left behind, whose code still stands
    assert row["delta_low"] > 0
    assert row["p_holm"] < 0.05
    assert row["control_shuffled_labels"] < 0.4
    assert row["control_majority"] < 0.25
    probe = table.probe(row)
    wanted = OneShotPlanner().code_vectors
    wanted = nn.functional.normalize(wanted - wanted.mean(0), dim=1)
    assert float((probe.directions * wanted).sum(1).min()) > 0.9


def test_equal_capacity(planner_table):
    table, _ = planner_table
    assert {(row["kernel"], row["num_features"]) for row in table.rows} == {(1, CHANNELS), (3, 9 * CHANNELS)}
    one, three = (table.best(kernel=kernel) for kernel in (1, 3))
    assert one["control_observation_full"] != three["control_observation_full"]
    assert one["control_observation_3x3"] == three["control_observation_3x3"]


def test_horizons_cover_every_row(planner_table):
    table, _ = planner_table
    row = table.best()
    bins = [
        other
        for other in table.by_horizon
        if (other["labels"], other["site"], other["kernel"]) == ("behaviour", row["site"], 1)
    ]
    assert [other["bin"] for other in bins] == ["0-1", "2-4", "5-9", "10+", "never"]
    assert {other["unit"] for other in bins} == {"steps"}  # nothing is pushed in a maze
    assert sum(other["num_events"] for other in bins) == row["num_test_rows"]
    assert not {other["control"] for other in bins} & {"shuffled_labels", "control_task"}
    near = bins[1]
    assert near["recall"] > 0.8
    assert near["delta"] == pytest.approx(near["recall"] - near["control_recall"])


def test_progress_goes_from_nothing_to_done(planner_table):
    _, progress = planner_table
    fractions = [fraction for fraction, _ in progress]
    assert fractions == sorted(fractions)
    assert progress[-1] == (1.0, "done")


def test_a_planner_on_the_optimal_way_has_no_differing_states(planner_table):
    table, _ = planner_table
    differing = [row for row in table.subsets if row["subset"] == "sources_differ"]
    assert {row["num_rows"] for row in differing} == {0}
    assert {row["macro_f1"] for row in differing} == {None}  # not nan: JSON does not know it
    branch = [row for row in table.subsets if row["subset"] == "branch_squares" and row["kernel"] == 1]
    assert all(0 < row["num_rows"] < table.rows[0]["num_test_rows"] for row in branch)


def test_seeds_pool_levels(levels):
    agent = open_policy(OneShotPlanner(board=(SIZE, SIZE)))
    options = {"sites": "ticks.0.0.hook_c", "kernels": (1,), "per_level": 2, "l2_strengths": (1e-3,)}
    table = probe_table(agent, make_env, levels[:30], CONCEPT, seeds=2, **options)
    row = table.rows[0]
    assert row["num_seeds"] == 2
    assert row["seed_sd"] is not None
    assert 6 < row["num_test_levels"] <= 12
    again = probe_table(agent, make_env, levels[:30], CONCEPT, seeds=2, **options)
    assert again.rows == table.rows
    assert again.by_horizon == table.by_horizon


def test_where_behaviour_and_optimal_differ(levels):
    agent = open_policy(Detours(board=(SIZE, SIZE)))
    table = probe_table(
        agent, make_env, levels[:40], CONCEPT, sites="ticks.0.0.hook_c", kernels=(1,), per_level=3,
        planner=observation_planner("maze"), l2_strengths=(1e-3,),
    )  # fmt: skip
    differing = {row["labels"]: row for row in table.subsets if row["subset"] == "sources_differ"}
    assert set(differing) == {"behaviour", "optimal"}
    row = differing["behaviour"]
    assert row["num_rows"] > 0
    assert 0 <= row["follows_own"] + row["follows_other"] <= 1 + 1e-9


def test_probes_without_controls(levels):
    agent = open_policy(OneShotPlanner(board=(SIZE, SIZE)))
    probes = fit_site_probes(agent, make_env, levels[:30], CONCEPT, sites=SITES, per_level=3)
    assert list(probes) == ["ticks.0.0.hook_c", "ticks.1.0.hook_c"]
    assert probes["ticks.1.0.hook_c"].test_score > 0.6


def test_what_does_not_exist_is_refused_before_anything_is_played(levels):
    def no_env(levels, num_boards):
        raise AssertionError("played")

    agent = open_policy(OneShotPlanner(board=(SIZE, SIZE)))
    with pytest.raises(UnknownSiteError, match="hook_c"):
        probe_table(agent, no_env, levels, CONCEPT, sites="ticks.0.0.hook_h")
    with pytest.raises(TrainingLevelsError, match=r"maze9/train.*may be memory"):
        probe_table(agent, no_env, generate_mazes(12, size=SIZE, seed=0, split="train"), CONCEPT, sites=SITES)
    with pytest.raises(UnknownConceptError, match="agent-approach-direction"):
        probe_table(agent, no_env, levels, "agent-aproach-direction", sites=SITES)
    with pytest.raises(TooFewLevelsError):
        probe_table(agent, make_env, levels[:8], CONCEPT, sites=SITES, kernels=(1,))
    with pytest.raises(TooFewLevelsError, match="solved"):
        probe_table(agent, make_env, levels[:12], CONCEPT, sites=SITES, only_solved=True, max_steps=1)


# D4 ---------------------------------------------------------------------------------------------------------------
def test_a_planner_is_supported(planner_table):
    evidence = decodable_plan.judge_table(planner_table[0], min_effect=0.05)
    assert (evidence.detector, evidence.outcome) == ("D4", "supported")
    assert evidence.effect.value > 0.65
    assert evidence.beyond_controls.low > 0
    assert 0 < evidence.power < 1
    assert "control_task" in evidence.controls
    assert {row["table"] for row in evidence.rows} == {"cells", "horizon", "subsets"}
    lonely = replace(planner_table[0], num_random_nets=0)
    assert decodable_plan.judge_table(lonely, min_effect=0.05).outcome == "inconclusive"
    with pytest.raises(ShapeError, match="probes"):
        decodable_plan.judge_table(planner_table[0], min_effect=0.05, labels="imagined")


def test_a_plan_that_is_not_used_is_found_all_the_same(levels):
    evidence = decodable_plan.run(
        open_policy(OneShotPlanner(obeys=False, board=(SIZE, SIZE))), make_env, levels, min_effect=0.05,
        sites="ticks.0.0.hook_c", kernels=(1,), random_policies=untrained_nets(), per_level=3,
        l2_strengths=(1e-3,),
    )  # fmt: skip
    assert evidence.outcome == "supported"


def test_an_untrained_net_is_not_supported(levels):
    evidence = decodable_plan.run(
        open_policy(random_net(7)), make_env, levels[:40], min_effect=0.05, sites=SITES, kernels=(1,), per_level=2,
        random_policies=untrained_nets(), l2_strengths=(1e-3,), max_steps=20,
    )  # fmt: skip
    assert evidence.outcome != "supported"
    assert evidence.beyond_controls.low <= 0
    assert not math.isnan(evidence.power)


# the parts --------------------------------------------------------------------------------------------------------
def test_bins_of_the_horizon():
    labels = torch.tensor([1, 1, 2, 3, 4, 4, 1, 0, -1])
    horizon = torch.tensor([0, 1, 2, 4, 5, 9, 30, -1, -1])
    assert bin_horizon(horizon, labels, "steps").tolist() == [0, 0, 1, 1, 2, 2, 3, 4, -1]
    assert bin_horizon(horizon, labels, "pushes").tolist() == [0, 1, 2, 3, 3, 3, 3, 4, -1]
    with pytest.raises(ShapeError, match="steps"):
        bin_horizon(horizon, labels, "hours")


def test_the_best_reader_is_chosen_on_valid_seed_by_seed():
    board = Scoreboard(num_levels=3, measure=class_measure(2))
    truth = Truth(torch.tensor([0, 1, 0, 1, 0, 1]))
    level_index = torch.tensor([0, 0, 1, 1, 2, 2])
    right, wrong = torch.tensor([0, 1]), torch.tensor([1, 0])
    for rows, scores in ((torch.tensor([0, 1]), (0.9, 0.1)), (torch.tensor([2, 3]), (0.2, 0.8))):
        board.add("behaviour", "a", truth, rows, level_index, right, valid=scores[0])
        board.add("behaviour", "b", truth, rows, level_index, wrong, valid=scores[1])
    best = board.best_of("behaviour", ["a", "b"])
    assert best.readers == ("a", "b")
    assert best.valid == pytest.approx(0.85)
    assert np.array_equal(best.counts, [[[1, 0], [0, 1]], [[0, 1], [1, 0]]])  # level 2 was never tested


def test_sides_are_counted_where_the_sources_differ():
    labels, rival = torch.tensor([1, 1, 2, -1, 0]), torch.tensor([1, 2, 0, 1, 1])
    truth = make_truth(labels, labels, torch.zeros(5), subsets={}, rival=rival)
    board = Scoreboard(num_levels=1, measure=class_measure(3))
    predicted = torch.tensor([1, 1, 0, 1, 2])
    board.add("behaviour", "a", truth, torch.arange(5), torch.zeros(5, dtype=torch.int64), predicted, valid=0.0)
    assert board.best_of("behaviour", ["a"]).recall("sides").tolist() == [[[1.0, 3.0], [1.0, 3.0]]]


def test_differing_states():
    values = torch.zeros(3, 2, 2, dtype=torch.int8)
    other = values.clone()
    other[1, 0, 0] = 2
    other[2, 1, 1] = -1  # unknown is no difference
    first, second = (Labels(part, part.short(), part.short(), ("never", "a", "b")) for part in (values, other))
    assert differing_states(first, second).tolist() == [False, True, False]
