"""`planprobe view` writes a page, and a record beside it."""

from __future__ import annotations

import json

import pytest

QUICK = ("--num-fit-levels", 12, "--num-levels", 2, "--thinking-steps", 1, "--max-steps", 3)


def test_a_page_with_its_record(cli, maze_agent, tmp_path):
    result = cli("view", maze_agent, *QUICK, "--out", "seen", "--json")
    assert result.code == 0, result.err
    page = (tmp_path / "seen" / "view.html").read_text()
    assert "ticks.0.0.hook_h" in page and page.startswith("<!doctype html>")
    saved = json.loads((tmp_path / "seen" / "view.json").read_text())
    assert set(saved["row_hashes"]) == {"levels", "read_outs"}
    assert {key: saved[key] for key in ("options", "concept", "agent")} == {
        key: result.json[key] for key in ("options", "concept", "agent")
    }
    assert saved["levels"]["shown"]["hash"] != saved["levels"]["fitted"]["hash"]
    assert [row["steps"] for row in result.json["levels"]] == [3, 3]


def test_levels_of_a_file(cli, sokoban_agent, tmp_path):
    (tmp_path / "mine.xsb").write_text("######\n#@ $.#\n#    #\n#    #\n#    #\n######\n")
    result = cli(
        "view", sokoban_agent, *QUICK, "--levels", "mine.xsb", "--concept", "agent-visit", "--out", "seen"
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "view.html" in result.err and "agent-visit on mine/6x6" in result.out


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--concept", "agent-aproach-direction"), "UnknownConceptError", "Did you mean 'agent-approach-direction'"),
        (("--sites", "ticks.0.0.hook_x"), "UnknownSiteError", "ticks.0.0.hook_h"),
        (("--levels", "tset"), "UnknownNameError", "Did you mean 'test'"),
        (("--num-levels", 0), "ArgumentError", "--num-levels"),
        (("--num-fit-levels", 4), "TooFewLevelsError", "10"),
    ],
)
def test_what_cannot_be_viewed(cli, maze_agent, arguments, error, says, tmp_path):
    result = cli("view", maze_agent, *QUICK, *arguments, "--out", "seen", "--json")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(error)
    assert says in result.err
    assert not (tmp_path / "seen" / "view.html").exists()
