"""Probes of whole states, and a battery of concepts on one recording, on agents whose answer is known."""

import math

import pytest
import torch
from hand_built_policies import CHANNELS, OneShotPlanner
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import nn

from planprobe.core.errors import ShapeError, UnknownNameError
from planprobe.instruments.concepts.catalog import Concept, StateConcept, get_concept
from planprobe.instruments.concepts.square_concepts import find_entries
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.probes.bench import AGENT, Target
from planprobe.instruments.probes.recording import Watch, record_states
from planprobe.instruments.probes.scoreboard import Truth
from planprobe.instruments.probes.splits import split_by_level
from planprobe.instruments.probes.square_bench import SquareBench
from planprobe.instruments.probes.state_bench import StateBench
from planprobe.instruments.probes.state_rows import StateRows, fit_board_pca, gather_states
from planprobe.instruments.probes.table import probe_table, probe_tables
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.geometry import observation_geometry
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.plans import observation_planner
from planprobe.subjects.nets.feedforward import ResNet

SIZE, SITE = 7, "ticks.0.0.hook_c"
CONCEPTS = ("agent-approach-direction", "next-box", "action-ahead-1", "steps-left", "predicted-value", "clock")


def make_env(levels, num_boards):
    return Maze(levels, num_boards, time_limit=20, autoreset=False)


class Counter(OneShotPlanner):
    """Plans, walks, and keeps the length of its route in a channel of its own; that is also the value it predicts."""

    def step(self, observation, state):
        logits, _, state = super().step(observation, state)
        value = torch.einsum("cd,bdhw->bchw", self.mix.T, state[0])[:, 7].mean((1, 2))
        return logits, value, state

    def plan(self, observation):
        plain = torch.einsum("cd,bdhw->bchw", self.mix.T, super().plan(observation))
        plain[:, 7] = plain[:, 1:5].sum((1, 2, 3))[:, None, None] / 10
        return torch.einsum("cd,bdhw->bchw", self.mix, plain)


@pytest.fixture(scope="module")
def levels():
    return generate_mazes(60, size=SIZE, braid=(0.0, 0.5), seed=0, distinct_layouts=False)


@pytest.fixture(scope="module")
def tables(levels):
    torch.manual_seed(0)
    clone = ResNet(planes=3, board=(SIZE, SIZE), num_actions=4, num_blocks=1, channels=4, head="pool", hidden=8)
    length = StateConcept("clock", (), lambda futures: futures.before.moved.sum(1).float(), ("before",))
    progress = []
    found = probe_tables(
        open_policy(Counter(board=(SIZE, SIZE))), make_env, levels, [*CONCEPTS[:-1], length], sites=SITE, kernels=(1,),
        readouts=("pooled", "agent"), clone=clone, planner=observation_planner("maze"),
        alternative=observation_planner("maze", plan="alternative"), geometry=observation_geometry(), per_level=2,
        history=2, l2_strengths=(1e-3,), on_progress=lambda share, text: progress.append(share),
    )  # fmt: skip
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    return found


def test_fits_of_more_features_than_rows_reach_the_loss_of_scikit_learn(levels):
    """Features of very different scales, as activations are, and hardly any penalty: where a fit is slow to end."""
    planner, clock = open_policy(Counter(board=(SIZE, SIZE))), get_concept("action-ahead-1")
    recording = record_states(planner, make_env, levels, Watch([clock], {AGENT: (planner, SITE)}, {}), per_level=4)
    bench = StateBench(recording, [clock], l2_strengths=(1e-3,))
    num_rows, generator = len(recording), torch.Generator().manual_seed(0)
    scales = 10 ** (2 * torch.rand(300, generator=generator) - 1)
    x = torch.randn(num_rows, 300, generator=generator) * scales
    logits = x[:, :40] @ torch.randn(40, 5, generator=generator) / x[:, :40].std()
    y = (logits + 3 * torch.randn(num_rows, 5, generator=generator)).argmax(1)
    split = split_by_level(bench.row_level_ids, seed=0)
    found = bench._solve(x, [Target("planted", "behaviour", "", Truth(y), 5)], split, 5, 1)[0]
    train, labels = x[split.train], y[split.train]
    std, mean = torch.std_mean(train, dim=0, correction=0)
    train = ((train - mean) / std.median()).double()
    assert train.shape[1] > len(train) > 100
    oracle = LogisticRegression(C=1e3 / len(train), tol=1e-10, max_iter=20_000).fit(train.numpy(), labels.numpy())
    weights, biases = torch.tensor(oracle.coef_), torch.tensor(oracle.intercept_)
    wanted = nn.functional.cross_entropy(train @ weights.T + biases, labels) + 0.5 * 1e-3 * weights.square().sum()
    assert found.loss == pytest.approx(float(wanted), abs=1e-5)


