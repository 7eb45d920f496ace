"""D11: learners pass, agents that only warm up or get luckier late in a trial do not; scores worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import AddressError, ShapeError, TooFewLevelsError
from planprobe.instruments.detectors import adaptation
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.organisms import make_organism

ROOM = HiddenGoalTask(size=3, episode_steps=6)
NUM_TRIALS = 200


def trials_of(task):
    return lambda num_trials: make_trial_env(task, Inputs(), num_trials)


class Learner:
    """Two-arm bandit: pulls the arm that has paid more often; memory (B, 2, 2) of payments and failures."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 2, 2),)

    def step(self, observation, state):
        (counts,) = state
        action, reward = observation.flatten(1)[:, -4:-2], observation.flatten(1)[:, -2]  # the last is the end's flag
        paid = torch.stack([reward, 1 - reward], dim=1)
        counts = counts + action[:, :, None] * paid[:, None]
        means = (counts[..., 0] + 1) / (counts.sum(2) + 2)
        return 40 * means, means.amax(1), (counts,)


class Walker:
    """Hidden goal 3 x 3: stands still in episode 1, then walks to the lower right square, whatever it saw."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        (elapsed,) = state
        square = observation.flatten(1)[:, :9].argmax(1)
        down, right = square // 3 < 2, square % 3 < 2
        action = torch.where(elapsed[:, 0] < 6, 4, torch.where(down, 1, torch.where(right, 3, 4)))
        return 50.0 * F.one_hot(action, 5), elapsed[:, 0], (elapsed + 1,)


def run(policy, task, **options):
    return adaptation.run(policy, trials_of(task), **{"num_trials": NUM_TRIALS, "min_effect": 0.1, **options})


BANDIT = BanditTask(num_arms=2, num_pulls=20)


def best_of_bandit() -> np.ndarray:
    """The better arm's chance, four pulls a stage: what an agent that was told would get."""
    chances = make_trial_env(BANDIT, Inputs(), NUM_TRIALS)
    chances.reset()
    (means,) = (value for value in chances.latents().values() if value.shape == (NUM_TRIALS, 2))
    return (4 * means.max(1).values.double().numpy())[:, None].repeat(5, axis=1)


def test_a_learner_adapts_and_forgets_when_its_memory_is_taken():
    found = run(Learner(), BANDIT, best=best_of_bandit(), num_trials=NUM_TRIALS)
    assert found.outcome == "supported"
    assert found.effect.value > 0.25
    assert set(found.controls) == {adaptation.RESET_STEPS, adaptation.OTHERS}
    assert all(effect.value < found.effect.value - 0.2 for effect in found.controls.values())
    assert found.effect.unit == adaptation.GAIN_UNIT
    assert {row["stage"] for row in found.rows} == {1, 2, 3, 4, 5}


def test_a_sweeper_adapts_over_episodes():
    organism = make_organism("sweeper", ROOM, 0)
    found = run(organism.policy, ROOM, judged_stage=2)
    assert found.outcome == "supported"
    assert set(found.controls) == {adaptation.RESET_STEPS, adaptation.RESET_EPISODES, adaptation.REDRAWN}
    assert found.effect.unit == adaptation.SPREAD_UNIT
    assert found.controls[adaptation.RESET_EPISODES].high < found.effect.low
    assert found.controls[adaptation.REDRAWN].high < found.effect.low


def test_walking_to_where_every_goal_is_needs_no_learning():
    """With one goal for ever, an agent that walks there from episode 2 on gains as much when its task is redrawn."""
    found = run(Walker(), HiddenGoalTask(size=3, episode_steps=6, goal=8), best=np.full((NUM_TRIALS, 2), 3.0))
    assert found.effect.value > 0.5
    assert found.controls[adaptation.REDRAWN].value == pytest.approx(found.effect.value)
    assert found.beyond_controls.value == pytest.approx(0)
    assert found.outcome != "supported"


def test_nets_without_memory_are_judged_as_such():
    class Blind(Walker):
        def initial_state(self, num_boards, board=None):
            return ()

        def step(self, observation, state):
            return torch.zeros(len(observation), 5), torch.zeros(len(observation)), ()

    found = run(Blind(), ROOM)
    assert found.outcome == "inconclusive"
    assert any("no memory" in note for note in found.notes)


# numbers by hand -----------------------------------------------------------------------------------------------------
def test_fifths_of_steps_by_hand():
    rewards = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10], [1, 1, 1, 1, 1, 2, 9, 9, 9, 9]])
    active = torch.tensor([[True] * 10, [True] * 6 + [False] * 4])
    sums = adaptation.score_fifths(rewards, active)
    assert sums.tolist() == [[3, 7, 11, 15, 19], [2, 1, 1, 1, 2]]  # of 6 steps, the first fifth holds two
    assert adaptation.score_fifths(rewards, active, per_step=True)[1].tolist() == [1, 1, 1, 1, 2]
    assert adaptation.learning_score(rewards, active).tolist() == [9.5 - 1.5, 1]
    assert adaptation.score_fifths(rewards[:, :3], active[:, :3]).tolist() == [[1, 2, 3], [1, 1, 1]]


def test_the_index_by_hand():
    """Gains 2 and 4 of a possible 4 and 8: half. Without a best player: a mean gain of 3 over a spread of 1."""
    scores, best = np.array([[1.0, 3.0], [3.0, 7.0]]), np.array([[0.0, 5.0], [0.0, 11.0]])
    gains = adaptation.pair_gains(scores, best, 1)
    assert gains.tolist() == [[2, 4], [4, 8]]
    assert adaptation.share_of_gain(gains).value == 0.5
    assert adaptation.share_of_gain(gains).n == 2
    assert adaptation.pair_gains(scores, None, 1).tolist() == [[2, 1], [4, 1]]


def test_boards_exchange_memories_once():
    class Counter:
        def initial_state(self, num_boards, board=None):
            return (torch.arange(num_boards),)

        def step(self, observation, state):
            return state[0], state[0], state

    policy, seen = adaptation.ExchangedMemory(Counter(), 2), []  # type: ignore[arg-type]
    for _ in range(2):  # a second run exchanges again
        state: tuple[Tensor, ...] = policy.initial_state(3)
        for _ in range(4):
            owners, _, state = policy.step(torch.zeros(3), state)
            seen.append(owners.tolist())
    assert seen == 2 * [[0, 1, 2], [0, 1, 2], [2, 0, 1], [2, 0, 1]]


def test_the_exchange_falls_on_the_first_step_of_the_last_stage():
    """20 pulls: stages of four, the last begins at pull 16 (counted from 0)."""
    rollouts = adaptation.play_conditions(Learner(), trials_of(BANDIT), NUM_TRIALS)
    kept, others = rollouts[adaptation.KEPT].actions, rollouts[adaptation.OTHERS].actions
    assert torch.equal(kept[:, :16], others[:, :16])
    assert not torch.equal(kept[:, 16], others[:, 16])


def test_requests_that_mean_nothing_are_refused():
    with pytest.raises(TooFewLevelsError, match="20 trials"):
        run(Learner(), BANDIT, num_trials=5)
    with pytest.raises(AddressError, match="2 to 5"):
        run(Learner(), BANDIT, judged_stage=6)
    with pytest.raises(ShapeError, match=r"best must be \(200, 5\)"):
        run(Learner(), BANDIT, best=np.zeros((3, 5)))
