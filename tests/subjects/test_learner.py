"""The learner on six tiny worlds whose values are known exactly: whichever fails says which piece broke."""

from dataclasses import replace

import pytest
import torch

from planprobe.core.protocols import StepResult
from planprobe.subjects.nets import make_net
from planprobe.subjects.recipe import NetRecipe, TrainingRecipe
from planprobe.subjects.training.collect import Collector
from planprobe.subjects.training.learner import Learner
from planprobe.subjects.training.losses import gae, vtrace

BOARDS = 32


class TinyWorld:
    """Episodes of `length` steps on a 3 x 3 board; a rule says what is seen and what is earned."""

    num_planes, num_actions, height, width = 1, 2, 3, 3
    num_boards, device = BOARDS, torch.device("cpu")
    length = 1

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def reset(self, level_ids=None):
        self.t = torch.zeros(BOARDS, dtype=torch.int64)
        self.cue = torch.randint(0, 2, (BOARDS,), generator=self.generator)
        return self.show()

    def show(self):
        return self.seen().to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 3, 3).clone()

    def step(self, actions):
        reward = self.earned(actions).float()
        self.t += 1
        done = self.t >= self.length
        self.t[done] = 0
        fresh = torch.randint(0, 2, (BOARDS,), generator=self.generator)
        self.cue = torch.where(done, fresh, self.cue)
        everywhere = torch.ones(BOARDS, dtype=torch.bool)
        return StepResult(self.show(), reward, done, done.clone(), done, ~done & False, {"active": everywhere})


class ConstantReward(TinyWorld):
    def seen(self):
        return torch.zeros(BOARDS)

    def earned(self, actions):
        return torch.ones(BOARDS)


class ObservationDecides(TinyWorld):
    def seen(self):
        return self.cue

    def earned(self, actions):
        return 2 * self.cue - 1


class DiscountDecides(TinyWorld):
    length = 2

    def seen(self):
        return self.t

    def earned(self, actions):
        return self.t


class ActionDecides(TinyWorld):
    def seen(self):
        return torch.zeros(BOARDS)

    def earned(self, actions):
        return 2 * actions - 1


class MemoryDecides(TinyWorld):
    """The cue is shown at the first step only; the action at the third earns 1 where it equals the cue."""

    length = 3

    def seen(self):
        return torch.where(self.t == 0, 1 + self.cue, 0)

    def earned(self, actions):
        return (self.t == 2) * (2 * (actions == self.cue).long() - 1)


class FirstEpisodeDecides(TinyWorld):
    """Trials of two episodes: what was learned in the first decides the second.

    Episode 1 has two steps. Looking (action 1 at the first) costs 0.2 and shows the cue at the second, where nothing
    can be done. Episode 2 has one step, shows nothing, and earns 1 for the action that equals the cue, else -1.
    """

    length = 3
    two_flags = True  # otherwise the end of an episode is taken for the end of the trial

    def reset(self, level_ids=None):
        self.looked = torch.zeros(BOARDS, dtype=torch.bool)
        return super().reset()

    def seen(self):
        return torch.where(self.looked & (self.t == 1), 1 + self.cue, 3 * (self.t == 2))

    def earned(self, actions):
        self.looked = torch.where(self.t == 0, actions == 1, self.looked)
        return (self.t == 0) * -0.2 * actions + (self.t == 2) * (2.0 * (actions == self.cue) - 1)

    def step(self, actions):
        ends_first = self.t == 1
        result = super().step(actions)
        episode_done = result.episode_done | ends_first
        trial_done = result.trial_done if self.two_flags else episode_done
        return replace(result, episode_done=episode_done, trial_done=trial_done)


class OneFlag(FirstEpisodeDecides):
    two_flags = False


def play_and_learn(world, algorithm, updates, *, kind="drc", gamma=0.9, lr=1e-2, entropy=0.003):
    """Yield six steps of sampled play, learn from them, and so on, with lr and entropy falling to a fifth."""
    torch.manual_seed(0)
    net_recipe = NetRecipe(kind=kind, channels=8, num_ticks=1, num_blocks=1, head="pool", hidden=16)
    net = make_net(net_recipe, planes=1, board=(3, 3), num_actions=2)
    schedules = {"lr": (lr, lr / 5), "entropy": (entropy, entropy / 5)}
    recipe = TrainingRecipe(algorithm=algorithm, gamma=gamma, num_minibatches=1, **schedules)
    collector = Collector(net, world, reset_memory=False, reward_scale=1.0, seed=0)
    learner = Learner(net, recipe, seed=0)
    for update in range(updates):
        batch = collector.collect(6)
        yield batch
        learner.update(batch, done_fraction=update / updates)
    yield collector.collect(6)


def is_learned(batches, judge, in_a_row=5):
    """Whether several batches in a row pass; then the rest is not played."""
    passed = 0
    for batch in batches:
        passed = passed + 1 if judge(batch) else 0
        if passed == in_a_row:
            return True
    return False


def values_are(expected, within):
    return lambda batch: (batch.values - expected(batch.observations[:, :, 0, 0, 0])).abs().mean() < within


def earns_a_trial(batch):
    return batch.rewards.sum() / batch.trial_done.sum()


