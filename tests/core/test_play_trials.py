"""Playing trials: what is written down, when memory is reset, what is forced, and that boards are alone."""

import pytest
import torch

from planprobe.core.errors import ShapeError, UnknownNameError
from planprobe.core.play_trials import FREE, play_trials, sample_actions
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.trial import DRAW_TASK, TrialEnv
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs

UP, DOWN = 0, 1


class Door(TrialEnv):
    """One of two actions opens the door and ends the episode with 1; the other costs a tenth; three tries."""

    num_planes, num_actions = 1, 2

    def __init__(self, num_boards, *, num_episodes=3, seed=0):
        super().__init__(num_boards, num_episodes=num_episodes, episode_steps=3, seed=seed, autoreset=False)
        self.good = torch.zeros(num_boards, dtype=torch.int64)

    def _begin_trial(self, ids):
        self.good[ids] = draw_below(2, self.seed, DRAW_TASK, ids, self.trials[ids])

    def _act(self, actions, active):
        opened = actions == self.good
        return torch.where(opened, 1.0, -0.1), opened, {"tried": actions.clone()}

    def _view(self):
        return self.elapsed[:, None].float()

    def latents(self):
        return {"good": self.good.clone()}


def make_env(num_boards, **options):
    return TrialInputs(Door(num_boards, **options), Inputs())


