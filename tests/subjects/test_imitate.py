"""A clone learns what can be told from an observation, and nothing else."""

import pytest
import torch

from planprobe.core.errors import TooFewLevelsError
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.training.imitate import Imitation, clone_policy

QUICK = Imitation(
    num_blocks=1, channels=16, hidden=32, num_updates=300, batch_size=32, learning_rate=5e-3, max_steps=2
)  # fmt: skip


def make_env(levels, num_boards):
    return Maze(levels, num_boards, time_limit=12, autoreset=False)


class ByWallAbove:
    """Up where there is room, else down: one look tells."""

    def initial_state(self, num_boards, board=None):
        return ()

    def step(self, observation, state):
        walled = ((observation[:, 0].roll(1, dims=1) & observation[:, 2]) != 0).flatten(1).any(1)
        logits = torch.where(walled[:, None], torch.tensor([0.0, 8, 0, 0]), torch.tensor([8.0, 0, 0, 0]))
        return logits, logits[:, 0], state


class ByClock:
    """Left and right in turn: no look tells."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        odd = state[0] % 2
        logits = 8 * torch.cat([torch.zeros(len(odd), 2), odd, 1 - odd], dim=1)
        return logits, logits[:, 0], (state[0] + 1,)


@pytest.fixture(scope="module")
def levels():
    return generate_mazes(150, size=7, braid=(0.0, 0.5), seed=0, distinct_layouts=False)


def test_what_an_observation_tells_is_imitated(levels):
    net, agreement = clone_policy(ByWallAbove(), make_env, levels, imitation=QUICK)
    assert agreement > 0.9
    assert not net.training
    again, _ = clone_policy(ByWallAbove(), make_env, levels, imitation=QUICK)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_what_memory_holds_is_not(levels):
    _, agreement = clone_policy(ByClock(), make_env, levels, imitation=QUICK)
    assert agreement < 0.85


def test_too_few_levels(levels):
    with pytest.raises(TooFewLevelsError, match="five"):
        clone_policy(ByClock(), make_env, levels[:4])
