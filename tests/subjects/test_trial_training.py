"""Training on tasks with trials: what is logged, what is watched, what a resumed run remembers, what is predicted."""

import json
from dataclasses import replace

import pytest
import torch

from planprobe.core.store import load_tensors
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import TrainingRecipe, make_recipe
from planprobe.subjects.training.collect import Collector
from planprobe.subjects.training.learner import Learner
from planprobe.subjects.training.losses import gae
from planprobe.subjects.training.predict import Predictor
from planprobe.subjects.training.train import RESUME_FILE, Trainer
from planprobe.subjects.training.worlds import make_training_env

TINY = {
    "name": "gru-rl2-goal3-s0",
    "task": {"kind": "hidden-goal", "size": 3, "num_episodes": 2, "episode_steps": 3},
    "net": {"kind": "gru", "channels": 8, "hidden": 8},
    "training": {"frames": 640, "num_boards": 16, "unroll": 5, "checkpoint_every": 160, "eval_every": 320,
                 "num_eval_levels": 32, "num_minibatches": 1},
}  # fmt: skip


@pytest.fixture
def recipe():
    return make_recipe(TINY)


def make_collector(recipe, **options):
    torch.manual_seed(0)
    env = make_training_env(recipe, frames=0)
    settings = {"reset_memory": False, "reward_scale": 1.0, "seed": 0} | options
    return Collector(make_net_for(recipe.net, env), env, **settings)


def test_returns_of_episodes_are_those_of_the_trials_that_ended(recipe):
    """Added up by hand from the rewards, across calls of the collector: 2 episodes of 3 steps each."""
    collector = make_collector(recipe, reward_scale=0.5)
    batches = [collector.collect(5) for _ in range(3)]
    rewards = torch.cat([batch.rewards for batch in batches])[:12] / 0.5
    by_hand = rewards.view(2, 2, 3, -1).sum(2)  # (trial, episode, board)
    got = torch.cat([batch.episode_returns for batch in batches])
    assert torch.allclose(got, by_hand.permute(0, 2, 1).flatten(0, 1))
    assert [len(batch.episode_returns) for batch in batches] == [0, 16, 16]


def test_memory_is_kept_through_episode_ends_and_reset_at_trial_ends(recipe):
    batch = make_collector(recipe).collect(13)
    assert batch.starts.all(1).nonzero().flatten().tolist() == [0, 6, 12]
    assert batch.trial_done.all(1).nonzero().flatten().tolist() == [5, 11]


def test_returns_go_through_episode_ends(recipe):
    """A reward in the second episode raises the advantage of every step of the first, and of no other trial."""
    batch = make_collector(recipe).collect(12)
    options = {"gamma": 1.0, "lam": 1.0}
    values, last = torch.zeros_like(batch.values), torch.zeros_like(batch.last_value)
    plain = gae(batch.rewards, values, batch.trial_done, last, **options)
    batch.rewards[10, 4] += 1.0
    raised = gae(batch.rewards, values, batch.trial_done, last, **options) - plain
    expected = torch.zeros_like(raised)
    expected[6:11, 4] = 1.0
    assert torch.allclose(raised, expected, atol=1e-5)