class Counter:
    """Counts its steps in memory; goes UP on the first two of them and DOWN from then on."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        (count,) = state
        down = (count[:, 0] >= 2).long()
        return 20.0 * torch.nn.functional.one_hot(down, 2), count[:, 0], (count + 1,)


class Undecided(Counter):
    """The same chance for both, whatever happens."""

    def step(self, observation, state):
        return torch.zeros(len(observation), 2), state[0][:, 0], state


def test_what_is_written_down():
    """Where UP opens, three doors take UP, UP, DOWN DOWN DOWN; where DOWN does, UP UP DOWN, DOWN, DOWN."""
    rollout = play_trials(Counter(), make_env(40), greedy=True)
    up = rollout.latents["good"] == UP
    assert 0 < int(up.sum()) < 40
    for which, rewards, episodes, lengths in (
        (up, [1, 1, -0.1, -0.1, -0.1], [0, 1, 2, 2, 2], [1, 1, 3]),
        (~up, [-0.1, -0.1, 1, 1, 1], [0, 0, 0, 1, 2], [3, 1, 1]),
    ):
        assert torch.equal(rollout.episode_lengths[which][0], torch.tensor(lengths))
        assert torch.allclose(rollout.rewards[which], torch.tensor(rewards).float())
        assert torch.equal(rollout.episodes[which], torch.tensor(episodes).expand(int(which.sum()), -1))
    assert torch.equal(rollout.success, torch.where(up[:, None], torch.tensor([True, True, False]), True))
    expected = torch.where(up[:, None], torch.tensor([1, 1, -0.3]), torch.tensor([0.8, 1, 1]))
    assert torch.allclose(rollout.episode_returns, expected)
    assert torch.allclose(rollout.returns, expected.sum(1))
    assert bool(rollout.active.all())
    assert torch.equal(rollout.values[0], torch.arange(5.0))
    assert torch.equal(rollout.extras["tried"], rollout.actions)


def test_steps_after_the_end_of_a_trial_count_for_nothing():
    """One board finishes after two steps, the others go on."""
    forced = torch.tensor([[UP, DOWN] * 3, [DOWN, UP] * 3])
    rollout = play_trials(Counter(), make_env(2, num_episodes=1, seed=3), forced=forced)
    good = rollout.latents["good"]
    steps = (forced == good[:, None]).to(torch.uint8).argmax(1) + 1
    assert torch.equal(rollout.active.sum(1), steps)
    assert torch.equal(rollout.episode_lengths[:, 0], steps)
    assert torch.allclose(rollout.returns, 1 - 0.1 * (steps - 1))
    assert torch.equal(rollout.episode_done.sum(1), torch.ones(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("reset", "values"),
    [("never", [0, 1, 2, 3, 4, 5]), ("each step", [0, 0, 0, 0, 0, 0]), ("each episode", [0, 1, 2, 0, 1, 2])],
)
def test_memory_is_reset_when_it_should_be(reset, values):
    wrong = 1 - make_latents(5)[:, None].expand(-1, 6)
    rollout = play_trials(Counter(), make_env(5, num_episodes=2), reset_memory=reset, forced=wrong)
    assert torch.equal(rollout.values, torch.tensor(values).float().expand(5, -1))


def make_latents(num_boards):
    env = make_env(num_boards)
    env.reset()
    return env.latents()["good"]


def test_memory_may_begin_elsewhere():
    start = (torch.full((4, 1), 7.0),)
    rollout = play_trials(Counter(), make_env(4), initial_state=start)
    assert torch.equal(rollout.values[:, 0], torch.full((4,), 7.0))
    assert torch.equal(rollout.actions, torch.full_like(rollout.actions, DOWN))


def test_a_redrawn_task_makes_what_was_learned_worthless():
    """A door that opened once opens again, unless the task is redrawn: then half of the time."""

    class Repeat(Counter):
        """Does again what was rewarded: last action is input 1 and 2, last reward input 3."""

        def step(self, observation, state):
            last, paid = observation[:, 1:3, 0, 0], observation[:, 3, 0, 0] > 0
            (known,) = state
            known = torch.where(paid[:, None], last.argmax(1, keepdim=True).float() + 1, known)
            action = torch.where(known[:, 0] > 0, known[:, 0] - 1, 0).long()
            return 20.0 * torch.nn.functional.one_hot(action, 2), known[:, 0], (known,)

    kept = play_trials(Repeat(), make_env(200, num_episodes=3), greedy=True)
    learned = kept.success[:, 0]
    assert bool(kept.success[learned].all())
    redrawn = play_trials(Repeat(), make_env(200, num_episodes=3), greedy=True, redraw_task=True)
    assert torch.equal(redrawn.success[:, 0], learned), "the first episode is the same"
    assert 0.35 < float(redrawn.success[learned][:, 1:].float().mean()) < 0.65


def test_forced_actions_are_taken_and_free_ones_are_not():
    forced = torch.full((6, 2), FREE)
    forced[:3, 0] = DOWN
    rollout = play_trials(Counter(), make_env(6), forced=forced, greedy=True)
    assert rollout.actions[:, 0].tolist() == [DOWN] * 3 + [UP] * 3
    assert torch.equal(rollout.actions[:, 1], torch.full((6,), UP)), "what the policy says, where it may choose"


def test_a_board_plays_the_same_trial_in_any_batch():
    many, few = (play_trials(Undecided(), make_env(n), seed=5) for n in (30, 8))
    length = few.actions.shape[1]
    assert torch.equal(many.episode_returns[:8], few.episode_returns)
    assert torch.equal(many.actions[:8, :length][few.active], few.actions[few.active])
    other = play_trials(Undecided(), make_env(30), seed=6)
    assert not torch.equal(other.actions[:, 0], many.actions[:, 0])


def test_samples_have_the_chances_of_the_policy():
    logits = torch.tensor([0.1, 0.2, 0.7]).log().expand(20_000, -1)
    counts = torch.bincount(sample_actions(logits, 0, 3), minlength=3) / 20_000
    assert torch.allclose(counts, torch.tensor([0.1, 0.2, 0.7]), atol=0.015)
    certain = torch.tensor([[0.0, -1e9, -1e9], [-1e9, -1e9, 0.0]])
    assert sample_actions(certain, 0, 0).tolist() == [0, 2]


def test_observations_are_those_acted_on():
    rollout = play_trials(Counter(), make_env(3), keep_observations=True)
    assert rollout.observations.shape == (3, rollout.actions.shape[1], 5, 1, 1)
    assert bool((rollout.observations[:, 0] == 0).all()), "nothing has happened before the first step"
    later = rollout.active[:, 1:]
    said = rollout.observations[:, 1:, 3, 0, 0][later]
    assert torch.allclose(said, rollout.rewards[:, :-1][later])


def test_impossible_requests_are_refused():
    with pytest.raises(UnknownNameError, match="each episode"):
        play_trials(Counter(), make_env(2), reset_memory="each episod")
    with pytest.raises(ShapeError, match="forced actions for 3"):
        play_trials(Counter(), make_env(2), forced=torch.zeros(3, 4, dtype=torch.int64))
