"""Teaching a net tick by tick: the same forward pass, lessons that are learnt, and a policy that sees plans alone."""

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.subjects.recipe import make_recipe
from planprobe.subjects.training.teach import unroll_ticks
from planprobe.subjects.training.train import Trainer


def recipe(teacher="wavefront", **training):
    net = {"channels": 8, "num_ticks": 2, "head": "pool", "hidden": 16, "crop_border": True}
    task = {"size": 7, "num_levels": 32, "time_limit": [6, 9], "eval_time_limit": 20}
    lesson = {"algorithm": "teach", "teacher": teacher, "num_boards": 8, "unroll": 4, "change_fraction": 0.1}
    lesson |= {"frames": 96, "lr": [0.01, 0.01], "epochs": 2, "num_eval_levels": 8, "checkpoint_every": 32}
    return make_recipe({"name": "taught-tiny-s0", "task": task, "net": net, "training": lesson | training})


@pytest.fixture
def trainer(tmp_path):
    return Trainer(recipe(), tmp_path / "run")


def test_ticks_are_those_of_the_plain_unroll(trainer):
    net, lesson = trainer.net, trainer.collector.collect(4)
    hidden, features, state = unroll_ticks(net, lesson.observations, lesson.state, lesson.starts)
    logits, values = net.head(features)
    plain_logits, plain_values, plain_state = net.unroll(lesson.observations, lesson.state, lesson.starts)
    torch.testing.assert_close(logits, plain_logits.flatten(0, 1))
    torch.testing.assert_close(values, plain_values.flatten())
    for part, plain in zip(state, plain_state, strict=True):
        torch.testing.assert_close(part, plain)
    assert torch.equal(hidden[-8:], state[0])
    assert len(hidden) == 4 * 2 * 8


def test_a_lesson_fits_the_boards_that_the_net_computes_on(trainer):
    lesson = trainer.collector.collect(4)
    assert all(part.shape == (8, 8, 5, 5) for part in lesson.said.values())
    walls = lesson.observations[:, :, 0, 1:-1, 1:-1].repeat_interleave(2, 0) > 0
    assert bool((lesson.said["reached"][walls] <= 0).all())
    assert bool((lesson.said["reached"] == 1).any())
    assert torch.allclose(lesson.advice.nan_to_num(0.25).sum(-1), torch.ones(4, 8))


@pytest.mark.parametrize("teacher", ["wavefront", "rollout"])
def test_what_is_taught_is_learnt(teacher, tmp_path):
    run = Trainer(recipe(teacher, frames=1600, lr=[0.01, 0.01]), tmp_path / "run")
    lesson = run.collector.collect(4)
    first = run.learner.update(lesson, done_fraction=0.0)["loss"]
    for _ in range(25):
        last = run.learner.update(lesson, done_fraction=0.0)["loss"]
    assert last < 0.6 * first


def test_a_stopped_lesson_goes_on_to_the_bit(tmp_path):
    whole = Trainer(recipe(), tmp_path / "whole")
    whole.run()
    begun = Trainer(recipe(), tmp_path / "parts")
    begun.learner.update(begun.collector.collect(4), done_fraction=0.0)
    begun.frames += 32
    begun.checkpoint()
    resumed = Trainer(recipe(), tmp_path / "parts", resume=True)
    resumed.run()
    for name, part in whole.net.state_dict().items():
        assert torch.equal(part, resumed.net.state_dict()[name]), name


def test_what_cannot_be_taught_is_refused(tmp_path):
    table = recipe().to_table()
    table["net"] |= {"num_layers": 2}
    with pytest.raises(RecipeError, match="one layer"):
        Trainer(make_recipe(table), tmp_path / "deep")
    table = recipe().to_table()
    table["task"] |= {"kind": "sokoban"}
    with pytest.raises(RecipeError, match="mazes"):
        Trainer(make_recipe(table), tmp_path / "boxes")
