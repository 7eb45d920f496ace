"""Exact beliefs and players of interval timing and of in-context regression."""

from __future__ import annotations

import pytest
import torch

from planprobe.subjects.envs.regression import RegressionTask
from planprobe.subjects.envs.timing import TimingTask
from planprobe.subjects.references.play import play_reference
from planprobe.subjects.references.regression_players import RegressionBayesPlayer, RegressionBelief
from planprobe.subjects.references.timing_players import CountingPlayer, TimingBelief, WalkingPlayer


def test_counting_is_always_right():
    for task in (TimingTask(), TimingTask(shortest=1, track_length=1), TimingTask(scramble=True, num_episodes=3)):
        assert (play_reference(CountingPlayer(), task, 300) == 1).all()


def test_the_track_remembers_for_a_player_without_memory():
    assert (play_reference(WalkingPlayer(), TimingTask(), 300) == 1).all()
    # a track too short for the longer intervals, and one that was scrambled
    short = play_reference(WalkingPlayer(), TimingTask(shortest=1, longest=10, track_length=6), 1000)
    assert float(short.mean()) == pytest.approx(0.5, abs=0.05)
    scrambled = play_reference(WalkingPlayer(), TimingTask(scramble=True), 1000)
    assert float(scrambled.mean()) == pytest.approx(1 / 11, abs=0.03)


def test_waiting_rules_out_intervals():
    task = TimingTask(shortest=2, longest=4)
    belief = TimingBelief(task)
    belief.begin(1)
    belief.see(torch.tensor([2]), torch.tensor([False]))
    assert belief.chances.tolist() == [pytest.approx([0, 1 / 2, 1 / 2])]
    belief.see(torch.tensor([3]), torch.tensor([True]))
    assert belief.chances.tolist() == [pytest.approx([0, 1, 0])]


def test_the_posterior_of_weights_by_hand():
    """One input, unit prior, unit noise, seen 2 at 1: normal(1, 1/2), so P(> 0 at 3) = Phi(sqrt 2)."""
    belief = RegressionBelief(RegressionTask(num_inputs=1, noise=1.0))
    belief.begin(1)
    belief.see(torch.tensor([[1.0]]), torch.tensor([2.0]))
    assert float(belief.mean()) == pytest.approx(1)
    chance = torch.special.ndtr(torch.tensor(2.0).sqrt())
    assert float(belief.chance_positive(torch.tensor([[3.0]]))) == pytest.approx(float(chance), abs=1e-6)


def test_the_bayes_player_is_right_once_it_has_seen_as_many_points_as_inputs():
    steps = []
    play_reference(
        RegressionBayesPlayer(), RegressionTask(), 1000, on_step=lambda t, a, r: steps.append(float(r.reward.mean()))
    )
    assert steps[0] == pytest.approx(0.5, abs=0.06)
    assert steps[0] + 0.05 < steps[1] < steps[3]
    assert min(steps[4:]) > 0.985
    noisy = play_reference(RegressionBayesPlayer(), RegressionTask(noise=1.0), 1000)
    assert 8.5 < float(noisy.mean()) < sum(steps) - 1


def test_chances_of_the_sign_are_calibrated():
    said, seen = [], []

    class Watching(RegressionBayesPlayer):
        def act(self):
            said.append(self.belief.chance_positive(self.points))
            return super().act()

    play_reference(
        Watching(), RegressionTask(noise=0.5), 1000, on_step=lambda t, a, r: seen.append(r.extras["value"] > 0)
    )
    chances, truth = torch.cat(said), torch.cat(seen).to(torch.float64)
    for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)):
        rows = (chances > low) & (chances <= high)
        error = float((chances[rows] * (1 - chances[rows])).sum().sqrt()) / int(rows.sum())
        assert abs(float(chances[rows].mean() - truth[rows].mean())) < 4 * error
