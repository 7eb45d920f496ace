"""`planprobe probe` prints what `probe_table` returns."""

from __future__ import annotations

import pytest

QUICK = ("--num-levels", 24, "--per-level", 1)


def test_json_holds_the_rows_of_the_asked_labels(cli, maze_agent):
    result = cli("probe", maze_agent, *QUICK, "--source", "optimal", "--json")
    assert result.code == 0, result.err
    assert {row["labels"] for row in result.json["rows"]} == {"optimal"}
    assert [row["site"] for row in result.json["rows"]] == ["ticks.0.0.hook_h"]
    assert "control_random_weights_0" in result.json["rows"][0]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--concept", "agent-aproach-direction"), "UnknownConceptError", "Did you mean 'agent-approach-direction'"),
        (("--sites", "ticks.0.0.hook_x"), "UnknownSiteError", "ticks.0.0.hook_h"),
        (("--levels", "tset"), "RecipeError", "Did you mean 'test'"),
        (("--num-levels", 4), "TooFewLevelsError", ""),
        (("--kernels", 2), "ArgumentError", "odd"),
        (("--num-levels", 0), "ArgumentError", "--num-levels"),
    ],
)
def test_what_cannot_be_probed(cli, maze_agent, arguments, error, says):
    result = cli("probe", maze_agent, "--per-level", 1, *arguments, "--json")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(error)
    assert says in result.err
