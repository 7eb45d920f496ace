"""What training and evaluation do on a device that is not the CPU; run by `test_another_device.py`."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from pretend_device import pretended_device, register, waits

from planprobe.core.play import play_levels
from planprobe.core.play_trials import play_trials
from planprobe.subjects.envs.catalog import task_levels
from planprobe.subjects.envs.trial_catalog import TRIAL_KINDS, make_trial_env
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import make_recipe
from planprobe.subjects.training.evaluate import env_maker
from planprobe.subjects.training.train import Trainer
from planprobe.subjects.training.worlds import make_shape_env

register()
torch.set_num_threads(1)

STEPS, BOARDS = 3, 4
TRAINING = {"frames": STEPS * BOARDS, "num_boards": BOARDS, "unroll": STEPS, "num_minibatches": 1, "num_eval_levels": 2}
DRC = {"channels": 4, "num_layers": 2, "num_ticks": 2, "boundary": True, "hidden": 8}
POOL = {"channels": 4, "num_ticks": 1, "head": "pool", "hidden": 8}
VECTOR = {"channels": 4, "hidden": 8}
SHORT = {"time_limit": [2, 3], "eval_time_limit": 3}
MAZE = {"size": 9, "num_levels": 40, **SHORT}
SOKOBAN = {"kind": "sokoban", "size": 7, "num_boxes": [1, 2], "num_levels": 40, "end_when_lost": True, **SHORT}
BOXOBAN = {"kind": "boxoban", "size": 10, "num_boxes": [4, 4], "num_levels": 1000, **SHORT}
WARM_UP = {"warm_up_size": 7, "warm_up_frames": STEPS * BOARDS, "thinking_steps": [1, 2], "near_fraction": 0.5}
TRIALS = {
    "bandit": {"num_pulls": 4}, "doors": {"num_episodes": 2, "episode_steps": 2},
    "maze-trial": {"num_mazes": 8, "episode_steps": 2},
    "sokoban-trial": {"num_levels": 10, "num_episodes": 2, "episode_steps": 2},
}  # fmt: skip

RUNS = {
    "maze": {"task": MAZE | WARM_UP, "net": POOL, "training": {"frames": 2 * STEPS * BOARDS, "num_minibatches": 2}},
    "sokoban": {"task": SOKOBAN, "net": DRC, "training": {"algorithm": "impala", "logit_l2": 1e-3}},
    "boxoban": {"task": BOXOBAN, "net": DRC, "training": {"algorithm": "impala"}},
    "colours": {"task": SOKOBAN | {"observation": "rgb", "noop": True}, "net": POOL | {"kind": "resnet"}},
    "doors": {"task": {"kind": "doors"}, "net": VECTOR | {"kind": "gru"}, "training": {"predict_weight": 0.1}},
    "bandit": {"task": {"kind": "bandit"}, "net": VECTOR | {"kind": "lstm"}, "training": {"reset_memory": True}},
    "mazes": {"task": {"kind": "maze-trial"}, "net": {"kind": "transformer", "channels": 4}},
    "boxes": {"task": {"kind": "sokoban-trial"}, "net": POOL, "training": {"predict_weight": 0.1}},
    "wave": {"task": MAZE, "net": POOL, "training": {"algorithm": "teach", "teacher": "wavefront"}},
    "walk": {"task": MAZE, "net": POOL, "training": {"algorithm": "teach", "teacher": "rollout"}},
}


def tiny(table):
    task, training = table["task"], table.get("training", {})
    short = TRIALS.get(task.get("kind"), {})
    evaluated_once = {"eval_every": TRAINING["frames"]}
    return make_recipe(
        {"name": "tiny", **table, "task": task | short, "training": TRAINING | evaluated_once | training}
    )


def weights(trainer):
    return {name: part.detach().cpu().clone() for name, part in trainer.net.state_dict().items()}


def assert_close(first, second):
    assert first.keys() == second.keys()
    for name, part in first.items():
        torch.testing.assert_close(part, second[name], rtol=1e-5, atol=1e-6)


class TestThePretendedDevice:
    def test_two_devices_do_not_mix(self):
        with pretended_device() as device:
            here, there = torch.ones(3), torch.ones(3, device=device)
            for mixture in (
                lambda: here + there,
                lambda: torch.cat([here, there]),
                lambda: there.scatter_(0, here.long(), 1),
            ):
                with pytest.raises(RuntimeError, match="one device"):
                    mixture()
            assert (there * torch.tensor(2.0)).device.type == device  # a number from the host is none
            with pytest.raises(RuntimeError, match="generator"):
                torch.rand(3, generator=torch.Generator(), device=device)

    def test_waiting_is_noted(self):
        with pretended_device() as device:
            there = torch.arange(4, device=device)
            assert not waits
            assert (bool(there.any()), int(there.sum()), there.cpu().tolist()) == (True, 6, [0, 1, 2, 3])
            assert len(there[there > 1]) == len(there.nonzero()) - 1 == 2
        assert waits == {("read", "elsewhere"): 2, ("to host", "elsewhere"): 1, ("nonzero", "elsewhere"): 2}


@pytest.mark.parametrize("name", RUNS)
def test_training_there_is_training_here(name, tmp_path):
    if name == "boxoban" and not os.environ.get("PLANPROBE_BOXOBAN"):
        pytest.skip("PLANPROBE_BOXOBAN is not set")
    recipe = tiny(RUNS[name])
    here = Trainer(recipe, tmp_path / "here")
    before = weights(here)
    here.run()
    with pretended_device() as device:
        there = Trainer(recipe, tmp_path / "there", device=device)
        there.run()
        after = weights(there)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert_close(weights(here), after)


def test_an_update_stays_on_the_device(tmp_path):
    """The host waits to be told which episodes ended and whether the loss is finite, and sends a permutation."""
    recipe = tiny(RUNS["sokoban"])
    with pretended_device() as device:
        trainer = Trainer(recipe, tmp_path, device=device)
        for _ in range(2):
            waits.clear()
            trainer.learner.update(trainer.collector.collect(STEPS), done_fraction=0.5)
    minibatches = recipe.training.num_minibatches
    most = {
        ("nonzero", "board_env.py:step"): STEPS, ("nonzero", "board_env.py:_look_up"): STEPS,
        ("nonzero", "sokoban.py:_find_solved"): STEPS, ("nonzero", "collect.py:collect"): 1,
        ("read", "collect.py:collect"): 2, ("read", "learner.py:_step"): minibatches,
        ("to host", "learner.py:update"): 1, ("to device", "learner.py:update"): 1,
    }  # fmt: skip
    assert {place: count for place, count in waits.items() if count > most.get(place, 0)} == {}


def test_a_run_goes_on_there_and_back_here(tmp_path):
    recipe = tiny(RUNS["sokoban"])
    recipe = replace(recipe, training=replace(recipe.training, frames=3 * STEPS * BOARDS, eval_every=1_000_000))
    first = Trainer(recipe, tmp_path)
    first.run(max_seconds=1e-3)
    with pretended_device() as device:
        second = Trainer(recipe, tmp_path, device=device, resume=True)
        assert second.frames == first.frames == STEPS * BOARDS
        assert_close(weights(first), weights(second))
        second.run(max_seconds=1e-3)
        reached = weights(second)
    third = Trainer(recipe, tmp_path, resume=True)
    assert third.frames == second.frames == 2 * STEPS * BOARDS
    assert_close(reached, weights(third))
    assert third.run()


@pytest.mark.parametrize("reset_memory", [False, True])
def test_levels_are_played_alike(reset_memory):
    recipe = tiny(RUNS["sokoban"])
    levels = task_levels(recipe.board_task, "valid", 6)
    net = make_net_for(recipe.net, make_shape_env(recipe))
    options = {"thinking_steps": 1, "greedy": False, "reset_memory": reset_memory, "drop_finished": True}
    here = play_levels(net, env_maker(recipe.board_task), levels, keep_observations=True, **options)
    with pretended_device() as device:
        there = play_levels(
            net.to(device), env_maker(recipe.board_task, device=device), levels, keep_observations=True, **options
        )
    for name in ("actions", "rewards", "active", "moved", "pushed", "positions", "solved", "lengths", "observations"):
        assert torch.equal(getattr(here, name), getattr(there, name).cpu()), name


@pytest.mark.parametrize("kind", TRIAL_KINDS)
def test_trials_are_played_alike(kind):
    recipe = tiny({"task": {"kind": kind}, "net": VECTOR})

    def play(device):
        env = make_trial_env(recipe.trial_task, recipe.inputs, 3, autoreset=True, device=device)
        seen = [env.reset(), *env.latents().values()]
        for t in range(5):
            result = env.step((env.env.board_ids + t) % env.num_actions)
            seen += [result.observation, result.reward, result.episode_done, result.trial_done]
        return [part.cpu() for part in seen]

    with pretended_device() as device:
        there = play(device)
    assert all(torch.equal(*parts) for parts in zip(play("cpu"), there, strict=True))


def test_a_trial_is_played_alike():
    recipe = tiny(RUNS["bandit"])
    net = make_net_for(recipe.net, make_shape_env(recipe))
    here = play_trials(net, make_trial_env(recipe.trial_task, recipe.inputs, 3))
    with pretended_device() as device:
        there = play_trials(net.to(device), make_trial_env(recipe.trial_task, recipe.inputs, 3, device=device))
    for name in ("actions", "rewards", "active", "episodes", "episode_returns", "success"):
        assert torch.equal(getattr(here, name), getattr(there, name).cpu()), name
