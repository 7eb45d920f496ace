"""D14: likelihoods against enumeration, players on the right side of zero, and noise that decides or does not."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.instruments.detectors import commitment as c

NUM, STEPS, VALUES = 12, 4, 3


def small_trials(*, rules_out: bool = False) -> c.HypothesisTrials:
    generator = torch.Generator().manual_seed(1)
    chances = torch.rand(NUM, STEPS, VALUES, generator=generator, dtype=torch.float64)
    belief = torch.rand(NUM, 1, VALUES, generator=generator, dtype=torch.float64).expand(-1, STEPS, -1).clone()
    if rules_out:
        belief[:, 2:, 0] = 0  # the first value is ruled out by the second step
    belief = belief / belief.sum(2, keepdim=True)
    active = torch.ones(NUM, STEPS, dtype=torch.bool)
    return c.HypothesisTrials(chances, belief, torch.zeros(NUM, STEPS, dtype=torch.int64), active, 2)


def enumerate_paths(trials: c.HypothesisTrials, lapse: float):
    """Every course of held values: its prior chance and its joint chance with the actions, (N,) each."""
    q = trials.softened(lapse)
    for path in itertools.product(range(VALUES), repeat=STEPS):
        prior = torch.ones(NUM, dtype=torch.float64)
        for t, value in enumerate(path):
            anew = trials.belief[:, t, value]
            if t == 0:
                prior = prior * anew
                continue
            alive = trials.belief[:, t, path[t - 1]] > c.ALIVE
            prior = prior * torch.where(alive, float(path[t - 1] == value), anew)
        joint = prior * torch.stack([q[:, t, value] for t, value in enumerate(path)]).prod(0)
        yield path, joint


@pytest.mark.parametrize("rules_out", [False, True])
def test_held_likelihood_and_values_by_enumeration(rules_out):
    trials, lapse = small_trials(rules_out=rules_out), 0.1
    total, held = torch.zeros(NUM, dtype=torch.float64), torch.zeros(NUM, STEPS, VALUES, dtype=torch.float64)
    for path, joint in enumerate_paths(trials, lapse):
        total += joint
        for t, value in enumerate(path):
            held[:, t, value] += joint
    torch.testing.assert_close(c.likelihood_held(trials, lapse).sum(1), total.log())
    torch.testing.assert_close(c.held_values(trials, lapse), held / total[:, None, None])


def test_an_episode_begins_with_a_new_sample():
    trials = small_trials()
    two = c.HypothesisTrials(
        trials.chances, trials.belief, torch.tensor([0, 0, 1, 1]).expand(NUM, -1), trials.active, 2
    )  # fmt: skip
    apart = sum(
        (trials.belief[:, t] * trials.softened(0.1)[:, t] * trials.softened(0.1)[:, t + 1]).sum(1).log() for t in (0, 2)
    )  # fmt: skip
    torch.testing.assert_close(c.likelihood_held(two, 0.1).sum(1), apart)


def test_one_step_is_the_same_either_way():
    trials = small_trials()
    torch.testing.assert_close(c.likelihood_held(trials, 0.1)[:, 0], c.likelihood_anew(trials, 0.1)[:, 0])


class Noisy(nn.Module):
    """Its first memory is a number drawn for it: the action where `listens`, else nothing."""

    def __init__(self, *, listens: bool) -> None:
        super().__init__()
        self.listens = listens

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        bit = state[0] * self.listens
        return 40 * torch.cat([bit, 1 - bit], dim=1), torch.zeros(len(bit)), state


@pytest.mark.parametrize(("listens", "told"), [(True, 0.6931), (False, 0.0)])
def test_a_noise_input_tells_of_the_action_where_it_is_listened_to(listens, told):
    noises = [(torch.full((NUM, 1), float(bit)),) for bit in (0, 1)]
    rows = c.noise_rows(
        Noisy(listens=listens), torch.zeros(NUM, STEPS, 1, 1, 1), torch.ones(NUM, STEPS, dtype=torch.bool), noises
    )
    assert rows[0]["value"] == pytest.approx(told, abs=1e-3)
    assert rows[1]["source"] == "deterministic twin"
    assert rows[1]["value"] == pytest.approx(0, abs=1e-9)


def test_shapes_and_numbers_are_checked():
    trials = small_trials()
    with pytest.raises(ShapeError):
        c.HypothesisTrials(trials.chances[:, 1:], trials.belief, trials.episodes, trials.active, 2)
    with pytest.raises(TooFewLevelsError):
        c.HypothesisTrials(*(part[:3] for part in (trials.chances, trials.belief, trials.episodes, trials.active)), 2)


def drawn(*, hold: bool) -> c.HypothesisTrials:
    """Many trials with two actions, of which each of two values wants one; who holds wants the same one throughout."""
    generator = torch.Generator().manual_seed(2)
    want = torch.randint(0, 2, (NUM * 5, STEPS), generator=generator)
    want = want[:, :1].expand(-1, STEPS) if hold else want
    chances = torch.stack([want == 0, want == 1], dim=2).double()
    whole = torch.zeros(len(want), STEPS, dtype=torch.int64)
    return c.HypothesisTrials(chances, torch.full_like(chances, 0.5), whole, whole == 0, 2)


def test_who_holds_is_told_from_who_does_not():
    held, anew = drawn(hold=True), drawn(hold=False)
    found = c.run(held, controls={"anew": anew}, min_effect=0.02)
    assert found.outcome == "supported"
    # after the first step, holding makes sure of what sampling gives one half
    assert found.effect.value == pytest.approx(0.6931 * (STEPS - 1) / STEPS, abs=0.01)
    assert c.run(anew, controls={}, min_effect=0.02).effect.value < 0.02


def in_turn(*, ordered: bool, values: int = 5, number: int = 60) -> c.HypothesisTrials:
    """Trials of ten steps: a value is held for two steps, then ruled out. Which comes next is drawn, or the first left;
    every value wants an action of its own."""
    generator = torch.Generator().manual_seed(3)
    orders = torch.rand(number, values, generator=generator).argsort(1)
    orders = torch.arange(values).expand(number, -1) if ordered else orders
    held = orders.repeat_interleave(2, dim=1)
    chances = torch.nn.functional.one_hot(held, values).double()
    gone = chances.cumsum(1) - chances >= 2  # by the steps before
    belief = (~gone).double() / (~gone).sum(2, keepdim=True)
    whole = torch.zeros(number, 2 * values, dtype=torch.int64)
    return c.HypothesisTrials(chances, belief, whole, whole == 0, values)


def test_who_goes_by_an_order_of_its_own_draws_nothing():
    drawn_ones = c.run(in_turn(ordered=False), controls={}, min_effect=0.02)
    assert drawn_ones.outcome == "supported"
    swept = c.run(in_turn(ordered=True), controls={}, min_effect=0.02)
    assert swept.outcome != "supported"
    assert swept.effect.value == pytest.approx(drawn_ones.effect.value, abs=0.02)  # it holds as well
    assert "order of its own" in swept.notes[-1]


def test_an_order_is_found_from_what_is_drawn():
    weights = c.fit_order(in_turn(ordered=True), 1e-3)
    assert torch.equal(weights.argsort(descending=True), torch.arange(5))
    alike = c.fit_order(in_turn(ordered=False, number=400), 1e-3)
    assert float(alike.min()) > 0.6


def test_a_rival_that_explains_as_much_takes_the_lead_away():
    trials = drawn(hold=True)
    found = c.run(trials, controls={}, rivals={"it knew": torch.ones(len(trials.active), STEPS)}, min_effect=0.02)
    assert found.effect.value > 0.5
    assert found.beyond_controls.value < 0
    assert found.outcome != "supported"
