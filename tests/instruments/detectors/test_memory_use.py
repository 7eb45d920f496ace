"""D16 on policies that need time: carried in memory, or found within a step if that has ticks enough."""

from functools import partial

import pytest
import torch

from planprobe.core.errors import TooFewLevelsError
from planprobe.instruments.detectors import memory_use
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze

SIZE = 7
make_env = partial(Maze, autoreset=False, time_limit=20)


class Ticker:
    """Knows the way once it has ticked `needed` times since its memory was blank; until then it pushes up."""

    num_actions = 4

    def __init__(self, needed, num_ticks=1):
        self.needed, self.num_ticks = needed, num_ticks

    def set_num_ticks(self, num_ticks):
        self.num_ticks = num_ticks

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        ticks = state[0] + self.num_ticks
        walls, player = observation[:, 0] != 0, observation[:, 2].flatten(1).argmax(1)
        best = optimal_action_mask(distance_maps(walls, observation[:, 1].flatten(1).argmax(1))).flatten(2)
        best = best.gather(2, player[:, None, None].expand(-1, 4, 1)).squeeze(2).float()
        up = torch.nn.functional.one_hot(torch.zeros_like(player), 4).float()
        return torch.where(ticks >= self.needed, best, up), ticks[:, 0], (ticks,)


class Forgetful(Ticker):
    """The same, without memory."""

    def initial_state(self, num_boards, board=None):
        return ()

    def step(self, observation, state):
        return (*super().step(observation, (torch.zeros(len(observation), 1),))[:2], ())


@pytest.fixture(scope="module")
def levels():
    return generate_mazes(16, size=SIZE, seed=3, split="test", distinct_layouts=False)


def found(policy, levels, **options):
    return memory_use.run(policy, make_env, levels, **{"min_effect": 0.6, "tick_factors": (2, 4)} | options)


def test_who_needs_earlier_steps_loses_without_memory(levels):
    evidence = found(Ticker(needed=6), levels)
    assert evidence.outcome == "supported"
    assert evidence.effect.value == 1.0
    assert list(evidence.controls) == [
        memory_use.RESET,
        "memory reset each step, 2 ticks",
        "memory reset each step, 4 ticks",
    ]


def test_who_has_time_enough_within_a_step_loses_nothing(levels):
    assert found(Ticker(needed=1), levels).outcome == "refuted"
    slow = found(Ticker(needed=4), levels)  # memory was but a slower clock
    assert slow.outcome == "refuted"
    rows = {row["condition"]: row["solved"] for row in slow.rows}
    assert (
        rows["memory kept"] == rows["memory reset each step, 4 ticks"] == 1.0 > rows["memory reset each step, 2 ticks"]
    )


def test_first_moves_tell_what_one_step_can_do(levels):
    moves = torch.zeros(16, 4, dtype=torch.bool)
    moves[:, 0] = True  # as if up were always right
    rows = found(Ticker(needed=2), levels, first_moves=moves, tick_factors=()).rows
    assert [row["first_move"] for row in rows] == [1.0, 1.0]


def test_a_net_without_memory_says_nothing(levels):
    evidence = found(Forgetful(needed=1), levels)
    assert evidence.outcome == "inconclusive"
    assert "no memory" in evidence.notes[-1]
    with pytest.raises(TooFewLevelsError):
        found(Ticker(needed=1), levels[:5])
