"""The rows of a table from tallies counted by hand."""

import tracemalloc
from types import SimpleNamespace

import pytest
import torch

from planprobe.instruments.probes.measures import class_measure, number_measure
from planprobe.instruments.probes.rows import Cell, subset_rows, table_rows
from planprobe.instruments.probes.scoreboard import Scoreboard, Truth

NUM_LEVELS, ROWS = 6, 4
LEVELS = torch.arange(NUM_LEVELS).repeat_interleave(ROWS)
PROBE = SimpleNamespace(weights=torch.zeros(2, 3), l2=1e-3, num_train_rows=9)
NETS = ("random_weights_0", "random_weights_1")


def controls():
    own = {name: [f"{name}|s|1"] for name in NETS}
    return own | {"majority": ["majority"], "control_task": ["control_task|agent|s|1"]}


def fill(board, truth, answers):
    for reader, predicted in answers.items():
        valid = 0.3 if reader.startswith(NETS[0]) else 0.1
        board.add("behaviour", reader, truth, torch.arange(len(LEVELS)), LEVELS, predicted, valid=valid)


def test_untrained_nets_are_told_how_much_they_differ():
    labels = torch.tensor([0, 1]).repeat(len(LEVELS) // 2)
    board, truth = Scoreboard(NUM_LEVELS, class_measure(2)), Truth(labels)
    worse = labels.clone()
    worse[::4] = 1  # half of the zeros are missed
    fill(board, truth, {
        "agent|s|1": labels, f"{NETS[0]}|s|1": worse, f"{NETS[1]}|s|1": 1 - labels, "majority": labels * 0,
        "control_task|agent|s|1": labels,
    })  # fmt: skip
    cell = Cell("behaviour", "s", 1, controls())
    (row,) = table_rows([cell], board, {("behaviour", "s", 1): PROBE}, "mine")
    # zeros: precision 1, recall 1/2, F1 2/3; ones: precision 2/3, recall 1, F1 4/5
    second = (2 / 3 + 4 / 5) / 2
    assert row["control_random_weights"] == pytest.approx(second / 2)
    assert row["random_weights_sd"] == pytest.approx(second / 2**0.5)
    assert (row["best_control"], row["best_control_valid_macro_f1"]) == ("random_weights", pytest.approx(0.2))
    assert row["delta"] == row["delta_random_weights"] == pytest.approx(1 - second / 2)
    # levels are all alike, so what is left is a t interval of two nets: 12.7 x their sd x sqrt(1 + 1/2)
    assert row["delta_random_weights_low"] == pytest.approx(1 - second / 2 - 12.7062 * second / 2**0.5 * 1.5**0.5)
    assert (
        row["delta_low"] == row["delta_random_weights_low"] < 0 < row["delta_high"] < row["delta_random_weights_high"]
    )
    assert row["selectivity"] == 0
    assert (row["kernel"], row["readout"]) == (1, "1x1")


def test_what_a_scoreboard_keeps_does_not_grow_with_the_levels():
    many = 20_000  # counts of so many levels are 640 kB a reader, what it said on 24 rows is 24 bytes
    labels = torch.tensor([0, 1]).repeat(len(LEVELS) // 2)
    truth, rows = Truth(labels, subsets={"part": labels == 0}), torch.arange(len(LEVELS))
    board = Scoreboard(many, class_measure(2))
    tracemalloc.start()
    for number in range(20):
        board.add("behaviour", f"reader {number}", truth, rows, LEVELS, labels.to(torch.int8), valid=0.1 * number)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000
    best = board.best_of("behaviour", [f"reader {number}" for number in range(20)])
    assert best.readers == ("reader 19",)
    assert best.counts.shape == (NUM_LEVELS, 2, 2)
    assert best.counts.sum(0).tolist() == [[12, 0], [0, 12]]
    assert best.subset("part").sum(0).tolist() == [[12, 0], [0, 0]]


def test_numbers_have_rows_of_their_own_measure():
    numbers = torch.arange(len(LEVELS), dtype=torch.float32)[:, None]
    board = Scoreboard(NUM_LEVELS, number_measure())
    truth = Truth(numbers, subsets={"part": LEVELS < 3})
    mean = numbers.mean().expand_as(numbers)
    fill(board, truth, {
        "agent|s|flat": numbers, f"{NETS[0]}|s|1": numbers + 1, f"{NETS[1]}|s|1": mean, "majority": mean,
        "control_task|agent|s|1": mean,
    })  # fmt: skip
    cell = Cell("behaviour", "s", "flat", controls())
    (row,) = table_rows([cell], board, {("behaviour", "s", "flat"): PROBE}, "mine")
    variance = float(numbers.var(correction=0))
    assert row["r2"] == pytest.approx(1.0)
    assert row["correlation"] == pytest.approx(1.0)
    assert row["control_majority"] == pytest.approx(0.0, abs=1e-6)
    # the nets explain 1 - 1 / variance and nothing; their mean is the best control
    assert row["delta"] == pytest.approx(1 - (1 - 1 / variance) / 2)
    assert row["num_test_rows"] == len(LEVELS)
    assert (row["kernel"], row["readout"]) == (None, "flat")
    (part,) = subset_rows([cell], board, "mine")
    assert part["num_rows"] == 3 * ROWS
    assert part["r2"] == pytest.approx(1.0)
