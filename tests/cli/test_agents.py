"""The zoo through the command line, and every way in which a checkpoint can be wrong."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from planprobe.core.store import load_tensors, save_tensors
from planprobe.subjects import zoo


@pytest.fixture
def home(tmp_path, maze_agent, monkeypatch):
    """A zoo with one agent, 'maze'."""
    monkeypatch.setattr(zoo, "agents_folder", lambda: tmp_path)
    return tmp_path


def test_list_and_load_by_name(cli, home):
    assert [row["name"] for row in cli("agents", "list", "--json").json] == ["maze"]
    assert cli("eval", "maze", "--levels", "test", "--num-levels", 2, "--json").json["agent"] == "maze"


def test_an_empty_zoo_says_what_to_do(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "agents_folder", lambda: tmp_path / "nowhere")
    result = cli("agents", "list")
    assert result.code == 0
    assert "planprobe train" in result.err


def test_show_has_recipe_and_sites(cli, home):
    shown = cli("agents", "show", "maze", "--json").json
    assert shown["recipe"]["task"]["size"] == 9
    assert shown["sites"]["ticks.0.0.hook_h"] == [4, 9, 9]


def test_an_unknown_agent_has_a_nearest_name(cli, home):
    result = cli("eval", "mazee")
    assert result.code == 2
    assert result.err.startswith("UnknownAgentError")
    assert "Did you mean 'maze'" in result.err


def test_verify_fails_with_1_where_a_number_moved(cli, home, tmp_path):
    folder = tmp_path / "maze"
    metrics = cli("eval", "maze", "--num-levels", 4, "--json").json
    metrics["rows"][0]["value"] += 0.25
    (folder / "metrics.json").write_text(json.dumps(metrics))
    result = cli("agents", "verify", "maze", "--json")
    assert result.code == 1
    assert len(result.json["differences"]) == 1
    assert cli("agents", "verify", "maze", "--tolerance", "0.3").code == 0


def test_verify_without_metrics(cli, home):
    result = cli("agents", "verify", "maze")
    assert result.code == 2
    assert "metrics.json" in result.err


def _truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def _pickle(path):
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


def _torch_save(path):
    torch.save({"weight": torch.zeros(3)}, path)


def _delete(path):
    path.unlink()


def _reshape(path):
    tensors, metadata = load_tensors(path)
    tensors["encoder.bias"] = torch.zeros(7)
    save_tensors(path, tensors, metadata)


def _drop_a_weight(path):
    tensors, metadata = load_tensors(path)
    del tensors["encoder.bias"]
    save_tensors(path, tensors, metadata)


def _disown(path):
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, {**metadata, "recipe_hash": "of another"})


def _no_metadata(path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_truncate, "truncated"), (_pickle, "Pickled"), (_torch_save, "Pickled"), (_delete, "holds neither"),
        (_reshape, "other shape: encoder.bias"), (_drop_a_weight, "missing: encoder.bias"),
        (_disown, "another recipe"), (_no_metadata, "not written by planprobe"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_not_one(cli, maze_agent, spoil, says):
    spoil(maze_agent / "weights.safetensors")
    result = cli("eval", maze_agent, "--json")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("CheckpointError")
    assert says in result.err


def test_a_pickle_named_directly_is_refused(cli, tmp_path):
    _torch_save(tmp_path / "policy.pt")
    result = cli("eval", "policy.pt")
    assert result.code == 2
    assert "Pickled" in result.err


def test_an_edited_recipe_is_noticed(cli, maze_agent):
    recipe = maze_agent / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("gamma = 0.97", "gamma = 0.98"))
    result = cli("eval", maze_agent)
    assert result.code == 2
    assert "belongs to another recipe" in result.err


@pytest.mark.parametrize("spec", ["no_such_module_at_all:make", "json:no_such_factory", "json:JSONDecoder"])
def test_a_factory_that_makes_no_agent(cli, spec):
    result = cli("eval", spec)
    assert result.code == 2
    assert result.err.startswith("UnknownAgentError")


def test_publish_where_nothing_can_be_written(cli, maze_agent, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = cli("agents", "publish", maze_agent, "--zoo", tmp_path / "file" / "zoo", "--num-levels", 2)
    assert result.code == 2
    assert result.err.startswith("OutputError")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "maze"]


def test_publish_does_not_overwrite(cli, maze_agent, tmp_path):
    result = cli("agents", "publish", maze_agent, "--zoo", tmp_path, "--num-levels", 2)
    assert result.code == 2
    assert "--overwrite" in result.err
