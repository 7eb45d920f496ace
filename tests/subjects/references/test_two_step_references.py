"""The two-step filter against enumeration, the stay table by hand, and the reference players' known numbers."""

from __future__ import annotations

import itertools

import pytest
import torch

from planprobe.core.errors import UnknownNameError
from planprobe.subjects.envs.two_step import TWO_STEP_2016, TwoStepTask
from planprobe.subjects.references.exact_values import exact_value
from planprobe.subjects.references.play import play_reference
from planprobe.subjects.references.two_step_belief import TwoStepBelief
from planprobe.subjects.references.two_step_players import (
    TWO_STEP_PLAYERS,
    ModelBasedPlayer,
    ModelFreePlayer,
    TwoStepBeliefPlayer,
    make_two_step_player,
    play_rounds,
    stay_table,
)

ROUNDS = [(0, 0, 1), (1, 0, 0), (0, 1, 1)]  # choice, state, reward


@pytest.mark.parametrize(
    "task",
    [
        TwoStepTask(),
        TwoStepTask(flip=0.3, swap=0.2),
        TwoStepTask(flip=0.3, swap=0.2, hold_out=True),
    ],
)
def test_filter_against_enumerated_paths(task):
    """Every path of (good state, swapped) over four rounds, weighed one by one."""
    belief = TwoStepBelief(task)
    belief.begin(1)
    for choice, state, reward in ROUNDS:
        belief.see_round(torch.tensor([choice]), torch.tensor([state]), torch.tensor([float(reward)]))
    allowed = [c for c in range(4) if (c < 2 or task.swap) and not (task.hold_out and c == 3)]

    def drift(now: int, after: int) -> float:
        chance = 0.0
        for flips, swaps in itertools.product((0, 1), (0, 1)):
            goes = now ^ (flips + 2 * swaps)
            goes = now if task.hold_out and goes == 3 else goes
            share = (task.flip if flips else 1 - task.flip) * (task.swap if swaps else 1 - task.swap)
            chance += share * (goes == after)
        return chance

    weights = [0.0] * 4
    for path in itertools.product(range(4), repeat=len(ROUNDS) + 1):
        weight = float(path[0] in allowed)
        for t, (choice, state, reward) in enumerate(ROUNDS):
            good, swapped = path[t] & 1, path[t] >> 1
            weight *= task.common if choice ^ swapped == state else 1 - task.common
            pays = task.rich if state == good else 1 - task.rich
            weight *= (pays if reward else 1 - pays) * drift(path[t], path[t + 1])
        weights[path[-1]] += weight
    expected = [w / sum(weights) for w in weights]
    assert belief.chances[0].tolist() == pytest.approx(expected)
    assert float(belief.chance_good()) == pytest.approx(expected[1] + expected[3])
    assert float(belief.chance_swapped()) == pytest.approx(expected[2] + expected[3])
    assert belief.chance_best()[0].tolist() == pytest.approx([expected[0] + expected[3], expected[1] + expected[2]])


def test_one_round_by_hand():
    """State 0 paid: P(it is the good one) = .9, and after a flip with chance .025, .9 * .975 + .1 * .025 = .88."""
    belief = TwoStepBelief(TwoStepTask())
    belief.begin(1)
    belief.see_round(torch.tensor([1]), torch.tensor([0]), torch.tensor([1.0]))
    assert float(belief.chance_good()) == pytest.approx(1 - 0.88)


def test_stay_table_by_hand():
    choices = torch.tensor([[0, 0, 1, 1, 0]])
    common = torch.tensor([[True, True, False, False, True]])
    rewards = torch.tensor([[1, 0, 1, 0, 1]])
    table = stay_table(choices, common, rewards)
    # common paid: stayed; common unpaid: left; rare paid: stayed; rare unpaid: left
    assert table.stay.tolist() == [[0, 1], [0, 1]]
    assert table.counts.tolist() == [[1, 1], [1, 1]]
    assert table.interaction == 0


