"""Level files through the command line."""

from __future__ import annotations

import pytest

from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.level_text import read_levels

RAGGED = "Title: mine\n\n  ####\n###  ####\n#     $ #\n# #  #$ #\n# . .#@ #\n#########\n\n#####\n#@$.#\n#####\n"


def test_generate_writes_what_the_generator_makes(cli, tmp_path):
    options = ("--task", "sokoban", "--size", 6, "--boxes", 1, 2, "--num", 5, "--seed", 3, "--split", "test")
    result = cli("levels", "generate", *options, "--out", "levels.xsb", "--json")
    expected = generate_sokoban(5, size=6, num_boxes=(1, 2), seed=3, split="test")
    assert result.json["sha256"] == expected.hash()
    (written,) = read_levels(tmp_path / "levels.xsb")
    assert (written.boards == expected.boards).all()
    assert (written.players == expected.players).all()


def test_generate_to_stdout_can_be_read_back(cli, tmp_path):
    result = cli("levels", "generate", "--task", "maze", "--size", 9, "--num", 3)
    (tmp_path / "piped.xsb").write_text(result.out)
    assert len(read_levels(tmp_path / "piped.xsb")[0]) == 3


def test_solve_gives_a_row_a_level(cli, tmp_path):
    (tmp_path / "ragged.sok").write_text(RAGGED)
    rows = cli("levels", "solve", "ragged.sok", "--json").json["rows"]
    assert [row["board"] for row in rows] == ["6x9", "3x5"]
    assert (rows[1]["moves"], rows[1]["pushes"], rows[1]["solution"]) == (1, 1, "r")


def test_a_level_that_is_given_up_is_not_called_unsolvable(cli, tmp_path):
    (tmp_path / "ragged.sok").write_text(RAGGED)
    rows = cli("levels", "solve", "ragged.sok", "--max-nodes", 1, "--json").json["rows"]
    assert (rows[0]["status"], rows[0]["moves"]) == ("not solved within budget", None)


def test_convert_then_show(cli, tmp_path):
    (tmp_path / "ragged.sok").write_text(RAGGED)
    assert cli("levels", "convert", "ragged.sok", "clean.xsb", "--json").json["levels"] == 2
    shown = cli("levels", "show", "clean.xsb", "--index", 1)
    assert shown.out.startswith("#####\n#@$.#\n#####\n")


def test_boxoban_cannot_hold_a_player_on_a_target(cli, tmp_path):
    (tmp_path / "odd.xsb").write_text("######\n#+$ .#\n#  $ #\n######\n")
    result = cli("levels", "convert", "odd.xsb", "odd.txt", "--style", "boxoban")
    assert result.code == 2
    assert not (tmp_path / "odd.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("solve", "absent.xsb"), "cannot read levels"),
        (("show", "ragged.sok", "--index", "2"), "levels 0 to 1"),
        (("generate", "--size", "99"), "size"),
        (("generate", "--num", "0"), "at least one"),
        (("generate", "--num", "2", "--size", "6", "--out", "ragged.sok/below.xsb"), "cannot write"),
    ],
)
def test_requests_that_cannot_be_served(cli, tmp_path, arguments, says):
    (tmp_path / "ragged.sok").write_text(RAGGED)
    result = cli("levels", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert says in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["ragged.sok"]


def test_a_malformed_level_names_its_line(cli, tmp_path):
    (tmp_path / "bad.xsb").write_text("#####\n#@x.#\n#####\n")
    result = cli("levels", "solve", "bad.xsb")
    assert result.code == 2
    assert "bad.xsb, line 2" in result.err
