"""Agents that play trials, through every verb: trained, evaluated, published, verified, refused where they must be."""

from __future__ import annotations

import json

import pytest

RECIPE = """
name = "gru-rl2-tiny-s0"
[task]
kind = "hidden-goal"
size = 3
episode_steps = 3
[inputs]
step_index = true
[net]
kind = "gru"
channels = 4
hidden = 4
[training]
frames = 96
num_boards = 8
unroll = 6
num_minibatches = 1
num_eval_levels = 4
"""
RUN = "runs/gru-rl2-tiny-s0"


@pytest.fixture
def run(cli, tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return cli("train", "tiny.toml", "--json").json


def test_train_publish_eval_verify(cli, run, tmp_path):
    assert (run["finished"], run["frames"]) == (True, 96)
    assert {"train_return", "valid_return"} <= run.keys()
    published = cli("agents", "publish", RUN, "--zoo", "zoo", "--num-levels", 12, "--json").json
    folder = tmp_path / published["folder"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert json.loads(cli("eval", folder, "--num-levels", 12, "--json").out) == metrics
    assert cli("agents", "verify", folder, "--json").json["passed"] is True
    moved = metrics["rows"][0] | {"value": metrics["rows"][0]["value"] + 1}
    (folder / "metrics.json").write_text(json.dumps(metrics | {"rows": [moved, *metrics["rows"][1:]]}))
    assert cli("agents", "verify", folder).code == 1
    card = (folder / "CARD.md").read_text()
    assert "trials of hidden-goal" in card
    assert "step index" in card
    assert "planprobe study" not in card


def test_one_way_of_playing(cli, run):
    rows = cli("eval", RUN, "--num-levels", 7, "--sampled", "--reset-memory", "--json").json["rows"]
    assert {(row["policy"], row["memory"], row["n"]) for row in rows} == {("sampled", "reset each step", 7)}


def test_shown_with_its_recipe_and_sites(cli, run):
    shown = cli("agents", "show", RUN, "--json").json
    assert shown["recipe"]["task"]["kind"] == "hidden-goal"
    assert shown["recipe"]["inputs"]["step_index"] is True
    assert shown["sites"]["ticks.0.0.hook_h"] == [4, 1, 1]
    assert "inputs.step_index" in cli("agents", "show", RUN).out


@pytest.fixture
def roomy_run(cli, tmp_path):
    """On a grid with room for two goals and a square between them."""
    recipe = RECIPE.replace("size = 3", "size = 4").replace("episode_steps = 3", "episode_steps = 15")
    (tmp_path / "roomy.toml").write_text(recipe)
    return cli("train", "roomy.toml", "--json").json


def test_histories_that_differ_in_psi_are_patched(cli, roomy_run, tmp_path):
    result = cli("patch", RUN, "--num-pairs", 6, "--sites", "ticks.0.0.hook_h", "--out", "patched", "--json")
    assert result.code == 0, result.err
    assert (result.json["change"], result.json["num_pairs"], result.json["histories"]["steps"]) == ("psi", 6, 19)
    rows = [row for row in result.json["rows"] if row["measure"] == "logit-difference"]
    assert [row["step"] for row in rows] == list(range(19))
    gap = next(row["gap"] for row in result.json["baselines"] if row["measure"] == "logit-difference")
    assert rows[0]["raw"] == 0  # before anything was paid both runs are one
    assert rows[-1]["raw"] == pytest.approx(gap)  # all of memory, where the move is read
    saved = json.loads((tmp_path / "patched" / "patch.json").read_text())
    assert saved["histories"] == result.json["histories"]
    assert (tmp_path / "patched" / "patch" / "patch-sites.html").is_file()
    backwards = cli("patch", RUN, "--num-pairs", 6, "--sites", "ticks.0.0.hook_h", "--reverse", "--steps", 18, "--json")
    assert backwards.json["baselines"][0]["clean"] == pytest.approx(-result.json["baselines"][0]["corrupted"])


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--change", "move-goal"), "UnknownNameError", "psi"),
        (("--path", 1), "RecipeError", "path"),
        (("--thinking-steps", 2), "RecipeError", "thinking_steps"),
        (("--route-moves", 2), "RecipeError", "route_moves"),
        (("--levels", "valid"), "RecipeError", "'valid'"),
        (("--squares", "each", "--steps", 40), "AddressError", "steps"),
        (("--sites", "ticks.0.0.hook_c"), "UnknownSiteError", "ticks.0.0.hook_h"),
    ],
)
def test_what_only_levels_have_is_refused(cli, roomy_run, arguments, error, says):
    result = cli("patch", RUN, "--num-pairs", 4, *arguments)
    assert result.code == 2
    assert result.err.startswith(error)
    assert says in result.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("eval", RUN, "--levels", "test"), "--levels"),
        (("eval", RUN, "--thinking-steps", 2), "--thinking-steps"),
        (("probe", RUN), "needs a task on levels"),
        (("study", RUN, "--twin", RUN), "--twin"),
    ],
)
def test_what_needs_levels_says_so(cli, run, arguments, says):
    result = cli(*arguments)
    assert result.code == 2
    assert says in result.err
