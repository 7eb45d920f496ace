"""D15: who keeps an interval on the track loses by scrambling it, who counts in memory loses by losing that."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from planprobe.core.errors import TooFewLevelsError
from planprobe.instruments.detectors import environment_memory as detector
from planprobe.subjects.envs.timing import LEFT, RESPOND, RIGHT, STAY, TimingTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs

TASK = TimingTask(shortest=2, longest=5, track_length=6)
NUM_TRIALS = 200


class Walker:
    """Out while the interval runs, then home, and respond at home: a function of what is seen alone."""

    def initial_state(self, num_boards, board=None):
        return ()

    def step(self, observation, state):
        seen = observation.flatten(1)
        home, reproducing = seen[:, 0] > 0, seen[:, TASK.track_length + 1] > 0
        action = torch.where(reproducing, torch.where(home, RESPOND, LEFT), RIGHT)
        return 50.0 * F.one_hot(action, 4), torch.zeros(len(seen)), state


class Counter:
    """Stands still and counts; memory (B, 2): steps of the interval, steps since."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 2),)

    def step(self, observation, state):
        reproducing = observation.flatten(1)[:, TASK.track_length + 1]
        interval, since = state[0].unbind(1)
        action = torch.where((reproducing > 0) & (since == interval), RESPOND, STAY)
        counts = torch.stack([interval + 1 - reproducing, since + reproducing], dim=1)
        return 50.0 * F.one_hot(action, 4), torch.zeros(len(interval)), (counts,)


def run(policy, **options):
    make, scrambled = (
        partial(make_trial_env, replace(TASK, scramble=scramble), Inputs()) for scramble in (False, True)
    )
    return detector.run(policy, make, scrambled, **{"num_trials": NUM_TRIALS, "min_effect": 0.2, **options})


def test_a_walker_keeps_the_interval_on_the_track():
    """A walker thrown on a square of six gets home in time only from the one it came to: 5 of 6 trials are lost."""
    found = run(Walker())
    assert found.outcome == "supported"
    assert found.effect.low < 5 / 6 < found.effect.high
    assert [found.controls[name].value for name in detector.CONTROLS] == [0, 0]
    assert found.beyond_controls.value == pytest.approx(found.effect.value)
    assert {row["condition"]: row["value"] for row in found.rows}[detector.INTACT] == 1


def test_a_counter_keeps_it_in_memory():
    found = run(Counter())
    assert found.outcome == "refuted"
    assert found.effect.value == 0
    assert found.controls[detector.MEMORY].value == 1
    assert found.beyond_controls.value == -1


def test_who_knows_nothing_has_nothing_to_lose():
    class Silent(Walker):
        def step(self, observation, state):
            return torch.zeros(len(observation), 4), torch.zeros(len(observation)), state

    found = run(Silent())
    assert abs(found.effect.value) < 0.12
    assert found.outcome != "supported"
    assert found.controls[detector.NOTHING].value != 0  # other samples, other luck


def test_too_few_trials_are_refused():
    with pytest.raises(TooFewLevelsError, match="20 trials"):
        run(Walker(), num_trials=3)
