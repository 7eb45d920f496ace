"""Linear functions learned in context, by supervised learning alone: nets with memory can, others cannot.

One input: the sign of the slope is told by the product of the point before and its value, so that a net must remember
the point; one without memory sees only the present point and the last value, and guesses.
"""

from functools import cache

import pytest
import torch
from torch.nn import functional as F

from planprobe.subjects.envs.regression import RegressionTask
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import NetRecipe

TASK, BOARDS, UPDATES = RegressionTask(num_inputs=1, num_steps=6), 128, 160
VIEW_ONLY = Inputs(previous_action=False, reward=False, episode_end=False)


@cache
def trials(num_trials, seed):
    """One trial a board: observations (T, B, C, 1, 1), and whether the value is above 0, (T, B) int64."""
    env = TrialInputs(TASK.make_env(num_trials, seed=seed, autoreset=False), VIEW_ONLY)
    seen, labels = [], []
    observation = env.reset()
    for _ in range(TASK.num_steps):
        result = env.step(torch.zeros(num_trials, dtype=torch.int64))
        seen.append(observation), labels.append((result.extras["value"] > 0).long())
        observation = result.observation
    return torch.stack(seen), torch.stack(labels)


def fit(kind):
    """Share of right answers on the later half of fresh trials, after training on answers as labels."""
    torch.manual_seed(0)
    net = make_net_for(
        NetRecipe(kind=kind, channels=32, hidden=32, num_blocks=2), TrialInputs(TASK.make_env(1), VIEW_ONLY)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)

    def answer(seen):
        starts = torch.zeros(seen.shape[:2], dtype=torch.bool)
        starts[0] = True
        return net.unroll(seen, net.initial_state(seen.shape[1]), starts)[0]

    seen, labels = trials(32 * BOARDS, 0)
    for _ in range(UPDATES):
        ids = torch.randint(0, seen.shape[1], (BOARDS,))
        loss = F.cross_entropy(answer(seen[:, ids])[1:].flatten(0, 1), labels[1:, ids].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fresh, truth = trials(1000, 1)
    with torch.no_grad():
        return float((answer(fresh).argmax(-1) == truth)[3:].float().mean())


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer"])
def test_memory_learns_a_function_within_a_trial(kind):
    assert fit(kind) > 0.8


def test_without_memory_it_is_a_guess():
    assert fit("mlp") < 0.65
