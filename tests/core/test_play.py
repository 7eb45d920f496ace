"""Playing levels: boards whose episode is over may be left out, and nothing else changes."""

import pytest
import torch

from planprobe.core.play import play, take_boards
from planprobe.core.rng import draw_bits
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze

LEVELS = generate_mazes(24, size=7, seed=0)
IDS = torch.arange(len(LEVELS))


class Wanderer:
    """A move and a value by a hash of what is seen and of the steps in memory; notes how many boards it was shown."""

    def __init__(self, sharpness):
        self.sharpness, self.shown = sharpness, []

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1, dtype=torch.int64),)

    def step(self, observation, state):
        (count,) = state
        self.shown.append(len(observation))
        seen = observation.flatten(1).to(torch.int64)
        key = (seen * draw_bits(7, torch.arange(seen.shape[1]))).sum(1) + draw_bits(8, count[:, 0])
        logits = self.sharpness * torch.nn.functional.one_hot(key % 4, 4).float()
        return logits, (key % 100).float(), (count + 1,)


def played(sharpness=20.0, **options):
    policy = Wanderer(sharpness)
    env = Maze(LEVELS, len(LEVELS), time_limit=(2, 40), autoreset=False)
    return play(policy, env, IDS, **options), policy.shown


@pytest.mark.parametrize(
    "options",
    [{}, {"sharpness": 1.0, "greedy": False}, {"reset_memory": True}, {"thinking_steps": 3, "keep_observations": True}],
)
def test_leaving_out_finished_boards_changes_no_episode(options):
    whole, shown = played(**options)
    fewer, shown_fewer = played(**options, drop_finished=True)
    assert len(set(whole.lengths.tolist())) > 3
    assert set(shown) == {len(LEVELS)}
    assert min(shown_fewer) <= len(LEVELS) // 2
    for name in ("solved", "lengths", "active"):
        assert torch.equal(getattr(whole, name), getattr(fewer, name)), name
    for name in ("actions", "rewards", "moved", "logits", "values"):
        there = whole.active
        assert torch.equal(getattr(whole, name)[there], getattr(fewer, name)[there]), name
    assert torch.equal(whole.positions, fewer.positions)
    if options.get("keep_observations"):
        assert torch.equal(whole.observations, fewer.observations)


def test_memory_of_some_boards_keeps_its_layout():
    last = torch.rand(6, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    plain = torch.rand(6, 2)
    taken = take_boards((last, plain), torch.tensor([4, 1]))
    assert torch.equal(taken[0], last[[4, 1]])
    assert taken[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(taken[1], plain[[4, 1]])
    assert take_boards((), torch.tensor([0])) == ()
