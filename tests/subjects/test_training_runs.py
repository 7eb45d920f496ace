"""Runs that are killed, resumed, refused or diverge."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from planprobe.__main__ import main
from planprobe.core.errors import CheckpointError, RecipeError, TrainingDivergedError
from planprobe.core.store import load_tensors, write_atomic
from planprobe.subjects.recipe import NetRecipe, TaskRecipe, TrainingRecipe, load_recipe, make_recipe, recipe_to_toml
from planprobe.subjects.recipe_limits import RANGES, check_numbers
from planprobe.subjects.training import train
from planprobe.subjects.training.train import RESUME_FILE, Trainer
from planprobe.subjects.zoo import save_agent

TINY = {
    "name": "drc11-rl-maze9-s0",
    "task": {"size": 9, "num_levels": 64, "time_limit": [8, 16], "warm_up_size": 7, "warm_up_frames": 640,
             "near_fraction": 0.5, "thinking_steps": [1, 3], "thinking_fraction": 0.5},
    "net": {"channels": 4, "num_ticks": 1, "head": "pool", "hidden": 8},
    "training": {"frames": 960, "num_boards": 16, "unroll": 5, "checkpoint_every": 320, "eval_every": 800,
                 "num_eval_levels": 8},
}  # fmt: skip
FLAGSHIP = Path(__file__).parents[2] / "agents" / "drc33-rl-boxoban10-s0" / "recipe.toml"


@pytest.fixture
def recipe():
    return make_recipe(TINY)


def weights(folder):
    return {k: v for k, v in load_tensors(folder / RESUME_FILE)[0].items() if k.startswith("net.")}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_resumed_run_ends_with_the_same_weights_bit_for_bit(recipe, tmp_path):
    Trainer(recipe, tmp_path / "whole").run()
    Trainer(recipe, tmp_path / "again").run(max_seconds=0)
    while not (finished := Trainer(recipe, tmp_path / "again", resume=True)).run(max_seconds=0.1):
        assert finished.frames < recipe.training.frames
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "again"))
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("whole", "again")]
    frames = [[json.loads(line)["frames"] for line in log] for log in logs]
    assert frames[0] == frames[1]


def test_run_killed_at_any_moment_resumes_to_the_same_weights(recipe, tmp_path):
    path = write_atomic(tmp_path / "tiny.toml", recipe_to_toml(recipe))
    script = (
        "import sys; from planprobe.subjects.recipe import load_recipe; import torch; torch.set_num_threads(1)\n"
        "from planprobe.subjects.training.train import Trainer\n"
        "Trainer(load_recipe(sys.argv[1]), sys.argv[2], resume=True).run()"
    )
    killed = tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script, str(path), str(killed)], env=environment)
    deadline = time.monotonic() + 120
    while not (killed / RESUME_FILE).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    torch.set_num_threads(1)
    Trainer(recipe, killed, resume=True).run()
    Trainer(recipe, tmp_path / "whole").run()
    assert_same(weights(tmp_path / "whole"), weights(killed))


def test_a_slow_run_is_kept_by_the_clock_too(recipe, tmp_path, monkeypatch):
    """Between the checkpoints that the recipe counts in frames, and without moving those."""
    rare = replace(recipe, training=replace(recipe.training, frames=240, checkpoint_every=1_000_000, eval_every=10**6))
    kept = []
    for seconds in (1e6, 0.0):
        monkeypatch.setattr(train, "CHECKPOINT_SECONDS", seconds)
        trainer = Trainer(rare, tmp_path / str(seconds))
        monkeypatch.setattr(trainer, "checkpoint", lambda: kept.append((seconds, trainer.frames)))  # noqa: B023
        assert trainer.run()
        assert trainer._next_checkpoint == 1_000_000
    assert kept == [(1e6, 240), (0.0, 80), (0.0, 160), (0.0, 240), (0.0, 240)]


def test_what_a_killed_checkpoint_left_is_removed(recipe, tmp_path):
    Trainer(recipe, tmp_path).run(max_seconds=0)
    left = tmp_path / f".{RESUME_FILE}.abc.tmp"
    left.write_bytes(b"half a checkpoint")
    Trainer(recipe, tmp_path, resume=True)
    assert not left.exists()
    assert (tmp_path / RESUME_FILE).exists()


def test_folder_with_a_run_is_neither_overwritten_nor_mixed(recipe, tmp_path):
    Trainer(recipe, tmp_path).run(max_seconds=0)
    before = (tmp_path / RESUME_FILE).read_bytes()
    with pytest.raises(CheckpointError, match="--resume"):
        Trainer(recipe, tmp_path)
    with pytest.raises(CheckpointError, match="another recipe"):
        Trainer(replace(recipe, seed=1), tmp_path, resume=True)
    assert (tmp_path / RESUME_FILE).read_bytes() == before


def test_diverged_run_keeps_the_last_good_checkpoint(recipe, tmp_path):
    trainer = Trainer(recipe, tmp_path)
    trainer.run(max_seconds=0)
    before = weights(tmp_path)
    with torch.no_grad():
        trainer.net.encoder.weight.fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="last good checkpoint"):
        trainer.run()
    assert_same(before, weights(tmp_path))


def test_truncated_resume_file_is_refused(recipe, tmp_path):
    Trainer(recipe, tmp_path).run(max_seconds=0)
    whole = (tmp_path / RESUME_FILE).read_bytes()
    (tmp_path / RESUME_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        Trainer(recipe, tmp_path, resume=True)


def test_resume_file_that_no_run_wrote_is_refused(recipe, tmp_path):
    trainer = Trainer(recipe, tmp_path / "run")
    agent = save_agent(tmp_path / "agent", recipe, trainer.net.state_dict())
    (agent / "weights.safetensors").rename(agent / RESUME_FILE)
    with pytest.raises(CheckpointError, match="not written by a training run"):
        Trainer(recipe, agent, resume=True)


def test_impala_and_initial_weights_run_in_the_same_trainer(recipe, tmp_path):
    first = Trainer(recipe, tmp_path / "first")
    first.run(max_seconds=0.01)  # one update, so that its weights are not those of a fresh net
    assert first.frames > 0
    impala = replace(recipe, training=replace(recipe.training, algorithm="impala", frames=160))
    second = Trainer(impala, tmp_path / "second", initial_weights=first.net.state_dict())
    assert_same(dict(first.net.state_dict()), dict(second.net.state_dict()))
    assert second.run()


@pytest.mark.skipif(not os.environ.get("PLANPROBE_BOXOBAN"), reason="PLANPROBE_BOXOBAN is not set")
def test_flagship_recipe_runs_at_tiny_size(tmp_path):
    recipe = load_recipe(FLAGSHIP)
    tiny = replace(
        recipe,
        task=replace(recipe.task, num_levels=1000),
        net=replace(recipe.net, channels=8),
        training=replace(recipe.training, num_boards=4, unroll=4, frames=32, num_minibatches=1),
    )
    trainer = Trainer(tiny, tmp_path)
    before = {key: value.clone() for key, value in trainer.net.state_dict().items()}
    assert trainer.run()
    assert trainer.net.num_layers == trainer.net.num_ticks == 3
    assert trainer.net.board == (10, 10)
    assert any(not torch.equal(before[key], value) for key, value in trainer.net.state_dict().items())


@pytest.mark.skipif(not os.environ.get("PLANPROBE_BOXOBAN"), reason="PLANPROBE_BOXOBAN is not set")
def test_one_command_begins_the_flagship_and_goes_on_after_a_kill(tmp_path, capsys):
    """The command of its card, less the GPU: killed once a checkpoint is there, then given again."""
    recipe = load_recipe(FLAGSHIP)
    training = replace(recipe.training, num_boards=4, unroll=4, frames=96, checkpoint_every=16, num_eval_levels=2)
    task = replace(recipe.task, num_levels=1000, eval_time_limit=4)
    tiny = replace(recipe, task=task, net=replace(recipe.net, channels=4, hidden=8), training=training)
    path, runs = write_atomic(tmp_path / "recipe.toml", recipe_to_toml(tiny)), [tmp_path / "whole", tmp_path / "killed"]
    command = [sys.executable, "-m", "planprobe", "train", str(path), "--resume", "--bf16", "--json", "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, str(runs[1])], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (runs[1] / RESUME_FILE).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    killed_at = load_tensors(runs[1] / RESUME_FILE)[1]["frames"]
    torch.set_num_threads(1)
    assert main([*command[3:], str(runs[1])]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["finished"], told["frames"]) == (True, 96)
    assert told["frames_per_second"] > 0 or killed_at == 96
    assert Trainer(tiny, runs[0], bf16=True).run()
    assert_same(weights(runs[0]), weights(runs[1]))


class TestRecipes:
    def test_toml_round_trip(self, recipe, tmp_path):
        path = write_atomic(tmp_path / "r.toml", recipe_to_toml(recipe))
        assert load_recipe(path) == recipe
        assert load_recipe(path).hash() == recipe.hash()

    def test_hash_covers_every_value(self, recipe):
        assert replace(recipe, seed=5).hash() != recipe.hash()
        assert replace(recipe, training=replace(recipe.training, gamma=0.5)).hash() != recipe.hash()

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"training": {"entrpoy": [0.1, 0.1]}}, "Did you mean 'entropy'"),
            ({"trainin": {}}, "Did you mean 'training'"),
            ({"training": {"frames": "many"}}, "must be of type int"),
            ({"training": {"frames": True}}, "must be of type int"),
            ({"training": {"lr": [1e-3]}}, "list of 2"),
            ({"training": 3}, "must be a table"),
            ({"training": {"algorithm": "pppo"}}, "Did you mean 'ppo'"),
            ({"task": {"warm_up_frames": 10}, "net": {"head": "flatten"}}, "flattened head"),
            ({"task": {"time_limit": [10, 5]}}, r"time_limit is \[10, 5\]; it must be \[fewest, most\]"),
            ({"task": {"eval_time_limit": 0}}, "eval_time_limit is 0; it must be 1 or more"),
            ({"task": {"near_fraction": 1.5}}, "near_fraction is 1.5; it must be 0 to 1"),
            ({"net": {"num_ticks": 0}}, "num_ticks is 0; it must be 1 or more"),
            ({"training": {"gamma": float("nan")}}, "gamma is nan; it must be 0 to 1"),
            ({"training": {"lr": [-1e-3, 0.0]}}, "lr is .*it must be 0 or more"),
            ({"training": {"lr": [float("inf"), 0.0]}}, "lr is .*it must be 0 or more"),
            ({"task": {"kind": "bandit"}, "training": {"unroll": 0}}, "unroll is 0"),
            ({"seed": -1}, "seed is -1"),
            ({"seed": 2**70}, "seed is"),
            ({"name": "../up"}, "names a folder"),
            ({"name": ""}, "names a folder"),
        ],
    )
    def test_wrong_recipes_are_refused_with_the_nearest_name(self, table, message):
        with pytest.raises(RecipeError, match=message):
            make_recipe({"name": "x", **table})

    def test_every_number_of_a_recipe_has_a_range(self):
        parts = {"task": TaskRecipe, "net": NetRecipe, "training": TrainingRecipe}
        for section, part in parts.items():
            numbers = {each.name for each in fields(part) if type(each.default) in (int, float, tuple)}
            checked_elsewhere = {"size", "warm_up_size", "braid"} if section == "task" else set()
            assert set(RANGES[section]) == numbers - checked_elsewhere
            check_numbers(part(), section, where="the defaults")

    def test_missing_and_malformed_files(self, tmp_path):
        with pytest.raises(RecipeError, match="no recipe at"):
            load_recipe(tmp_path / "none.toml")
        (tmp_path / "bad.toml").write_text("name = ")
        with pytest.raises(RecipeError, match="not a TOML file"):
            load_recipe(tmp_path / "bad.toml")
        with pytest.raises(RecipeError, match="cannot read"):
            load_recipe(tmp_path)
