"""`planprobe capture` writes what `open_activations` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from planprobe.instruments.activation_store import open_activations

QUICK = ("--num-levels", 6, "--max-steps", 2)


def test_a_store_is_written_and_gone_on_with(cli, maze_agent):
    arguments = ("capture", maze_agent, "--out", "acts", *QUICK, "--json")
    result = cli(*arguments)
    assert result.code == 0, result.err
    store = open_activations("acts")
    assert result.json["rows"] == len(store) == 12
    assert list(result.json["sites"]) == ["ticks.0.0.hook_h"]
    times = {path: path.stat().st_mtime_ns for path in Path("acts").iterdir()}
    assert cli(*arguments).code == 0
    assert {path: path.stat().st_mtime_ns for path in Path("acts").iterdir()} == times


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--sites", "ticks.0.0.hook_x"), "UnknownSiteError", "ticks.0.0.hook_h"),
        (("--num-levels", 0), "ArgumentError", "--num-levels"),
        (("--max-steps", 0), "ArgumentError", "--max-steps"),
        (("--levels", "tset"), "RecipeError", "Did you mean 'test'"),
    ],
)
def test_what_cannot_be_captured(cli, maze_agent, arguments, error, says):
    result = cli("capture", maze_agent, "--out", "acts", *QUICK, *arguments)
    assert result.code == 2
    assert result.err.startswith(error)
    assert says in result.err
    assert not Path("acts").exists()
