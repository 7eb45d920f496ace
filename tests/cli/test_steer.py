"""`planprobe steer` prints and saves what `steer_table` returns."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

QUICK = (
    "--num-levels", 20, "--num-fit-levels", 12, "--per-level", 2, "--alphas", 1, "--num-random", 2,
    "--num-random-choice", 1, "--num-wrong", 1, "--num-shuffles", 1,
)  # fmt: skip


def test_what_is_printed_is_what_was_saved_and_drawn(cli, maze_agent, tmp_path):
    result = cli("steer", maze_agent, *QUICK, "--out", "kept", "--json")
    assert result.code == 0, result.err
    shown, folder = result.json, tmp_path / "kept"
    saved = json.loads((folder / "steer.json").read_text())
    assert saved["row_hashes"].keys() == {"rows"}
    assert saved["evidence"] == shown["evidence"] and saved["evidence"]["detector"] == "D7"
    assert 0 <= saved["directions"]["macro_f1_of_read_out"] <= 1
    assert saved["directions"]["site"] == "ticks.*.{-1}.hook_c" and len(saved["directions"]["vectors"]) == 5
    assert saved["levels"]["steered"]["number"] == 20 and saved["levels"]["fitted"]["number"] == 12
    assert saved["agent"]["weights_hash"] and saved["versions"]["torch"] and saved["options"]["seed"] == 0
    table = parquet.read_table(folder / "steer" / "rows.parquet").to_pylist()
    assert [row["success"] for row in table] == pytest.approx([row["success"] for row in shown["rows"]])
    assert {row["source"] for row in table} == {
        "no edit", "trained", "random directions", "wrong class", "other concept", "shuffled square"
    }  # fmt: skip
    assert {path.stem for path in (folder / "steer").glob("*.html")} == {"steering", "steering-arms"}


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--site", "ticks.0.0.hook_x"), "UnknownSiteError", "ticks.0.0.hook_h"),
        (("--method", "mean-difference"), "ShapeError", "every class needs some"),  # untrained, it goes one way
        (("--alphas", 0), "ArgumentError", "--alphas"),
        (("--num-random", 0), "ArgumentError", "--num-random"),
        (("--min-effect", 2), "ArgumentError", "--min-effect"),
        (("--num-levels", 8), "TooFewLevelsError", "20"),
        (("--num-fit-levels", 4), "TooFewLevelsError", "10"),
    ],
)
def test_what_cannot_be_steered(cli, maze_agent, arguments, error, says):
    result = cli("steer", maze_agent, *QUICK, *arguments, "--json")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(error)
    assert says in result.err
