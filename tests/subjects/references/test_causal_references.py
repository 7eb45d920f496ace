"""Causal graphs: their number and chances, the posterior against enumeration, and what exploring is worth."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from planprobe.core.errors import UnknownNameError
from planprobe.subjects.envs.causal import CausalTask
from planprobe.subjects.envs.causal_graphs import NUM_SETTINGS, list_graphs, outcome_values
from planprobe.subjects.references.causal_players import CausalBelief, CausalPlayer, causal_bounds, win_chances
from planprobe.subjects.references.play import play_reference


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def scalar_chance(edges, causes, strength: float, setting: int, outcome: list[int]) -> float:
    """P(outcome) of one graph, factor by factor."""
    total = 0.0
    for coin in (-1, 1):
        chance = 0.5
        for node in range(3):
            if setting and (setting - 1) // 2 == node:
                chance *= outcome[node] == (setting - 1) % 2
                continue
            drive = coin * causes[node] + sum((2 * outcome[i] - 1) * edges[i][node] for i in range(3))
            one = sigmoid(strength * drive)
            chance *= one if outcome[node] else 1 - one
        total += chance
    return total


def test_graphs_are_all_there_once():
    """25 directed acyclic graphs on three nodes, with 0, 1, 2, 3 edges: 1, 6, 12, 6, each edge with two signs."""
    plain = list_graphs(False, 2.0)
    links = (plain.edges != 0).sum((1, 2))
    assert torch.bincount(links).tolist() == [1, 6 * 2, 12 * 4, 6 * 8]
    assert len({tuple(e.flatten().tolist()) for e in plain.edges}) == 109
    assert len({tuple(e.flatten().tolist()) for e in (plain.edges != 0).int()}) == 25
    hidden = list_graphs(True, 2.0)
    assert len(hidden) == 654
    assert ((hidden.causes != 0).sum(1) == 2).all()


@pytest.mark.parametrize("confounded", [False, True])
def test_chances_against_a_scalar_twin(confounded):
    graphs = list_graphs(confounded, 1.5)
    assert torch.allclose(graphs.outcomes.sum(2), torch.ones(len(graphs), NUM_SETTINGS, dtype=torch.float64))
    values = outcome_values().tolist()
    for g in range(0, len(graphs), 37):
        for setting, outcome in itertools.product(range(NUM_SETTINGS), range(8)):
            twin = scalar_chance(graphs.edges[g].tolist(), graphs.causes[g].tolist(), 1.5, setting, values[outcome])
            assert float(graphs.outcomes[g, setting, outcome]) == pytest.approx(twin)


def test_holding_a_child_tells_nothing_of_its_parent():
    """0 -> 1, positive: seeing 1 at 0 makes 0 unlikely, holding 1 at 0 does not."""
    graphs = list_graphs(False, 2.0)
    wanted = torch.zeros(3, 3, dtype=torch.int64)
    wanted[0, 1] = 1
    g = int((graphs.edges == wanted).all((1, 2)).nonzero())
    joint, values = graphs.outcomes[g], outcome_values()
    seen = float(joint[0, (values[:, 0] == 1) & (values[:, 1] == 0)].sum() / joint[0, values[:, 1] == 0].sum())
    assert seen == pytest.approx(1 - sigmoid(2))
    held = 1 + 2 * 1 + 0
    assert float(joint[held, values[:, 0] == 1].sum()) == pytest.approx(0.5)


@pytest.mark.parametrize("confounded", [False, True])
def test_posterior_is_bayes_rule(confounded):
    task = CausalTask(confounded=confounded)
    graphs, belief = task.graphs(), CausalBelief(task)
    belief.begin(1)
    weights = torch.ones(len(graphs), dtype=torch.float64)
    for setting, outcome in ((0, 5), (3, 4), (6, 6)):
        belief.see(torch.tensor([setting]), torch.tensor([outcome]))
        weights *= graphs.outcomes[:, setting, outcome]
    weights /= weights.sum()
    assert torch.allclose(belief.chances[0], weights)
    linked = float(weights[graphs.edges[:, 0, 2] != 0].sum())
    assert float(belief.edge_chances()[0, 0, 2]) == pytest.approx(linked)
    # one sample more, expected over what it may show
    after = torch.zeros(3, NUM_SETTINGS, dtype=torch.float64)
    wins = win_chances(graphs)
    for setting, outcome in itertools.product(range(NUM_SETTINGS), range(8)):
        joint = weights * graphs.outcomes[:, setting, outcome]
        after[:, setting] += torch.einsum("g,gia->ia", joint, wins).amax(1)
    assert torch.allclose(belief.bets_after()[0], after)
    assert (belief.bets_after()[0] >= belief.bet_values()[0].amax(1, keepdim=True) - 1e-12).all()
    assert (belief.information() > -1e-12).all()


def test_the_posterior_is_calibrated():
    """The graph that is there has, on average, the chance that the posterior squared says."""
    task, kept = CausalTask(num_samples=6), []

    class Watching(CausalPlayer):
        def begin(self, env):
            super().begin(env)
            self.env = env

        def act(self):
            truth = self.env.latents()["graph"]
            kept.append((self.belief.chances.gather(1, truth[:, None]), (self.belief.chances**2).sum(1)))
            return super().act()

    play_reference(Watching("random"), task, 1500)
    right, expected = kept[-1]
    assert float(right.mean()) == pytest.approx(float(expected.mean()), rel=0.06)
    assert float(right.mean()) > 4 / 109


def test_what_can_be_won():
    for confounded in (False, True):
        least, most = causal_bounds(CausalTask(confounded=confounded))
        assert least == pytest.approx(0.5)  # every sign is as likely as its opposite
        assert 0.6 < most < 0.8


def chance_of_winning(rule: str, task: CausalTask, num_trials: int) -> torch.Tensor:
    """What the posterior gives the bet that is made in the quiz, which varies less than whether it is won."""

    class Betting(CausalPlayer):
        def act(self):
            actions = super().act()
            bets = self.belief.bet_values()[self.boards, self.view[:, -4:-1].argmax(1)]
            self.chance = bets.gather(1, actions[:, None]).squeeze(1)
            return actions

    player = Betting(rule)
    won = play_reference(player, task, num_trials)[:, 0]
    assert abs(float(won.mean() - player.chance.mean())) < 4 * 0.5 / num_trials**0.5
    return player.chance


def test_interventions_beat_watching_and_chosen_ones_beat_random_ones():
    task = CausalTask(early_cue=True)
    observe, random, informative = (
        chance_of_winning(rule, task, 1500) for rule in ("observe", "random", "informative")
    )
    for better, worse in ((informative, random), (random, observe)):
        difference = better - worse
        assert float(difference.mean()) > 2.5 * float(difference.std()) / 1500**0.5
    assert float(observe.mean()) > 0.6
    assert float(informative.mean()) < causal_bounds(task)[1]


def test_a_bet_on_what_is_held_wins_nothing():
    env = CausalTask(num_samples=1).make_env(300, autoreset=False)
    env.reset()
    view = env.step(torch.zeros(300, dtype=torch.int64)).observation[:, :, 0, 0]
    assert (view[:, -1] == 1).all()
    held = view[:, -4:-1].argmax(1)
    assert (env.step(1 + 2 * held).reward == 0).all()


def test_the_task_may_decide_for_the_agent():
    for exploration, rule in (("observe", "informative"), ("random", "observe")):
        settings = []
        task = CausalTask(exploration=exploration, num_samples=3)
        player = CausalPlayer(rule)
        play_reference(player, task, 200, on_step=lambda t, a, r, kept=settings: kept.append(r.extras["setting"]))
        seen = set(torch.cat(settings[:-1]).tolist())
        assert seen == ({0} if exploration == "observe" else set(range(1, 7)))
    with pytest.raises(UnknownNameError, match="informative"):
        CausalPlayer("informativ")
