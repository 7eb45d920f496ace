"""`planprobe patch` prints and saves what `patch_table` returns."""

from __future__ import annotations

import json

import pytest

QUICK = ("--num-pairs", 6)


def test_a_map_with_its_files(cli, maze_agent, tmp_path):
    result = cli("patch", maze_agent, *QUICK, "--thinking-steps", 1, "--route-moves", 2, "--out", "results", "--json")
    assert result.code == 0, result.err
    rows = result.json["rows"]
    assert {row["measure"] for row in rows} == {"logit-difference", "kl", "log-odds", "route-agreement"}
    assert {row["step"] for row in rows} == {0, 1}
    assert {row["site"] for row in rows} == {"ticks.0.0.hook_h"}
    assert "estimate" in rows[0]
    saved = json.loads((tmp_path / "results" / "patch.json").read_text())
    assert saved["options"]["num_pairs"] == 6
    assert saved["levels"]["corrupted"]["number"] == 6
    assert set(saved["row_hashes"]) == {"rows", "baselines"}
    assert "torch" in saved["versions"]
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "results" / "patch" / "rows.parquet").to_pylist()
    assert [row["raw"] for row in table] == pytest.approx([row["raw"] for row in rows])
    assert (tmp_path / "results" / "patch" / "patch-sites.html").is_file()


def test_a_path_and_a_table_for_people(cli, maze_agent):
    result = cli("patch", maze_agent, *QUICK, "--path", 1, 2, "--change", "toggle-wall", "--no-attribution")
    assert result.code == 0, result.err
    assert "toggle-wall" in result.out
    assert "elsewhere" in result.out
    assert "logit-difference" in result.out


def test_a_screen_of_squares_and_channel_groups(cli, sokoban_agent):
    result = cli(
        "patch", sokoban_agent, *QUICK, "--squares", "each", "--channels", "0:2", "3", "--num-exact", 8,
        "--source", "patch", "--reverse", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert len(result.json["screen"]) == 2 * 36
    assert sum(row["exact"] for row in result.json["screen"]) == 8
    assert len(result.json["rows"]) == 3 * 8
    assert {row["channels"] for row in result.json["screen"]} == {"0:2", "3"}
    assert -1 <= result.json["rank_agreement"]["value"] <= 1


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--change", "swap-target"), "UnknownNameError", "move-goal"),
        (("--sites", "ticks.0.0.hook_x"), "UnknownSiteError", "ticks.0.0.hook_h"),
        (("--steps", 1), "AddressError", "steps 0 to 0"),
        (("--channels", "2:x"), "ArgumentError", "--channels 2:x"),
        (("--channels", "9"), "AddressError", "which has 4"),
        (("--path", 99), "AddressError", "longest clean plan"),
        (("--num-pairs", 1), "ArgumentError", "--num-pairs"),
        (("--num-exact", 4, "--source", "zero"), "ArgumentError", "--num-exact"),
        (("--path", 1, "--squares", "each"), "ArgumentError", "--squares"),
        (("--levels", "train"), "ArgumentError", "the agent knows these levels"),
    ],
)
def test_what_cannot_be_patched(cli, maze_agent, arguments, error, says):
    result = cli("patch", maze_agent, *(() if "--num-pairs" in arguments else QUICK), *arguments, "--json")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(error)
    assert says in result.err
