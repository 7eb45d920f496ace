"""`planprobe erase` prints what D9 returns, and saves it."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

QUICK = ("--num-levels", 12, "--num-fit-levels", 12, "--num-random", 2, "--sweeps", 1)


@pytest.fixture
def erased(cli, maze_agent, tmp_path):
    result = cli(
        "erase", maze_agent, *QUICK, "--measure", "first_move", "--thinking-steps", 1, "--concept", "agent-visit",
        "--source", "optimal", "--sites", "ticks.*.*.hook_h", "--parts", 0, 4, "--out", "kept", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    return result.json, tmp_path / "kept"


def test_what_is_printed_is_what_was_saved(erased):
    shown, folder = erased
    saved = json.loads((folder / "erase.json").read_text())
    assert saved["row_hashes"].keys() == {"rows", "sites"}
    assert {key: value for key, value in shown.items() if key not in ("rows", "sites")} == {
        key: value for key, value in saved.items() if key not in ("schema", "verb", "row_hashes")
    }
    for name in ("rows", "sites"):
        columns = parquet.read_table(folder / "erase" / f"{name}.parquet").to_pylist()
        assert [{key: value for key, value in row.items() if value is not None} for row in columns] == [
            {key: value for key, value in row.items() if value is not None} for row in shown[name]
        ]


def test_the_record_says_what_decided_the_numbers(erased):
    shown, _ = erased
    assert shown["evidence"]["detector"] == "D9" and shown["options"]["seed"] == 0
    assert shown["levels"]["played"]["number"] == 12 and shown["levels"]["fitted"]["number"] == 12
    assert shown["levels"]["played"]["hash"] != shown["levels"]["fitted"]["hash"]
    assert shown["agent"]["weights_hash"] and shown["agent"]["recipe_hash"] and shown["versions"]["torch"]
    assert {row["measure"] for row in shown["rows"]} == {"first_move", "first_move_gain", "first_move_thought"}
    assert {row["condition"] for row in shown["rows"]} == {
        "nothing erased", "plan erased", "plan erased, 0 to 3 steps ahead", "plan erased, 4 and more steps ahead",
        "random subspaces", "random subspaces, equal length",
    }  # fmt: skip
    assert [row["site"] for row in shown["sites"]] == ["ticks.0.0.hook_h"]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--concept", "agent-aproach-direction"), "UnknownConceptError", "Did you mean 'agent-approach-direction'"),
        (("--sites", "ticks.0.0.hook_x"), "UnknownSiteError", "ticks.0.0.hook_h"),
        (("--levels", "tset"), "RecipeError", "Did you mean 'test'"),
        (("--levels", "valid"), "ArgumentError", "fitted on these levels"),
        (("--num-levels", 4), "TooFewLevelsError", "10"),
        (("--num-random", 0), "ArgumentError", "--num-random"),
        (("--measure", "first_move_gain"), "ArgumentError", "--thinking-steps"),
        (("--min-effect", 0), "ArgumentError", "--min-effect"),
        (("--parts", 3, 3), "ArgumentError", "--parts"),
        (("--horizon", 3, 1), "ShapeError", "horizon"),
    ],
)
def test_what_cannot_be_erased(cli, maze_agent, arguments, error, says):
    result = cli("erase", maze_agent, *QUICK, "--source", "optimal", *arguments, "--json")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(error)
    assert says in result.err


def test_first_moves_of_sokoban_are_known_too(cli, sokoban_agent):
    result = cli("erase", sokoban_agent, *QUICK, "--measure", "first_move", "--json")
    assert result.code == 0
    assert {row["measure"] for row in result.json["rows"]} == {"first_move"}
