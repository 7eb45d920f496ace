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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("eval", RUN, "--levels", "test"), "--levels"),
        (("eval", RUN, "--thinking-steps", 2), "--thinking-steps"),
        (("probe", RUN), "needs a task on levels"),
    ],
)
def test_what_needs_levels_says_so(cli, run, arguments, says):
    result = cli(*arguments)
    assert result.code == 2
    assert says in result.err
