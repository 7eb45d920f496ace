"""Linear functions learned in context, by supervised learning alone: nets with memory can, others cannot.

One input: the sign of the slope is told by the product of the point before and its value, so that a net must remember
the point; one without memory sees only the present point and the last value, and guesses.
"""

import pytest
import torch
from torch.nn import functional as F

from planprobe.subjects.envs.regression import RegressionTask
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import NetRecipe

TASK, BOARDS, UPDATES = RegressionTask(num_inputs=1, num_steps=6), 128, 150
VIEW_ONLY = Inputs(previous_action=False, reward=False, episode_end=False)


def collect(env):
    """One trial a board: observations (T, B, C, 1, 1), and whether the value is above 0, (T, B) int64."""
    seen, labels = [], []
    observation = env.reset()
    for _ in range(TASK.num_steps):
        result = env.step(torch.zeros(BOARDS, dtype=torch.int64))
        seen.append(observation), labels.append((result.extras["value"] > 0).long())
        observation = result.observation
    return torch.stack(seen), torch.stack(labels)


def fit(kind):
    """Share of right answers on the later half of fresh trials, after training on answers as labels."""
    torch.manual_seed(0)
    env = TrialInputs(TASK.make_env(BOARDS, autoreset=False), VIEW_ONLY)
    net = make_net_for(NetRecipe(kind=kind, channels=32, hidden=32, num_blocks=2), env)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    starts = torch.zeros(TASK.num_steps, BOARDS, dtype=torch.bool)
    starts[0] = True
    for _ in range(UPDATES):
        seen, labels = collect(env)
        logits, _, _ = net.unroll(seen, net.initial_state(BOARDS), starts)
        loss = F.cross_entropy(logits[1:].flatten(0, 1), labels[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = [
            (net.unroll(seen, net.initial_state(BOARDS), starts)[0].argmax(-1) == labels)[3:].float().mean()
            for seen, labels in (collect(env) for _ in range(8))
        ]
    return float(torch.stack(right).mean())


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer"])
def test_memory_learns_a_function_within_a_trial(kind):
    assert fit(kind) > 0.9


def test_without_memory_it_is_a_guess():
    assert fit("mlp") < 0.65
