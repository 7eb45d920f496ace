"""Agents as data: what is saved is what is loaded, published all at once, and measured the same twice."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import replace

import pytest
import torch

from planprobe.core.errors import CheckpointError, OutputError, RecipeError
from planprobe.core.grid import BOX
from planprobe.core.levels import LevelSet
from planprobe.core.store import load_tensors, save_tensors, write_json
from planprobe.subjects import zoo
from planprobe.subjects.envs.catalog import (
    distances_to_goal,
    far_distance,
    level_set_names,
    make_env,
    named_levels,
    task_levels,
    wrong_moves,
)
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import TaskRecipe, make_recipe
from planprobe.subjects.scorecard import RESET, Condition, compute_scores, find_score
from planprobe.subjects.zoo import load_agent, publish_agent, save_agent, verify_agent

MAZE = TaskRecipe(size=9, num_levels=60, eval_time_limit=20)
SOKOBAN = TaskRecipe(kind="sokoban", size=6, num_levels=60, num_boxes=(1, 1), eval_time_limit=20)


@pytest.fixture
def recipe():
    task = {"size": 9, "num_levels": 60, "eval_time_limit": 20}
    net = {"channels": 4, "num_ticks": 1, "hidden": 8, "head": "pool"}
    return make_recipe({"name": "tiny", "task": task, "net": net})


@pytest.fixture
def agent_folder(recipe, tmp_path):
    bank = LevelSet(torch.zeros(1, 9, 9, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    torch.manual_seed(5)
    net = make_net_for(recipe.net, make_env(recipe.task, bank, 1, training=False))
    return save_agent(tmp_path / "tiny", recipe, net.state_dict(), frames=77)


def test_an_agent_outlives_new_recipe_keys(agent_folder):
    """Saved when recipes had no key 'difficulty' yet: its hash then was over what its file holds."""
    path = agent_folder / "recipe.toml"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "difficulty" not in line))
    then = json.dumps(tomllib.loads(path.read_text()), sort_keys=True)
    weights, metadata = load_tensors(agent_folder / "weights.safetensors")
    save_tensors(agent_folder / "weights.safetensors", weights, metadata)
    assert load_agent(agent_folder).frames == 77, "a key at its default changes nothing"
    metadata["recipe_hash"] = hashlib.sha256(then.encode()).hexdigest()
    save_tensors(agent_folder / "weights.safetensors", weights, metadata)
    assert load_agent(agent_folder).frames == 77


@pytest.fixture
def unmeasured(monkeypatch):
    """Publishing without playing."""

    def compute_metrics(agent, *, num_levels, on_progress=None):
        return {"schema": 1, "agent": agent.name, "frames": 0, "num_levels": num_levels, "level_hashes": {}, "rows": []}

    monkeypatch.setattr(zoo, "compute_metrics", compute_metrics)


def test_what_is_saved_is_loaded(agent_folder, recipe):
    agent = load_agent(agent_folder)
    weights, _ = load_tensors(agent_folder / "weights.safetensors")
    assert agent.recipe == recipe
    assert (agent.name, agent.frames, agent.metrics) == ("tiny", 77, {})
    assert all(torch.equal(agent.net.state_dict()[key], value) for key, value in weights.items())


def test_publish_then_verify(agent_folder, tmp_path):
    target = publish_agent(agent_folder, tmp_path / "zoo", num_levels=6)
    agent = load_agent(target)
    _, metadata = load_tensors(target / "weights.safetensors")
    assert set(metadata) == {"schema", "name", "recipe_hash", "frames", "code_version", "level_hashes"}
    assert metadata["level_hashes"]["test"] == agent.levels("test", 6).hash()
    assert metadata["level_hashes"]["train"] == task_levels(agent.task, "train", agent.task.num_levels).hash()
    assert verify_agent(target).passed
    assert "planprobe study tiny" in (target / "CARD.md").read_text()
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["tiny"]


def test_a_number_that_became_none_at_all_is_not_verified(agent_folder, monkeypatch):
    metrics = zoo.compute_metrics(load_agent(agent_folder), num_levels=2)
    write_json(agent_folder / "metrics.json", metrics)
    broken = [{**metrics["rows"][0], "value": float("nan")}, *metrics["rows"][1:]]
    monkeypatch.setattr(zoo, "compute_metrics", lambda *_, **__: {**metrics, "rows": broken})
    assert [row["measure"] for row in verify_agent(agent_folder, tolerance=0.5).differences] == ["solved"]


def test_a_failed_publication_leaves_the_old_agent(agent_folder, tmp_path, monkeypatch, unmeasured):
    target = publish_agent(agent_folder, tmp_path / "zoo", num_levels=2)
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zoo, "write_card", fail)
    with pytest.raises(OutputError, match="No space left"):
        publish_agent(agent_folder, tmp_path / "zoo", num_levels=3, overwrite=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["tiny"]


def test_overwrite_replaces_all_of_it(agent_folder, tmp_path, unmeasured):
    publish_agent(agent_folder, tmp_path / "zoo", num_levels=2)
    with pytest.raises(OutputError, match="exists already"):
        publish_agent(agent_folder, tmp_path / "zoo", num_levels=3)
    target = publish_agent(agent_folder, tmp_path / "zoo", num_levels=3, overwrite=True)
    assert load_agent(target).metrics["num_levels"] == 3


def test_weights_have_a_limit(agent_folder, tmp_path, monkeypatch, unmeasured):
    monkeypatch.setattr(zoo, "MAX_WEIGHT_BYTES", 100)
    with pytest.raises(OutputError, match="2 MB at most"):
        publish_agent(agent_folder, tmp_path / "zoo", num_levels=2)
    assert not (tmp_path / "zoo").exists()


def test_other_levels_are_not_compared(agent_folder):
    metrics = zoo.compute_metrics(load_agent(agent_folder), num_levels=2)
    metrics["level_hashes"]["test"] = "0" * 64
    write_json(agent_folder / "metrics.json", metrics)
    with pytest.raises(CheckpointError, match="generator has changed"):
        verify_agent(agent_folder)


def test_scores_cover_every_condition(agent_folder):
    agent = load_agent(agent_folder)
    scores = compute_scores(agent.net, agent.task, num_levels=6, thinking_steps=(0, 2))
    assert find_score(scores, thinking_steps=2)["n"] == 6
    assert find_score(scores, memory=RESET.memory) is not None
    assert find_score(scores, policy="sampled") is not None
    kept, reset = (
        find_score(scores, "optimal first move", levels="far", memory=memory, thinking_steps=0)
        for memory in (Condition().memory, RESET.memory)
    )
    assert kept["value"] == reset["value"], "before any thinking there is no memory to reset"
    for row in scores["rows"]:
        assert row["low"] <= row["value"] <= row["high"]


def test_a_perfect_walker_scores_one():
    class Compass:
        """Reads the optimal move off the board: planes wall, target, player."""

        def initial_state(self, num_boards, board=None):
            return ()

        def step(self, observation, state):
            walls, targets, players = observation.unbind(1)
            boards = walls + 2 * targets
            starts = players.flatten(1).argmax(1)
            maps = distances_to_goal(LevelSet(boards, starts))[0]
            padded = torch.where(maps < 0, 999, maps).flatten(1)
            width = observation.shape[-1]
            beside = starts[:, None] + torch.tensor([-width, width, -1, 1])
            return -padded.gather(1, beside).float(), torch.zeros(len(boards)), ()

    scores = compute_scores(Compass(), replace(MAZE, eval_time_limit=60), num_levels=20, thinking_steps=(0, 1))
    solved = [row["value"] for row in scores["rows"] if row["measure"] == "solved" and row["policy"] == "greedy"]
    first = [row for row in scores["rows"] if row["measure"] == "optimal first move"]
    assert set(solved) == {1.0}
    assert {row["value"] for row in first if row["policy"] == "greedy"} == {1.0}
    (chance,) = (row["value"] for row in first if row["policy"] != "greedy")
    assert 0.2 < chance < 0.8


def test_far_mazes_are_far_and_a_first_move_decides():
    far = named_levels(MAZE, "far", 30)
    maps, distance = distances_to_goal(far)
    wrong = wrong_moves(maps).any(1).flatten(1).gather(1, far.players[:, None])
    assert int(distance.min()) >= far_distance(9) == 16
    assert bool(wrong.all())
    assert torch.equal(named_levels(MAZE, "far", 10).players, far.players[:10])
    test_boards = {bytes(board.numpy().tobytes()) for board in task_levels(MAZE, "test", 360).boards}
    assert all(board.numpy().tobytes() in test_boards for board in far.boards)


def test_medium_sokoban_has_one_box_more_and_is_held_out():
    medium = named_levels(SOKOBAN, "medium", 20)
    assert set(((medium.boards & BOX) != 0).flatten(1).sum(1).tolist()) == {2}
    assert medium.name == "sokoban6/medium"


def test_level_sets_of_a_task():
    assert level_set_names(MAZE) == ("train", "valid", "test", "far")
    assert level_set_names(replace(MAZE, size=7)) == ("train", "valid", "test")
    with pytest.raises(RecipeError, match="Did you mean 'far'"):
        named_levels(MAZE, "farr", 5)