@pytest.mark.parametrize("algorithm", ["ppo", "impala"])
class TestSixWorlds:
    def test_constant_reward_is_valued_at_one(self, algorithm):
        assert is_learned(play_and_learn(ConstantReward(), algorithm, 60), values_are(lambda seen: 1.0, within=0.1))

    def test_observation_decides_the_value(self, algorithm):
        batches = play_and_learn(ObservationDecides(), algorithm, 80, kind="mlp")
        assert is_learned(batches, values_are(lambda seen: 2.0 * seen - 1, within=0.1))

    def test_discount_decides_the_value(self, algorithm):
        batches = play_and_learn(DiscountDecides(), algorithm, 150, kind="mlp", lr=5e-3)
        assert is_learned(batches, values_are(lambda seen: torch.where(seen == 1, 1.0, 0.9), within=0.04))

    def test_action_decides_the_reward(self, algorithm):
        batches = play_and_learn(ActionDecides(), algorithm, 60, kind="mlp")
        assert is_learned(batches, lambda batch: batch.rewards.mean() > 0.9)

    def test_memory_decides_the_action(self, algorithm):
        batches = play_and_learn(MemoryDecides(), algorithm, 250, lr=3e-3, entropy=0.03)
        assert is_learned(batches, lambda batch: earns_a_trial(batch) > 0.9)

    def test_first_episode_decides_the_second(self, algorithm):
        """Needs memory and returns that go through the end of an episode: the best trial earns 0.8, a blind one 0."""
        batches = play_and_learn(FirstEpisodeDecides(), algorithm, 300, kind="gru", gamma=1.0, lr=5e-3, entropy=0.03)
        assert is_learned(batches, lambda batch: earns_a_trial(batch) > 0.65)


def test_returns_cut_at_episode_ends_cannot_learn_what_only_pays_later():
    *_, batch = play_and_learn(OneFlag(), "ppo", 120, kind="gru", gamma=1.0, lr=5e-3, entropy=0.03)
    assert batch.rewards.sum() / batch.actions.numel() * 3 < 0.3


def test_without_memory_the_memory_world_cannot_be_learned():
    *_, batch = play_and_learn(MemoryDecides(), "ppo", 60, kind="resnet")
    assert earns_a_trial(batch) < 0.4


def test_gae_equals_the_sum_it_stands_for():
    generator = torch.Generator().manual_seed(1)
    rewards, values = torch.randn(7, 3, generator=generator), torch.randn(7, 3, generator=generator)
    last, done = torch.randn(3, generator=generator), torch.rand(7, 3, generator=generator) < 0.3
    gamma, lam = 0.9, 0.8
    got = gae(rewards, values, done, last, gamma=gamma, lam=lam)
    padded = torch.cat([values, last[None]])
    for board in range(3):
        for start in range(7):
            total, weight = 0.0, 1.0
            for t in range(start, 7):
                keep = 0.0 if done[t, board] else 1.0
                delta = rewards[t, board] + gamma * keep * padded[t + 1, board] - values[t, board]
                total, weight = total + weight * delta, weight * gamma * lam * keep
            assert got[start, board].item() == pytest.approx(float(total), abs=1e-5)


def test_on_policy_vtrace_targets_are_lambda_returns():
    generator = torch.Generator().manual_seed(2)
    rewards, values = torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator)
    last, done = torch.randn(4, generator=generator), torch.rand(6, 4, generator=generator) < 0.3
    targets, _ = vtrace(torch.zeros(6, 4), rewards, values, done, last, gamma=0.95, lam=0.7)
    assert torch.allclose(targets - values, gae(rewards, values, done, last, gamma=0.95, lam=0.7), atol=1e-5)


def test_logged_means_are_over_the_minibatches_that_there_were():
    """Ten minibatches of 32 boards in fours are eight: entropy of a net that knows nothing is log 2 all the same."""
    torch.manual_seed(0)
    net = make_net(NetRecipe(kind="gru", channels=4, hidden=4), planes=1, board=(3, 3), num_actions=2)
    batch = Collector(net, ConstantReward(), reset_memory=False, reward_scale=1.0, seed=0).collect(6)
    means = [
        Learner(net, TrainingRecipe(num_minibatches=number, lr=(0.0, 0.0)), seed=0).update(batch, done_fraction=0.0)
        for number in (1, 10)
    ]
    assert means[1]["entropy"] == pytest.approx(means[0]["entropy"], abs=1e-4)


@pytest.mark.parametrize("kind", ["drc", "lstm", "gru", "resnet"])
def test_bf16_learns_from_nearly_the_same_gradients(kind):
    """Autocast reaches the convolutions whose weight gradient is taken once, and changes no more than rounding does."""
    gradients = []
    for bf16 in (False, True):
        torch.manual_seed(0)
        world = ObservationDecides()
        net = make_net(NetRecipe(kind=kind, channels=8, hidden=8), planes=1, board=(3, 3), num_actions=2)
        recipe = TrainingRecipe(num_boards=BOARDS, unroll=4)
        learner = Learner(net, recipe, seed=0, bf16=bf16)
        batch = Collector(net, world, reset_memory=False, reward_scale=1.0, seed=0).collect(4)
        advantages, targets = learner._returns(batch)
        learner._loss(batch, advantages, targets, 0.01)[0].backward()
        gradients.append(torch.cat([part.grad.flatten() for part in net.parameters() if part.grad is not None]))
    exact, rounded = gradients
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded).norm() / exact.norm()) < 0.05
