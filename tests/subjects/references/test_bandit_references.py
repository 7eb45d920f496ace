"""Exact values of the bandits: known answers, brute-force twins, and players whose returns must agree with them."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import beta

from planprobe.core.errors import ShapeError, UnknownNameError
from planprobe.subjects.envs.bandit import CORRELATED_MEANS, BanditTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.references.bandit_beliefs import (
    BetaBelief,
    CorrelatedBelief,
    InformativeBelief,
    RestlessBelief,
    walk_matrix,
)
from planprobe.subjects.references.bandit_players import (
    BeliefPlayer,
    CountPlayer,
    InformativeBayesPlayer,
    draw_actions,
    informative_thompson_return,
    informative_values,
)
from planprobe.subjects.references.bandit_policies import (
    gittins_indices,
    gittins_policy,
    greedy_policy,
    random_policy,
    thompson_policy,
    ucb1_policy,
)
from planprobe.subjects.references.bandit_values import bayes_values, policy_divergence, policy_return
from planprobe.subjects.references.exact_values import exact_value, load_exact_values
from planprobe.subjects.references.play import play_reference


def counts(*pairs: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """One history: (successes, failures) of each arm."""
    return torch.tensor([[hits for hits, _ in pairs]]), torch.tensor([[misses for _, misses in pairs]])


# values --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("num_pulls", [10, 20, 50])
def test_returns_are_the_published_ones(num_pulls):
    task = f"two-arm Bernoulli Beta(1 1) T={num_pulls}"
    assert bayes_values(2, num_pulls).optimal_return == pytest.approx(
        exact_value(task, "bayes_optimal_return"), abs=6e-4
    )
    for policy, quantity in ((thompson_policy, "thompson_return"), (greedy_policy, "greedy_posterior_mean_return")):
        assert policy_return(policy, 2, num_pulls) == pytest.approx(exact_value(task, quantity), abs=6e-4)


def test_two_pulls_by_hand():
    """First pull 1/2; after a payment (chance 1/2) pull it again for 2/3, after none the other for 1/2."""
    values = bayes_values(2, 2)
    assert values.optimal_return == pytest.approx(1 / 2 + 1 / 2 * 2 / 3 + 1 / 2 * 1 / 2)
    assert values.q_values(*counts((1, 0), (0, 0))).tolist() == [pytest.approx([2 / 3, 1 / 2])]
    assert values.policy(*counts((0, 0), (0, 0))).tolist() == [[0.5, 0.5]]
    assert values.policy(*counts((0, 1), (0, 0))).tolist() == [[0.0, 1.0]]


def test_values_against_a_scalar_recursion():
    def best(history: tuple[tuple[int, int], ...], left: int) -> float:
        if not left:
            return 0.0
        options = []
        for arm, (hits, misses) in enumerate(history):
            chance = (1 + hits) / (2 + hits + misses)
            paid = (*history[:arm], (hits + 1, misses), *history[arm + 1 :])
            lost = (*history[:arm], (hits, misses + 1), *history[arm + 1 :])
            options.append(chance * (1 + best(paid, left - 1)) + (1 - chance) * best(lost, left - 1))
        return max(options)

    assert bayes_values(3, 5).optimal_return == pytest.approx(best(((0, 0),) * 3, 5))


def test_five_arms_and_ten_pulls():
    task, gittins = "five-arm Bernoulli Beta(1 1) T=10", gittins_policy(0.9, 10)
    worth = {
        "random": random_policy, "gittins_0.9": gittins, "greedy_posterior_mean": greedy_policy,
        "thompson": thompson_policy, "ucb1": ucb1_policy(),
    }  # fmt: skip
    for name, policy in worth.items():
        assert policy_return(policy, 5, 10) == pytest.approx(exact_value(task, f"{name}_return"), abs=6e-4)
    assert bayes_values(5, 10).optimal_return == pytest.approx(exact_value(task, "bayes_optimal_return"), abs=6e-4)
    # the published table has one digit
    assert policy_return(gittins, 5, 10) == pytest.approx(exact_value(task, "published_gittins_return"), abs=0.05)


def test_too_many_histories_are_refused():
    with pytest.raises(ShapeError, match="histories"):
        bayes_values(10, 50)
    with pytest.raises(ShapeError, match="with a pull left"):
        bayes_values(2, 2).q_values(*counts((2, 0), (0, 0)))


def test_divergence_is_zero_for_the_optimum_alone():
    assert policy_divergence(bayes_values(2, 10).policy, 2, 10) == pytest.approx(0, abs=1e-12)
    assert 0.05 < policy_divergence(thompson_policy, 2, 20) < 1
    assert policy_divergence(greedy_policy, 2, 20) == torch.inf
    # one pull: all agree with the even chances of a random choice
    assert policy_divergence(random_policy, 2, 1) == pytest.approx(0)


# policies ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("gamma", ["0.90", "0.95", "0.99"])
def test_gittins_indices_are_the_published_ones(gamma):
    known = exact_value("gittins index Beta(1 1)", f"gamma={gamma}")
    assert float(gittins_indices(0, float(gamma))[0, 0]) == pytest.approx(known, abs=1e-4)


def test_gittins_indices_lie_above_the_mean_and_rise_with_patience():
    patient, hasty = gittins_indices(6, 0.95, horizon=100), gittins_indices(6, 0.5, horizon=100)
    for hits, misses in itertools.product(range(4), range(4)):
        mean = (1 + hits) / (2 + hits + misses)
        assert mean < hasty[hits, misses] < patient[hits, misses] < 1
    assert torch.isnan(patient[4, 4])
    with pytest.raises(ShapeError, match="gamma"):
        gittins_indices(3, 1.0)
    with pytest.raises(ShapeError, match="more than 6 pulls"):
        gittins_policy(0.95, 6)(*counts((7, 0), (0, 0)))


def test_chances_of_being_best_against_quadrature():
    pairs = ((3, 1), (0, 2), (5, 4))

    def first_is_best(x: float) -> float:
        return beta.pdf(x, 4, 2) * beta.cdf(x, 1, 3) * beta.cdf(x, 6, 5)

    chances = thompson_policy(*counts(*pairs))
    assert float(chances[0, 0]) == pytest.approx(quad(first_is_best, 0, 1)[0], abs=1e-9)
    assert float(chances.sum()) == pytest.approx(1)
    # P(p1 > p2) with Beta(2, 1) and Beta(1, 1) is the mean of the first, 2/3
    assert thompson_policy(*counts((1, 0), (0, 0))).tolist() == [pytest.approx([2 / 3, 1 / 3])]


def test_ucb1_by_hand():
    assert ucb1_policy()(*counts((1, 0), (0, 0), (0, 0))).tolist() == [[0.0, 0.5, 0.5]]
    # mean 1/2 + sqrt(2 ln 6 / 2) = 1.84 against 3/4 + sqrt(2 ln 6 / 4) = 1.70
    assert ucb1_policy()(*counts((1, 1), (3, 1))).tolist() == [[1.0, 0.0]]
    assert ucb1_policy(exploration=0.1)(*counts((1, 1), (3, 1))).tolist() == [[0.0, 1.0]]


# players -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["bayes", "thompson", "greedy", "ucb1"])
def test_players_earn_what_their_policies_are_worth(name):
    policies = {"thompson": thompson_policy, "greedy": greedy_policy, "ucb1": ucb1_policy()}
    policy = policies.get(name, bayes_values(2, 10).policy)
    returns = play_reference(CountPlayer(policy), BanditTask(num_pulls=10), 20_000)
    error = float(returns.std()) / len(returns) ** 0.5
    assert abs(float(returns.mean()) - policy_return(policy, 2, 10)) < 3.5 * error
    assert error < 0.02


def test_a_wrong_belief_update_is_caught():
    """Crediting the other arm, or forgetting failures, must cost more than the error of the mean."""

    class Swapped(CountPlayer):
        def see(self, actions, result, view):
            super().see(1 - actions, result, view)

    class Forgetful(CountPlayer):
        def see(self, actions, result, view):
            super().see(actions, result, view)
            self.belief.failures = torch.zeros_like(self.belief.failures)

    policy = bayes_values(2, 10).policy
    for wrong in (Swapped(policy), Forgetful(greedy_policy)):
        returns = play_reference(wrong, BanditTask(num_pulls=10), 4000)
        assert float(returns.mean()) + 4 * float(returns.std()) / 4000**0.5 < 6.02


def test_a_player_draws_the_same_on_a_board_in_any_batch():
    task = BanditTask(num_arms=3, structure="restless")
    many, few = (play_reference(BeliefPlayer("thompson", seed=3), task, n, seed=1) for n in (50, 7))
    assert torch.equal(many[:7], few)
    with pytest.raises(UnknownNameError, match="thompson"):
        BeliefPlayer("tompson")


def test_draws_follow_their_chances():
    chances = torch.tensor([[0.0, 0.7, 0.3, 0.0]]).expand(20_000, -1)
    drawn = torch.bincount(draw_actions(chances, 0, torch.arange(20_000)), minlength=4) / 20_000
    assert drawn.tolist() == pytest.approx([0, 0.7, 0.3, 0], abs=0.015)
    assert drawn[0] == drawn[3] == 0


# beliefs -------------------------------------------------------------------------------------------------------------
def pull(belief, history: list[tuple[int, float]]):
    belief.begin(1)
    for arm, reward in history:
        belief.see(torch.tensor([arm]), torch.tensor([reward]))
    return belief


HISTORY = [(0, 1.0), (1, 1.0), (0, 0.0), (0, 1.0)]


def test_independent_arms_by_hand():
    belief = pull(BetaBelief(BanditTask()), HISTORY)
    assert belief.mean().tolist() == [pytest.approx([3 / 5, 2 / 3])]


def test_correlated_arms_by_hand():
    """For arm 0 speak two payments, against it one failure and the payment of arm 1."""
    belief = pull(CorrelatedBelief(BanditTask(structure="correlated")), HISTORY)
    assert belief.mean().tolist() == [pytest.approx([3 / 6, 3 / 6])]
    belief = pull(CorrelatedBelief(BanditTask(structure="correlated")), HISTORY[:1])
    assert belief.mean().tolist() == [pytest.approx([2 / 3, 1 / 3])]
    assert belief.chance_best().tolist() == [pytest.approx([3 / 4, 1 / 4])]  # of density 2 p beyond 1/2
    for preset, (low, high) in CORRELATED_MEANS.items():
        belief = pull(CorrelatedBelief(BanditTask(structure="correlated", preset=preset)), HISTORY[:1])
        assert float(belief.chance_best()[0, 0]) == pytest.approx(high)  # bayes from 1/2
        assert float(belief.mean()[0, 0]) == pytest.approx(high * high + low * low)


def test_wandering_arms_against_enumerated_paths():
    """All paths of both means over three levels, weighed one by one."""
    task = BanditTask(structure="restless", num_levels=3, walk=0.2)
    belief = pull(RestlessBelief(task), HISTORY)
    walk, levels = walk_matrix(task).tolist(), (0.0, 0.5, 1.0)
    assert walk == [pytest.approx([0.6, 0.4, 0]), pytest.approx([0.2, 0.6, 0.2]), pytest.approx([0, 0.4, 0.6])]
    for arm in (0, 1):
        weights = [0.0] * 3
        for path in itertools.product(range(3), repeat=len(HISTORY) + 1):
            weight = 1.0
            for t, (pulled, reward) in enumerate(HISTORY):
                chance = levels[path[t]] if reward else 1 - levels[path[t]]
                weight *= (chance if pulled == arm else 1.0) * walk[path[t]][path[t + 1]]
            weights[path[-1]] += weight
        assert belief.levels[0, arm].tolist() == pytest.approx([w / sum(weights) for w in weights])
    # the best of two on a lattice, ties shared
    first, second = belief.levels[0].tolist()
    wins = sum(first[i] * second[j] * (1.0 if i > j else 0.5 * (i == j)) for i in range(3) for j in range(3))
    assert belief.chance_best()[0].tolist() == pytest.approx([wins, 1 - wins])


@pytest.mark.parametrize("structure", ["independent", "correlated", "restless"])
def test_beliefs_are_calibrated(structure):
    """Of the pulls said to pay with chance q, a share q does; the task and the belief then mean the same."""
    predicted, paid = [], []

    class Watching(BeliefPlayer):
        def see(self, actions, result, view):
            predicted.append(self.belief.mean().gather(1, actions[:, None]).squeeze(1))
            paid.append(result.reward)
            super().see(actions, result, view)

    task = BanditTask(structure=structure, num_pulls=12, walk=0.3 if structure == "restless" else 0.1)
    play_reference(Watching("thompson"), task, 3000)
    said, seen = torch.cat(predicted), torch.cat(paid).to(torch.float64)
    for low, high in ((0, 0.4), (0.4, 0.6), (0.6, 1)):
        rows = (said >= low) & (said < high)
        error = (said[rows] * (1 - said[rows])).sum().sqrt() / rows.sum()
        assert abs(float(seen[rows].mean() - said[rows].mean())) < 3.5 * float(error)


# the informative arm -------------------------------------------------------------------------------------------------
def test_the_informative_arm_is_pulled_first_and_pays():
    task, name = InformativeBanditTask(), "informative-arm 11-arm bandit 5 steps"
    start = informative_values(task)[5][-1]
    assert int(start.argmax()) == 10
    assert float(start.max()) == pytest.approx(exact_value(name, "bayes_optimal_return"))
    assert informative_thompson_return(task) == pytest.approx(exact_value(name, "thompson_return"))
    bayes = play_reference(InformativeBayesPlayer(), task, 4000)
    assert float(bayes.mean()) == pytest.approx(20.55, abs=0.02)
    thompson = play_reference(BeliefPlayer("thompson"), task, 4000)
    assert float(thompson.mean()) == pytest.approx(11.0, abs=3.5 * float(thompson.std()) / 4000**0.5)


def test_what_each_arm_tells():
    task = InformativeBanditTask()
    hint = pull(InformativeBelief(task), [(10, 0.3)])
    assert hint.candidates[0].nonzero().flatten().tolist() == [2]
    miss = pull(InformativeBelief(task), [(4, 1.0), (4, 1.0)])
    assert miss.candidates.sum() == 9
    assert not miss.candidates[0, 4]
    hit = pull(InformativeBelief(task), [(4, 5.0)])
    assert hit.candidates[0].nonzero().flatten().tolist() == [4]
    assert hit.mean()[0].tolist() == pytest.approx([1, 1, 1, 1, 5, 1, 1, 1, 1, 1, 0.5])


def test_informative_values_by_hand():
    """Two possible targets, two pulls: told first .15 + 5; a guess is 1/2 (5 + 5) + 1/2 (1 + 5)."""
    task = InformativeBanditTask(num_arms=3, num_pulls=2)
    assert informative_values(task)[2][3].tolist() == pytest.approx([8.0, 8.0, 5.15])
    assert informative_values(task)[1][1].tolist() == pytest.approx([5.0, 1.0, 0.1])


def test_known_values_have_names():
    assert len(load_exact_values()) == 38
    with pytest.raises(UnknownNameError, match="bayes_optimal_return"):
        exact_value("informative-arm 11-arm bandit 5 steps", "bayes_return")
