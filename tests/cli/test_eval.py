"""`planprobe eval` says what the Python call says, on named sets and on files of any size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planprobe.subjects.scorecard import Condition, score_levels
from planprobe.subjects.zoo import load_agent

TWO_SIZES = "; 1\n#####\n#@$.#\n#####\n\n; 2\n######\n#@ $.#\n######\n\n; 3\n#####\n#.$@#\n#####\n"
MAZES = "#####\n#@ .#\n#####\n"


def test_without_options_it_is_the_scorecard(cli, maze_agent):
    """Of an agent that was published: to the digit what its metrics.json holds."""
    folder = Path(cli("agents", "publish", maze_agent, "--zoo", "zoo", "--num-levels", 8, "--json").json["folder"])
    result = cli("eval", folder, "--num-levels", 8, "--json")
    assert result.code == 0
    assert result.json["num_levels"] == 8
    assert {row["levels"] for row in result.json["rows"]} == {"test", "far"}
    assert result.json == json.loads((folder / "metrics.json").read_text())


def test_one_set_equals_the_python_call(cli, maze_agent):
    options = ("--levels", "far", "--num-levels", 8, "--thinking-steps", 0, 2)
    rows = cli("eval", maze_agent, *options, "--json").json["rows"]
    agent = load_agent(maze_agent)
    levels = agent.levels("far", 8)
    expected = [
        row for steps in (0, 2) for row in score_levels(agent.net, agent.task, levels, Condition(thinking_steps=steps))
    ]
    assert [{key: value for key, value in row.items() if key != "board"} for row in rows] == expected


def test_a_file_gives_a_row_for_each_board_size(cli, sokoban_agent, tmp_path):
    (tmp_path / "mine.xsb").write_text(TWO_SIZES)
    rows = cli("eval", sokoban_agent, "--levels", "mine.xsb", "--json").json["rows"]
    solved = [row for row in rows if row["measure"] == "solved"]
    assert [(row["board"], row["n"]) for row in solved] == [("3x5", 2), ("3x6", 1)]


def test_a_maze_file_is_walls_and_one_target(cli, maze_agent, tmp_path):
    (tmp_path / "mazes.txt").write_text(MAZES)
    assert cli("eval", maze_agent, "--levels", "mazes.txt", "--json").json["rows"][0]["n"] == 1


def test_reset_memory_and_sampling_reach_the_player(cli, maze_agent):
    row = cli("eval", maze_agent, "--sampled", "--reset-memory", "--num-levels", 5, "--json").json["rows"][0]
    assert (row["policy"], row["memory"], row["n"]) == ("sampled", "reset each step", 5)


def test_tables_are_not_cut_in_a_pipe(cli, maze_agent):
    out = cli("eval", maze_agent, "--levels", "test", "--num-levels", 4).out
    assert "thinking_steps" in out
    assert "optimal first move" not in out


def test_an_agent_of_your_own(cli, tmp_path, maze_agent):
    (tmp_path / "my_agents_for_eval.py").write_text(
        "from planprobe.subjects.zoo import load_agent\n"
        f"agent = load_agent({str(maze_agent)!r})\n"
        "def pair():\n    return agent.net, agent.task\n"
    )
    own = cli("eval", "my_agents_for_eval:pair", "--num-levels", 5, "--levels", "test", "--json").json
    shipped = cli("eval", maze_agent, "--num-levels", 5, "--levels", "test", "--json").json
    assert own["rows"] == shipped["rows"]


def test_a_policy_alone_needs_a_task(cli, tmp_path, maze_agent):
    (tmp_path / "my_bare_agent.py").write_text(
        f"from planprobe.subjects.zoo import load_agent\ndef bare():\n    return load_agent({str(maze_agent)!r}).net\n"
    )
    asked = ("eval", "my_bare_agent:bare", "--num-levels", 5, "--levels", "test", "--json")
    refused = cli(*asked)
    assert refused.code == 2
    assert "--task" in refused.err
    told = cli(*asked, "--task", "maze9").json["rows"]
    assert told[0]["n"] == 5


@pytest.mark.parametrize(
    ("text", "agent", "error", "says"),
    [
        (TWO_SIZES, "maze_agent", "LevelFormatError", "has boxes"),
        (MAZES, "sokoban_agent", "LevelFormatError", "no box"),
        (TWO_SIZES, "fixed_size_agent", "BoardSizeError", "flattened head for 6x6"),
        ("#####\n#@$ #\n#####\n", "sokoban_agent", "LevelFormatError", "1 boxes and 0 targets"),
    ],
)
def test_levels_that_do_not_fit(cli, request, tmp_path, text, agent, error, says):
    (tmp_path / "levels.xsb").write_text(text)
    result = cli("eval", request.getfixturevalue(agent), "--levels", "levels.xsb", "--json")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(error)
    assert says in result.err


def test_an_unknown_set_names_those_there_are(cli, sokoban_agent):
    result = cli("eval", sokoban_agent, "--levels", "mediun")
    assert result.code == 2
    assert "Did you mean 'medium'" in result.err


def test_json_is_alone_on_stdout(cli, maze_agent):
    out = cli("eval", maze_agent, "--levels", "test", "--num-levels", 4, "--json").out
    assert json.loads(out)["agent"] == "maze"
