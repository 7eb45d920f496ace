"""`planprobe train` makes a run that can be resumed, evaluated and published."""

from __future__ import annotations

import json

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.subjects import zoo
from planprobe.subjects.recipe import load_recipe
from planprobe.subjects.training.train import Trainer
from planprobe.subjects.zoo import load_agent

RECIPE = """
name = "tiny-maze9"
[task]
size = 9
num_levels = 40
eval_time_limit = 10
time_limit = [5, 10]
[net]
channels = 4
num_ticks = 1
hidden = 8
head = "pool"
[training]
frames = 240
num_boards = 8
unroll = 5
num_minibatches = 1
num_eval_levels = 4
checkpoint_every = 80
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def test_train_resume_publish_verify(cli, recipe, tmp_path):
    stopped = cli("train", recipe, "--max-minutes", 0, "--json").json
    assert (stopped["finished"], stopped["frames"]) == (False, 0)
    finished = cli("train", recipe, "--resume", "--json").json
    assert (finished["finished"], finished["frames"], finished["folder"]) == (True, 240, "runs/tiny-maze9")
    row = cli("eval", "runs/tiny-maze9", "--levels", "test", "--num-levels", 4, "--json").json["rows"][0]
    assert row["n"] == 4
    published = cli("agents", "publish", "runs/tiny-maze9", "--zoo", "zoo", "--num-levels", 6, "--json").json
    folder = tmp_path / "zoo" / "tiny-maze9"
    assert published["folder"] == "zoo/tiny-maze9"
    assert sorted(path.name for path in folder.iterdir()) == [
        "CARD.md", "metrics.json", "recipe.toml", "weights.safetensors",
    ]  # fmt: skip
    assert cli("agents", "verify", "zoo/tiny-maze9", "--json").json["passed"] is True
    metrics = cli("eval", "zoo/tiny-maze9", "--num-levels", 6, "--json").out
    assert json.loads(metrics) == json.loads((folder / "metrics.json").read_text())


def test_a_run_is_not_overwritten(cli, recipe, tmp_path):
    cli("train", recipe, "--max-minutes", 0)
    before = (tmp_path / "runs/tiny-maze9/resume.safetensors").read_bytes()
    result = cli("train", recipe)
    assert result.code == 2
    assert "--resume" in result.err
    assert (tmp_path / "runs/tiny-maze9/resume.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("frames =", "framse ="), "Did you mean 'frames'"),
        (("frames = 240", 'frames = "many"'), "must be of type int"),
        (("[net]", "[net"), "is not a TOML file"),
        (("size = 9", 'kind = "mace"'), "no task 'mace'"),
        (("unroll = 5", "unroll = 0"), "unroll is 0"),
        (("unroll = 5", 'algorithm = "teach"'), "no teacher ''"),
    ],
)
def test_a_bad_recipe_writes_nothing(cli, recipe, tmp_path, change, says):
    recipe.write_text(RECIPE.replace(*change, 1))
    result = cli("train", recipe)
    assert result.code == 2
    assert result.err.startswith("RecipeError")
    assert says in result.err
    assert not (tmp_path / "runs").exists()


def test_a_recipe_of_the_zoo_by_name(cli, recipe, tmp_path, monkeypatch):
    """Also of an agent that has no weights yet."""
    monkeypatch.setattr(zoo, "agents_folder", lambda: tmp_path / "zoo")
    (tmp_path / "zoo/tiny").mkdir(parents=True)
    recipe.rename(tmp_path / "zoo/tiny/recipe.toml")
    assert cli("train", "tiny", "--max-minutes", 0, "--json").json["agent"] == "tiny-maze9"
    result = cli("eval", "tiny")
    assert result.code == 2
    assert "holds neither" in result.err
    assert "planprobe train" in result.err


def test_a_missing_recipe_names_those_there_are(cli):
    result = cli("train", "drc33-rl-boxoban10-s1")
    assert result.code == 2
    assert "no recipe 'drc33-rl-boxoban10-s1'" in result.err
    assert "Did you mean 'drc33-rl-boxoban10-s0'" in result.err


def test_an_agent_is_not_trained_over(cli, recipe, maze_agent):
    before = {path.name: path.read_bytes() for path in maze_agent.iterdir()}
    result = cli("train", recipe, "--out", maze_agent)
    assert result.code == 2
    assert "holds an agent" in result.err
    assert {path.name: path.read_bytes() for path in maze_agent.iterdir()} == before


def test_a_run_begins_with_an_agent(cli, recipe, maze_agent):
    assert cli("train", recipe, "--start", maze_agent, "--max-minutes", 0, "--json").code == 0
    started, given = load_agent("runs/tiny-maze9").net.state_dict(), load_agent(maze_agent).net.state_dict()
    assert all(torch.equal(started[key], value) for key, value in given.items())
    assert load_recipe("runs/tiny-maze9/recipe.toml").start == str(maze_agent)  # so that the run can be made again
    assert cli("train", recipe, "--resume", "--json").code == 0  # goes on without being told


def test_a_recipe_may_say_what_it_begins_with(cli, recipe, maze_agent):
    recipe.write_text(f'start = "{maze_agent}"\n' + RECIPE)
    assert cli("train", recipe, "--max-minutes", 0, "--json").code == 0
    started, given = load_agent("runs/tiny-maze9").net.state_dict(), load_agent(maze_agent).net.state_dict()
    assert all(torch.equal(started[key], value) for key, value in given.items())
    with pytest.raises(RecipeError, match="begins with the weights"):
        Trainer(load_recipe(recipe), "runs/elsewhere")


def test_a_run_does_not_begin_with_another_net(cli, recipe, maze_agent, tmp_path):
    recipe.write_text(RECIPE.replace("channels = 4", "channels = 6"))
    result = cli("train", recipe, "--start", maze_agent)
    assert result.code == 2
    assert result.err.startswith("CheckpointError: what the run begins with does not fit")
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_a_recipe_will_do(cli, recipe, tmp_path):
    (tmp_path / "mine").mkdir()
    recipe.rename(tmp_path / "mine/recipe.toml")
    assert cli("train", "mine", "--max-minutes", 0, "--json").json["agent"] == "tiny-maze9"


def test_output_that_cannot_be_written(cli, recipe, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = cli("train", recipe, "--out", tmp_path / "file" / "run")
    assert result.code == 2
    assert result.err.startswith("OutputError")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(("option", "value"), [("--device", "tpu"), ("--threads", "0")])
def test_arguments_that_make_no_sense(cli, recipe, option, value):
    result = cli("train", recipe, option, value)
    assert result.code == 2
    assert option in result.err