def test_fits_do_not_depend_on_the_number_of_workers(levels):
    """Squares, and states with fewer and with more features than rows."""
    concepts, agent = (
        [get_concept(name) for name in ("agent-position-1", "action-ahead-1")],
        Counter(board=(SIZE, SIZE)),
    )
    watch = Watch(concepts, {AGENT: (open_policy(agent), SITE)}, {}, history=1)
    recording = record_states(open_policy(agent), make_env, levels[:12], watch, per_level=2)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            benches = (SquareBench(recording, concepts[:1], (0.1,)), StateBench(recording, concepts[1:], (0.1,)))
            for bench, readings in zip(benches, ((1,), ("agent", "flat")), strict=True):
                stages = [text for _, text in bench.run_split(0, readings)]
                fits = [fit for fits in bench.probes.values() for fit in fits.items()]
                found.append((stages, [(key, fit.weights.tolist(), fit.test_counts.tolist()) for key, fit in fits]))
    finally:
        torch.set_num_threads(before)
    assert len(found[0][1]) == 1
    assert len(found[1][1]) == 2
    assert found[:2] == found[2:]


# the battery ---------------------------------------------------------------------------------------------------------
def test_every_concept_that_varies_has_a_table(tables):
    assert list(tables) == [name for name in CONCEPTS if name != "next-box"]  # there is no box in a maze
    assert {name: table.measure for name, table in tables.items() if table.measure == "r2"} == {
        "steps-left": "r2", "predicted-value": "r2", "clock": "r2",
    }  # fmt: skip


def test_label_sources_are_those_that_know(tables):
    sources = {name: {row["labels"] for row in table.rows} for name, table in tables.items()}
    assert sources["agent-approach-direction"] == {"behaviour", "optimal", "alternative"}
    assert sources["steps-left"] == {"behaviour", "optimal", "alternative"}
    assert sources["predicted-value"] == sources["clock"] == {"behaviour"}


def test_every_control_stands_beside_a_state_probe(tables):
    for name in ("action-ahead-1", "steps-left"):
        for row in tables[name].rows:
            controls = {key[8:] for key in row if key.startswith("control_") and not key.endswith(("_low", "_high"))}
            assert controls == {
                "majority", "observation_pooled", "observation_around", "observation_flat", "observation_full",
                "history_flat", "history_full", "geometry_around", "geometry_flat", "clone", "shuffled_labels",
                "control_task",
            }  # fmt: skip
            assert row["kernel"] is None
            assert row["readout"] in ("pooled", "agent")
            assert row["num_test_levels"] == 12
    squares = tables["agent-approach-direction"].rows[0]
    assert {"control_geometry_1x1", "control_geometry_3x3", "control_clone"} <= set(squares)
    assert (squares["kernel"], squares["readout"]) == (1, "1x1")


def test_a_number_that_is_kept_in_memory_is_read(tables):
    table = tables["predicted-value"]
    row = table.best(kernel="agent")
    assert row["r2_low"] <= row["r2"] <= row["r2_high"]
    assert row["r2"] > 0.95
    assert row["delta"] == pytest.approx(row["r2"] - row[f"control_{row['best_control']}"])
    assert row["delta_low"] > 0
    assert row["control_shuffled_labels"] < 0.2
    assert row["control_majority"] <= 1e-6
    assert row["correlation"] > 0.95
    assert table.probe(row).weights.shape == (1, CHANNELS)
    assert table.by_horizon == []
    assert {part["subset"] for part in table.subsets} == {"branch_states"}
    assert tables["steps-left"].best(kernel=None)["r2"] < 0.95  # the steps already gone are not in memory


def test_the_alternative_way_is_not_what_a_planner_keeps(tables):
    rows = {row["labels"]: row for row in tables["agent-approach-direction"].rows}
    assert rows["optimal"]["macro_f1"] > rows["alternative"]["macro_f1"] + 0.2
    assert rows["alternative"]["num_test_rows"] < rows["optimal"]["num_test_rows"]  # not every level has a second way