def test_a_run_logs_returns_and_is_watched_on_the_same_trials(recipe, tmp_path):
    trainer = Trainer(recipe, tmp_path)
    assert trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    with_returns = [row for row in rows if "train_return" in row]
    assert with_returns
    for row in with_returns:
        assert row["train_return"] == pytest.approx(sum(row["train_episode_returns"]), abs=1e-3)
    watched = [row["valid_return"] for row in rows if "valid_return" in row]
    assert len(watched) == 2
    assert watched[-1] == trainer.validate()["valid_return"]
    assert trainer.recent_returns == with_returns[-1]["train_episode_returns"]


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_resumed_run_ends_with_the_same_weights_and_log(kind, tmp_path):
    recipe = make_recipe({**TINY, "net": {"kind": kind, "channels": 8, "hidden": 8}})
    recipe = replace(recipe, training=replace(recipe.training, predict_weight=0.1))
    whole = Trainer(recipe, tmp_path / "whole")
    whole.run()
    first = Trainer(recipe, tmp_path / "again")
    while first.frames < 240:
        first.run(max_seconds=0.02)
    Trainer(recipe, tmp_path / "again", resume=True).run()
    ours, again = (load_tensors(tmp_path / run / RESUME_FILE)[0] for run in ("whole", "again"))
    assert ours.keys() == again.keys()
    assert all(torch.equal(ours[key], again[key]) for key in ours)
    returns = [
        [json.loads(line).get("train_return") for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("whole", "again")
    ]
    assert returns[0] == returns[1]


def test_prediction_ends_at_trial_ends(recipe):
    collector = make_collector(recipe)
    batch = collector.collect(12)
    predictor = Predictor(collector.net)
    features, _ = collector.net.unroll_features(batch.observations, batch.state, batch.starts)
    loss = predictor.loss(features, batch)
    for step, counts in ((6, False), (5, True), (0, False)):
        changed = batch.observations.clone()
        changed[step] += 1.0
        other = predictor.loss(features, replace(batch, observations=changed))
        assert bool(other == loss) != counts, f"observation of step {step}"
    rewards = batch.rewards.clone()
    rewards[5] += 1.0
    assert predictor.loss(features, replace(batch, rewards=rewards)) != loss


def test_predicting_shapes_the_memory_and_is_no_part_of_the_agent(recipe):
    """With no reward to learn from, weight on prediction alone moves the recurrent weights; weight 0 builds nothing."""
    collector = make_collector(recipe)
    batch = collector.collect(12)
    options = {"num_minibatches": 1, "value_weight": 0.0, "entropy": (0.0, 0.0), "lr": (1e-2, 1e-2)}
    assert Learner(collector.net, TrainingRecipe(**options), seed=0).predictor is None
    silent = replace(batch, rewards=torch.zeros_like(batch.rewards), values=torch.zeros_like(batch.values),
                     last_value=torch.zeros_like(batch.last_value))  # fmt: skip
    learner = Learner(collector.net, TrainingRecipe(predict_weight=1.0, **options), seed=0)
    before = collector.net.recur.weight.clone()
    losses = [learner.update(silent, done_fraction=0.0)["predict_loss"] for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(before, collector.net.recur.weight)
    assert not any("predictor" in name for name in collector.net.state_dict())


def test_on_boards_only_what_the_view_shows_is_predicted_and_summed_over_squares():
    """Planes of the last action and reward are left out: a reward of ten on every square would drown the move."""
    recipe = make_recipe(
        {
            "name": "sokoban", "seed": 0,
            "task": {"kind": "sokoban-trial", "size": 6, "num_boxes": [1, 1], "num_levels": 20, "episode_steps": 5},
            "net": {"kind": "drc", "channels": 4, "num_layers": 1, "num_ticks": 1, "head": "pool", "hidden": 8,
                    "crop_border": True},
        }
    )  # fmt: skip
    env = make_training_env(replace(recipe, training=replace(recipe.training, num_boards=4)), frames=0)
    net = make_net_for(recipe.net, env)
    collector = Collector(net, env, reset_memory=False, reward_scale=0.1, seed=0)
    batch = collector.collect(8)
    predictor = Predictor(net, view_planes=env.view_planes)
    for parameter in predictor.parameters():
        torch.nn.init.zeros_(parameter)
    features, _ = net.unroll_features(batch.observations, batch.state, batch.starts)
    follows = ~batch.episode_done[:-1]
    view = batch.observations[:, :, :4, 1:-1, 1:-1]
    changed = (view[1:] != view[:-1]).flatten(2).sum(-1) * follows  # an unseen change costs one a square and plane
    expected = batch.rewards.pow(2).mean() + changed.sum() / follows.sum()
    torch.testing.assert_close(predictor.loss(features, batch), expected)
    assert changed.sum() > 0