@pytest.mark.parametrize("name", TWO_STEP_PLAYERS)
def test_stay_interactions_are_the_known_ones(name):
    known = exact_value("two-step 0.8/0.2 flips 0.025", f"stay_interaction_{name}")
    choices, common, rewards = play_rounds(make_two_step_player(name, seed=1), TwoStepTask(), 1500)
    table = stay_table(choices, common, rewards)
    assert int(table.counts.sum()) == 1500 * 99
    assert table.interaction == pytest.approx(known, abs=0.03)


def test_exact_belief_earns_most():
    returns = {
        name: float(play_reference(make_two_step_player(name), TwoStepTask(), 600).mean()) / 100
        for name in ("exact_bayes", "model_based", "model_free")
    }
    assert returns["exact_bayes"] == pytest.approx(0.706, abs=0.008)
    assert returns["exact_bayes"] > returns["model_based"] + 0.03 > returns["model_free"] + 0.03


def test_a_filter_that_forgets_flips_earns_less():
    class Rigid(TwoStepBeliefPlayer):
        def _start(self, num_boards):
            super()._start(num_boards)
            self.belief.drift = torch.eye(4, dtype=torch.float64)

    right, wrong = (play_rounds(player, TwoStepTask(), 500)[2].mean(1) for player in (TwoStepBeliefPlayer(), Rigid()))
    error = float((right - wrong).std()) / 500**0.5
    assert float((right - wrong).mean()) > 4 * error


def test_the_belief_is_calibrated_when_everything_moves():
    task = TwoStepTask(num_rounds=12, flip=0.1, swap=0.1, hold_out=True)
    said, seen = [], []

    class Watching(TwoStepBeliefPlayer):
        def begin(self, env):
            self.env = env
            super().begin(env)

        def chances(self):
            said.append(self.belief.chances)
            psi = self.env.latents()
            seen.append(torch.nn.functional.one_hot(psi["good_state"] + 2 * psi["swapped"], 4))
            return super().chances()

    play_reference(Watching("thompson"), task, 1500)
    chances, truth = torch.cat(said), torch.cat(seen).to(torch.float64)
    assert float(chances[:, 3].max()) == float(truth[:, 3].max()) == 0
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        rows = (chances > low) & (chances <= high)
        error = float((chances[rows] * (1 - chances[rows])).sum().sqrt()) / int(rows.sum())
        assert abs(float(chances[rows].mean() - truth[rows].mean())) < 4 * error


class Recorder:
    """Passes everything on to a player, and notes before each choice psi and whether the choice is the best."""

    def __init__(self, player):
        self.player, self.swapped, self.best = player, [], []

    def begin(self, env):
        self.env = env
        self.player.begin(env)

    def act(self):
        psi, actions = self.env.latents(), self.player.act()
        if self.player.at_choice:
            self.swapped.append(psi["swapped"])
            self.best.append(actions == psi["best_choice"])
        return actions

    def see(self, actions, result, view):
        self.player.see(actions, result, view)


def test_a_shown_swap_is_planned_with_at_once():
    """The first choice after the map swaps: planners go over to the other choice, a cache of what paid does not."""
    task = TwoStepTask(num_rounds=20, flip=0.0, swap=0.1, show_map=True)

    def share_right(player) -> float:
        recorder = Recorder(player)
        play_reference(recorder, task, 500)
        just_swapped = torch.stack(recorder.swapped).diff(dim=0)[10:] != 0
        return float(torch.stack(recorder.best)[11:][just_swapped].float().mean())

    assert share_right(TwoStepBeliefPlayer()) > 0.97
    assert share_right(ModelBasedPlayer()) > 0.75
    assert share_right(ModelFreePlayer()) < 0.4


def test_players_have_names():
    with pytest.raises(UnknownNameError, match="one_back_table"):
        make_two_step_player("one_back")
    with pytest.raises(UnknownNameError, match="greedy"):
        TwoStepBeliefPlayer("greed")
    assert TWO_STEP_2016.drift().tolist() == torch.eye(4).tolist()
