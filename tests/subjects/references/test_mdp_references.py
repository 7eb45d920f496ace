"""Beliefs and players of random MDPs: plans against enumeration, posteriors by hand, returns beside published ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from planprobe.core.errors import UnknownNameError
from planprobe.subjects.envs.tabular_mdp import TabularMdpTask
from planprobe.subjects.references.exact_values import exact_value
from planprobe.subjects.references.mdp_players import MdpBelief, MdpOraclePlayer, MdpPlayer, plan
from planprobe.subjects.references.play import play_reference


def test_plans_against_every_policy():
    """Two states, two actions, three steps: the best of all 64 time-dependent policies."""
    generator = torch.Generator().manual_seed(0)
    transitions = torch.rand(1, 2, 2, 2, generator=generator, dtype=torch.float64)
    transitions = transitions / transitions.sum(-1, keepdim=True)
    rewards = torch.randn(1, 2, 2, generator=generator, dtype=torch.float64)
    best = [-torch.inf, -torch.inf]
    for choices in itertools.product((0, 1), repeat=6):
        values = torch.zeros(2, dtype=torch.float64)
        for left in range(3):
            picked = torch.tensor(choices[2 * left : 2 * left + 2])
            states = torch.arange(2)
            values = rewards[0, states, picked] + transitions[0, states, picked] @ values
        best = [max(old, float(new)) for old, new in zip(best, values, strict=True)]
    q = plan(transitions, rewards, 3)
    assert q.shape == (3, 1, 2, 2)
    assert q[2, 0].amax(1).tolist() == pytest.approx(best)
    assert torch.equal(q[0], rewards)


def test_posterior_by_hand():
    belief = MdpBelief(TabularMdpTask(num_states=3, num_actions=2))
    belief.begin(1)

    def see(state: int, action: int, reward: float, after: int, known: bool) -> None:
        parts = (torch.tensor([part]) for part in (state, action, reward, after, known))
        belief.see(*parts)

    see(0, 1, 3.0, 2, True)
    see(0, 1, 2.0, 2, True)
    see(0, 1, 5.0, 0, False)  # the end of an episode: the state is that of the next one
    transitions, rewards = belief.mean()
    assert transitions[0, 0, 1].tolist() == pytest.approx([1 / 5, 1 / 5, 3 / 5])
    assert transitions[0, 1, 0].tolist() == pytest.approx([1 / 3] * 3)
    assert float(rewards[0, 0, 1]) == pytest.approx((1 + 3 + 2 + 5) / 4)
    assert float(rewards[0, 2, 1]) == 1


def test_draws_have_the_moments_of_the_posterior():
    belief = MdpBelief(TabularMdpTask(num_states=2, num_actions=2))
    belief.begin(20_000)
    zeros = torch.zeros(20_000, dtype=torch.int64)
    for reward in (2.0, 4.0, 6.0):
        belief.see(zeros, zeros, torch.full((20_000,), reward), zeros + 1, zeros == 0)
    transitions, rewards = belief.sample(np.random.default_rng(0))
    assert float(transitions[:, 0, 0, 1].mean()) == pytest.approx(4 / 5, abs=0.005)
    assert float(transitions[:, 0, 0, 1].var()) == pytest.approx(4 / 150, rel=0.05)  # Beta(4, 1)
    assert float(rewards[:, 0, 0].mean()) == pytest.approx(13 / 4, abs=0.02)
    assert float(rewards[:, 0, 0].var()) == pytest.approx(1 / 4, rel=0.05)
    assert float(rewards[:, 1, 1].var()) == pytest.approx(1, rel=0.05)


def test_the_players_see_what_was_done():
    """Counts of a whole trial are those of the task's own record, less the last step of every episode."""
    task = TabularMdpTask(num_states=3, num_actions=2, horizon=4, num_episodes=3)
    player, steps = MdpPlayer("psrl"), []
    play_reference(player, task, 5, on_step=lambda t, a, r: steps.append((a, r)))
    visits, paid = torch.zeros(5, 3, 2, 3), torch.zeros(5, 3, 2)
    for actions, result in steps:
        for board in range(5):
            cell = (board, int(result.extras["from_state"][board]), int(actions[board]))
            paid[cell] += result.reward[board]
            if not result.episode_done[board]:
                visits[(*cell, int(result.extras["to_state"][board]))] += 1
    assert torch.equal(player.belief.visits, visits.double())
    assert torch.allclose(player.belief.reward_sums, paid.double(), atol=1e-5)


def test_players_stand_in_the_known_order():
    """Nobody beats the oracle, and PSRL earns about what it does in the paper, where it has another prior."""
    task = TabularMdpTask()
    published = exact_value("tabular MDP 10 states 5 actions horizon 10 episodes 10", "published_psrl_return")
    episodes = {rule: play_reference(MdpPlayer(rule), task, 300) for rule in ("greedy", "psrl")}
    oracle = play_reference(MdpOraclePlayer(), task, 300).sum(1)
    returns = {rule: float(earned.sum(1).mean()) for rule, earned in episodes.items()}
    assert returns["psrl"] == pytest.approx(published, abs=8)
    assert returns["psrl"] + 8 < returns["greedy"] < float(oracle.mean()) - 20
    each_step = float(play_reference(MdpPlayer("thompson"), task, 60).sum(1).mean())
    assert 125 < each_step < returns["greedy"] + 5
    first, last = episodes["psrl"][:, 0].mean(), episodes["psrl"][:, -1].mean()
    assert float(first) == pytest.approx(10, abs=1.5)
    assert float(last) > float(first) + 4
    with pytest.raises(UnknownNameError, match="psrl"):
        MdpPlayer("pslr")


def test_forgetting_between_episodes_is_caught():
    class Forgetful(MdpPlayer):
        def see(self, actions, result, view):
            super().see(actions, result, view)
            if bool(result.episode_done.any()):
                self.belief.begin(len(actions))

    episodes = play_reference(Forgetful("greedy"), TabularMdpTask(), 200)
    assert float(episodes.sum(1).mean()) < 115
