"""`planprobe subspace` and `planprobe align` print and save what their tables hold."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bring_your_own.md"
SEARCH = ("--num-pairs", 20, "--ranks", 1, "--epochs", 1, "--num-random", 2, "--num-untrained", 1)
ALIGN = ("--num-levels", 12, "--per-level", 2, "--reach", 1)


def saved_by(folder, verb):
    return json.loads((folder / f"{verb}.json").read_text())


@pytest.fixture
def planner(tmp_path):
    """The agent of the page on agents of one's own; one without training makes the same move everywhere."""
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[0]
    (tmp_path / "searched_agent.py").write_text(code)
    yield "searched_agent:make"
    sys.modules.pop("searched_agent", None)


def test_a_search_with_its_files(cli, planner, tmp_path):
    result = cli("subspace", planner, *SEARCH, "--thinking-steps", 8, "--out", "kept", "--json")
    assert result.code == 0, result.err
    saved = saved_by(tmp_path / "kept", "subspace")
    assert saved["fits"] == result.json["fits"] and set(saved["fits"]) == {"ticks.1.0.hook_h"}
    basis = saved["fits"]["ticks.1.0.hook_h"]["basis"]
    assert (len(basis), len(basis[0])) == (5, 1)
    assert saved["levels"]["base"]["hash"] != saved["levels"]["source"]["hash"]
    rows = parquet.read_table(tmp_path / "kept" / "subspace" / "rows.parquet").to_pylist()
    assert [row["hits"] for row in rows] == pytest.approx([row["hits"] for row in result.json["rows"]])
    assert {"learned subspace", "whole site", "shuffled pairs"} <= {row["condition"] for row in rows}
    assert (tmp_path / "kept" / "subspace" / "subspaces.html").is_file()


def test_an_agent_that_always_goes_one_way_has_no_pairs(cli, maze_agent):
    result = cli("subspace", maze_agent, *SEARCH)
    assert result.code == 2 and result.err.startswith("NoContrastError")


def test_roles_with_their_files(cli, sokoban_agent, tmp_path):
    result = cli("align", sokoban_agent, *ALIGN, "--out", "kept", "--json")
    assert result.code == 0, result.err
    saved = saved_by(tmp_path / "kept", "align")
    assert {"target", "box", "agent"} <= set(saved["candidates"])
    assert saved["num_states"] == result.json["num_states"]
    rows = parquet.read_table(tmp_path / "kept" / "align" / "rows.parquet").to_pylist()
    assert [row["channel"] for row in rows] == [0, 1, 2, 3]
    assert (tmp_path / "kept" / "align" / "alignment-0.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("subspace", "--sites", "ticks.0.0.hook_x"), "UnknownSiteError", "ticks.0.0.hook_h"),
        (("subspace", "--epochs", 0), "ArgumentError", "--epochs"),
        (("subspace", "--thinking-steps", -1), "ArgumentError", "--thinking-steps"),
        (("align", "--concept", "agent-aproach-direction"), "UnknownConceptError", "agent-approach-direction"),
        (("align", "--concept", "steps-left"), "ShapeError", "one of states"),
        (("align", "--num-levels", 4), "TooFewLevelsError", "10"),
        (("align", "--no-board", "--concept", "box-visit"), "ShapeError", "no candidate map"),
        (("align", "--reach", -1), "ArgumentError", "--reach"),
        (("align", "--levels", "train"), "ArgumentError", "the agent knows these levels"),
        (("subspace", "--levels", "train"), "ArgumentError", "the agent knows these levels"),
    ],
)
def test_what_cannot_be_asked(cli, maze_agent, arguments, error, says):
    verb, *rest = arguments
    result = cli(verb, maze_agent, *(SEARCH if verb == "subspace" else ALIGN), *rest, "--json")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(error)
    assert says in result.err
