"""`planprobe probe` prints what `probe_table` returns."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest

QUICK = ("--num-levels", 24, "--per-level", 1)


def test_json_holds_the_rows_of_the_asked_labels(cli, maze_agent):
    result = cli("probe", maze_agent, *QUICK, "--source", "optimal", "--json")
    assert result.code == 0, result.err
    assert {row["labels"] for row in result.json["rows"]} == {"optimal"}
    assert [row["site"] for row in result.json["rows"]] == ["ticks.0.0.hook_h"]
    assert "control_random_weights" in result.json["rows"][0]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--concept", "agent-aproach-direction"), "UnknownConceptError", "Did you mean 'agent-approach-direction'"),
        (("--sites", "ticks.0.0.hook_x"), "UnknownSiteError", "ticks.0.0.hook_h"),
        (("--levels", "tset"), "RecipeError", "Did you mean 'test'"),
        (("--num-levels", 4), "TooFewLevelsError", ""),
        (("--kernels", 2), "ArgumentError", "odd"),
        (("--num-levels", 0), "ArgumentError", "--num-levels"),
        (("--levels", "train"), "ArgumentError", "the agent knows these levels"),
        (("--readouts", "pool"), "ArgumentError", "pooled"),
        (("--concept", "next-box", "--num-levels", 12), "ArgumentError", "nothing to read"),
    ],
)
def test_what_cannot_be_probed(cli, maze_agent, arguments, error, says):
    result = cli("probe", maze_agent, "--per-level", 1, *arguments, "--json")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(error)
    assert says in result.err


def test_several_concepts_are_written(cli, maze_agent):
    result = cli(
        "probe", maze_agent, "--num-levels", 20, "--per-level", 1, "--concept", "agent-visit", "steps-left",
        "action-ahead-1", "box-visit", "--source", "optimal", "--readouts", "pooled", "--out", "found", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "'box-visit' has one and the same label" in result.err
    assert [table["concept"] for table in result.json["tables"]] == ["agent-visit", "steps-left", "action-ahead-1"]
    rows = pyarrow.parquet.read_table("found/probe/rows.parquet").to_pylist()
    assert {row["concept"] for row in rows} == {"agent-visit", "steps-left", "action-ahead-1"}
    assert {row["labels"] for row in rows} == {"behaviour", "optimal"}
    shown = [row["macro_f1"] for table in result.json["tables"] for row in table["rows"] if "macro_f1" in row]
    assert shown and set(shown) <= {row["macro_f1"] for row in rows}
    record = json.loads(Path("found/probe.json").read_text())
    assert [each["concept"] for each in record["concepts"]] == ["agent-visit", "steps-left", "action-ahead-1"]
    assert record["options"]["num_levels"] == 20 and record["agent"]["weights_hash"] and record["versions"]["torch"]
    assert record["levels"]["probed"]["hash"] and "rows" in record["row_hashes"]