def test_one_table_alone_is_that_of_the_battery(tables, levels):
    table = probe_table(
        open_policy(Counter(board=(SIZE, SIZE))), make_env, levels, "steps-left", sites=SITE, readouts=("pooled",),
        per_level=2, history=2,
    )  # fmt: skip
    ours = next(row for row in table.rows if row["labels"] == "behaviour")
    other = next(
        row for row in tables["steps-left"].rows if row["readout"] == "pooled" and row["labels"] == "behaviour"
    )
    assert ours["r2"] == pytest.approx(other["r2"], abs=1e-9)
    assert ours["control_observation_flat"] == pytest.approx(other["control_observation_flat"], abs=1e-9)


def test_description_length_stands_beside_that_of_an_untrained_net(levels):
    table = probe_table(
        open_policy(Counter(board=(SIZE, SIZE))), make_env, levels, "action-ahead-1", sites=SITE, readouts=("agent",),
        per_level=2, l2_strengths=(1e-3,), description_length=True,
        random_policies=[OneShotPlanner(obeys=False, board=(SIZE, SIZE))],
    )  # fmt: skip
    for row in table.rows:
        assert row["compression"] == pytest.approx(math.log2(len(table.class_names)) / row["bits_per_label"])
        assert row["control_compression"] > 0
    assert "compression" not in probe_table(
        open_policy(Counter(board=(SIZE, SIZE))), make_env, levels[:20], "agent-visit", sites=SITE, kernels=(1,),
        per_level=1, history=1,
    ).rows[0]  # fmt: skip


def test_what_cannot_be_read_is_an_error(levels):
    agent = open_policy(Counter(board=(SIZE, SIZE)))
    with pytest.raises(ShapeError, match="nothing to read"):
        probe_table(agent, make_env, levels[:12], "next-box", sites=SITE, kernels=(1,), per_level=1)


class WithFlatSite(Counter):
    def __init__(self):
        super().__init__(board=(SIZE, SIZE))
        self.hook_flat = nn.Identity()

    def step(self, observation, state):
        logits, value, state = super().step(observation, state)
        self.hook_flat(state[0].mean((2, 3)))
        return logits, value, state


def test_sites_without_squares_can_be_read_as_a_whole(levels):
    agent = open_policy(WithFlatSite())
    with pytest.raises(ShapeError, match="has no squares"):
        probe_table(agent, make_env, levels[:12], "agent-visit", sites="hook_flat", per_level=1)
    table = probe_table(agent, make_env, levels[:20], "steps-left", sites="hook_flat", readouts=("flat",), per_level=2)
    assert table.rows[0]["num_features"] == CHANNELS


# rows and features ---------------------------------------------------------------------------------------------------
def test_read_outs_see_what_they_say():
    values = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
    rows = StateRows(torch.tensor([6, 0]), torch.tensor([0, 1]), (4, 5))
    assert torch.equal(gather_states(values, rows, "flat"), values.flatten(1))
    pooled = gather_states(values, rows, "pooled")
    assert torch.equal(pooled[:, :3], values.mean((2, 3)))
    assert torch.equal(pooled[:, 3:], values.amax((2, 3)))
    assert torch.equal(gather_states(values, rows, "agent")[0], values[0, :, 1, 1])
    around = gather_states(values, rows, "around").view(2, 3, 3, 3)
    assert torch.equal(around[0].permute(2, 0, 1), values[0, :, 0:3, 0:3])
    assert around[1, 0].abs().sum() == 0  # beyond the board
    assert torch.equal(gather_states(values[:, :, 0, 0], rows, "agent"), values[:, :, 0, 0])
    with pytest.raises(UnknownNameError, match="Did you mean 'pooled'"):
        gather_states(values, rows, "pool")
    with pytest.raises(ShapeError, match="2 states"):
        gather_states(values[:1], rows, "flat")


@pytest.mark.parametrize(("num_rows", "width"), [(60, 10), (12, 40)])
def test_board_components_are_those_of_scikit_learn(num_rows, width):
    flat = torch.randn(num_rows, width, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.1, width)
    train = torch.arange(num_rows) % 4 != 0
    ours = fit_board_pca(flat, train, num_components=5)
    oracle = PCA(5).fit(flat[train].numpy())
    projected, wanted = ours.project(flat, 5), torch.tensor(oracle.transform(flat.numpy()))
    assert torch.allclose(projected.abs(), wanted.abs(), atol=1e-3)
    assert ours.project(flat, 3).shape == (num_rows, 3)


def test_a_concept_of_ones_own_goes_where_a_name_goes(levels):
    mine = Concept("mine", ("never", "up", "down", "left", "right"), find_entries)
    agent = open_policy(Counter(board=(SIZE, SIZE)))
    tables = probe_tables(agent, make_env, levels[:12], [mine], sites=SITE, kernels=(1,), per_level=1, history=1)
    assert list(tables) == ["mine"]
