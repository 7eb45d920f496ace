"""Enumerated histories, readings of them, and posteriors in numbers: each against the players that keep the belief."""

from __future__ import annotations

import pytest
import torch
from exact_bandit_policies import UniformPolicy

from planprobe.core.errors import RecipeError
from planprobe.core.play_trials import play_trials
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.causal import CausalTask
from planprobe.subjects.envs.doors import DoorsTask
from planprobe.subjects.envs.hidden_goal import GOAL_REWARD, HiddenGoalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.sokoban_trial import SokobanTrialTask
from planprobe.subjects.envs.timing import TimingTask
from planprobe.subjects.envs.trial_catalog import TEST_SEED, make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.references.bandit_beliefs import make_bandit_belief
from planprobe.subjects.references.bandit_players import CountPlayer
from planprobe.subjects.references.bandit_policies import thompson_policy
from planprobe.subjects.references.bandit_values import bayes_values, spread_ties
from planprobe.subjects.references.belief_numbers import exact_belief
from planprobe.subjects.references.catalog import BAYES, GREEDY, THOMPSON
from planprobe.subjects.references.causal_players import CausalBelief
from planprobe.subjects.references.choice_scores import (
    ScriptedPulls,
    depth_within,
    draw_histories,
    enumerate_histories,
    own_histories,
    score_readings,
)
from planprobe.subjects.references.door_players import DoorGreedyPlayer
from planprobe.subjects.references.door_values import door_posterior
from planprobe.subjects.references.goal_players import StepSamplingPlayer, SweepPlayer
from planprobe.subjects.references.goal_scores import goal_distances, shortest_ways, walk_trials
from planprobe.subjects.references.permutation_belief import prior_permutations, update_permutation_belief
from planprobe.subjects.references.play import play_reference
from planprobe.subjects.references.two_step_belief import TwoStepBelief


class StrayingDoorPlayer(DoorGreedyPlayer):
    """Greedy about its belief on three steps of four, else a move of no sense; keeps what it believed and did."""

    def begin(self, env):
        super().begin(env)
        self.believed, self.actions = [], []

    def act(self):
        boards, step = torch.arange(len(self.sets)), len(self.actions)
        stray = (boards + step) % 4 == 0
        self.believed.append(self.sets.clone())
        self.actions.append(torch.where(stray, (boards + 3 * step) % 4, super().act()))
        return self.actions[-1]


def random_rollout(task, num_trials: int = 12):
    env = make_trial_env(task, Inputs(), num_trials)
    return play_trials(UniformPolicy(env.num_actions), env, seed=1)


# histories of pulls --------------------------------------------------------------------------------------------------
def test_every_history_comes_once():
    task = BanditTask(num_arms=2, num_pulls=5)
    histories = enumerate_histories(task, 3)
    rows, lengths = histories.prefixes(task.num_pulls)
    assert len(histories) == 4**3
    assert torch.bincount(lengths).tolist() == [1, 4, 16, 64]
    begun = {
        (length, *histories.actions[row, :length].tolist(), *histories.rewards[row, :length].tolist())
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True)
    }
    assert len(begun) == 1 + 4 + 16 + 64


def test_a_history_leaves_a_pull():
    task = BanditTask(num_arms=2, num_pulls=2)
    assert int(enumerate_histories(task, 2).prefixes(task.num_pulls)[1].max()) == 1


def test_what_the_informative_arm_pays_follows_from_the_target():
    task = InformativeBanditTask(num_arms=4, num_pulls=3)
    histories = enumerate_histories(task, 1)
    _, lengths = histories.prefixes(task.num_pulls)
    assert torch.bincount(lengths).tolist() == [1, 2 * 3 + 3]  # each target pays or not, the hint has three values


def test_depth_stays_within():
    assert depth_within(BanditTask(num_arms=2, num_pulls=20), 1500) == 5
    assert depth_within(BanditTask(num_arms=5, num_pulls=10), 1500) == 3
    with pytest.raises(RecipeError, match="smaller depth"):
        enumerate_histories(BanditTask(num_arms=5, num_pulls=10), 9)


def test_a_script_is_paid_whatever_is_pulled():
    task = BanditTask(num_arms=3, num_pulls=4)
    script = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    rollout = play_trials(UniformPolicy(3), TrialInputs(ScriptedPulls(task, script), Inputs()))
    assert torch.equal(rollout.rewards, torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 0]]))


def test_readings_are_those_of_the_players():
    task = BanditTask(num_arms=2, num_pulls=6)
    histories = own_histories(CountPlayer(thompson_policy, seed=3), task, 20, seed=5)
    scores = score_readings(task, histories)
    wins = torch.nn.functional.one_hot(histories.actions, 2) * histories.rewards[..., None].long()
    losses = torch.nn.functional.one_hot(histories.actions, 2) - wins
    before = [part.cumsum(1)[:, 3] - part[:, 3] for part in (wins, losses)]
    torch.testing.assert_close(scores[THOMPSON][:, 3].exp(), thompson_policy(*before))
    torch.testing.assert_close(spread_ties(scores[BAYES][:, 3]), bayes_values(2, 6).policy(*before))
    torch.testing.assert_close(scores[GREEDY][:, 3], (1.0 + before[0]).double() / (2 + before[0] + before[1]))


def test_who_maximises_asks_first_and_who_samples_never():
    task = InformativeBanditTask()
    scores = score_readings(task, draw_histories(task, 3))
    assert bool((scores[BAYES][:, 0].argmax(1) == task.num_targets).all())
    assert bool((scores[THOMPSON][..., -1] == -torch.inf).all())


# walks ---------------------------------------------------------------------------------------------------------------
def test_ways_and_distances_on_three_squares_a_side():
    ways = shortest_ways(3)
    assert ways[0, 8].tolist() == [0, 0.5, 0, 0.5, 0]  # down or right
    assert ways[4, 4].tolist() == [0, 0, 0, 0, 1]
    assert goal_distances(3)[0, 8] == 4


@pytest.mark.parametrize("player_class", [StepSamplingPlayer, SweepPlayer])
def test_belief_of_a_walk_is_the_players_own(player_class):
    task, player = HiddenGoalTask(size=4, episode_steps=8), player_class(seed=2)
    walks, actions = walk_trials(player, task, 30, seed=1)
    last = walks.belief[:, -1]
    # one step more takes the belief of the walk to the player's
    still = (player.belief > 0).sum(1)
    assert bool(((last > 0).sum(1) >= still).all())
    assert bool((last[player.belief > 0] > 0).all())
    taken = walks.nearest().gather(2, actions[..., None]) if player_class is SweepPlayer else walks.mixture().gather(
        2, actions[..., None]
    )  # fmt: skip
    assert float(taken.min()) > 0  # each does nothing that its own reading rules out


# posteriors in numbers -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("structure", ["independent", "correlated", "restless"])
def test_bandit_numbers_are_the_belief(structure):
    task = BanditTask(num_arms=2, num_pulls=8, structure=structure)
    rollout = random_rollout(task)
    exact, belief = exact_belief(task, rollout), make_bandit_belief(task)
    belief.begin(12)
    for t in range(8):
        numbers = exact.numbers[:, t]
        if structure == "restless":
            torch.testing.assert_close(numbers.view(12, 2, -1) @ belief.values, belief.mean(), atol=1e-6, rtol=0)
        else:
            torch.testing.assert_close(numbers[:, 0], belief.mean()[:, 0], atol=1e-6, rtol=0)
        belief.see(rollout.actions[:, t], rollout.rewards[:, t])


def test_preset_odds_are_those_of_the_belief():
    task = BanditTask(num_pulls=8, structure="correlated", preset="medium")
    rollout = random_rollout(task)
    exact = exact_belief(task, rollout)
    torch.testing.assert_close(exact.numbers[..., 0].sigmoid(), exact.psi_chances[..., 0], atol=1e-6, rtol=0)


def test_informative_numbers_are_the_candidates():
    task = InformativeBanditTask(num_arms=5, num_pulls=4)
    rollout = random_rollout(task, 40)
    exact, belief = exact_belief(task, rollout), make_bandit_belief(task)
    belief.begin(40)
    for t in range(4):
        torch.testing.assert_close(exact.numbers[:, t], belief.chance_best()[:, :-1], atol=1e-6, rtol=0)
        belief.see(rollout.actions[:, t], rollout.rewards[:, t])


def test_goal_numbers_never_lose_the_goal():
    task = HiddenGoalTask(size=4, episode_steps=12)
    rollout = random_rollout(task, 40)
    exact = exact_belief(task, rollout)
    goal, paid = rollout.latents["goal"], rollout.rewards == GOAL_REWARD
    own = exact.numbers.gather(2, goal[:, None, None].expand(-1, 24, 1)).squeeze(2)
    found = paid.cumsum(1) - paid.long() > 0
    torch.testing.assert_close(own[found], torch.ones_like(own[found]), atol=1e-6, rtol=0)
    stepped = torch.nn.functional.one_hot(rollout.extras["square"], 16).cumsum(1)[:, -2] > 0
    lost = stepped & ~torch.nn.functional.one_hot(goal, 16).bool()
    assert float(exact.numbers[:, -1][lost].max()) < 1e-6


@pytest.mark.parametrize("view", ["neighbours", "bump"])
def test_door_numbers_are_the_players_sets(view):
    task = DoorsTask(view=view, episode_steps=20)
    player = StrayingDoorPlayer()
    play_reference(player, task, 40, TEST_SEED)
    rollout = play_trials(
        UniformPolicy(4), make_trial_env(task, Inputs(), 40), forced=torch.stack(player.actions, dim=1)
    )
    exact = exact_belief(task, rollout)
    numbers = torch.stack([door_posterior(sets, 4) for sets in player.believed], dim=1)
    torch.testing.assert_close(exact.numbers[rollout.active], numbers[rollout.active], atol=1e-6, rtol=0)
    assert 0 < float((numbers[:, 5].amax(1) == 1).double().mean()) < 1  # some know the door by then, some do not
    assert torch.equal(exact.psi, rollout.latents["door"])


def test_two_step_numbers_are_the_filter():
    task = TwoStepTask(num_rounds=6)
    rollout = random_rollout(task)
    exact, belief = exact_belief(task, rollout), TwoStepBelief(task)
    belief.begin(12)
    for round_id in range(5):
        belief.see_round(
            rollout.actions[:, 2 * round_id], rollout.extras["state"][:, 2 * round_id],
            rollout.rewards[:, 2 * round_id + 1],
        )  # fmt: skip
        torch.testing.assert_close(exact.numbers[:, 2 * round_id + 2], belief.chances, atol=1e-6, rtol=0)


def test_causal_numbers_are_the_posterior():
    task = CausalTask(num_samples=3)
    rollout = random_rollout(task)
    exact, belief = exact_belief(task, rollout), CausalBelief(task)
    belief.begin(12)
    for t in range(3):
        belief.see(rollout.extras["setting"][:, t], rollout.extras["outcome"][:, t])
        torch.testing.assert_close(exact.numbers[:, t + 1], belief.chances, atol=1e-6, rtol=0)


def test_a_rough_posterior_can_be_gone_on_from():
    task = InformativeBanditTask(num_arms=5, num_pulls=4)
    rollout = random_rollout(task, 40)
    exact = exact_belief(task, rollout)
    rough = exact.update(torch.full((40, 4), -0.1).double(), 0)
    torch.testing.assert_close(rough.sum(1), torch.ones(40).double())
    with pytest.raises(RecipeError, match="kept in numbers"):
        exact_belief(TimingTask(), rollout)


@pytest.mark.parametrize("one_pays", [False, True])
def test_permutations_in_numbers_are_the_belief_of_who_watches_each_step(one_pays):
    task = SokobanTrialTask(num_boxes=(2, 2), num_episodes=3, episode_steps=6, num_levels=50, one_pays=one_pays)
    env = make_trial_env(task, Inputs(), 16)
    rollout = play_trials(UniformPolicy(env.num_actions), env, seed=1, keep_observations=True)
    found = exact_belief(task, rollout)
    env = task.make_env(16, seed=TEST_SEED, autoreset=False)
    view, belief = env.reset(), prior_permutations(task, 16)
    num_steps = int(rollout.active.all(0).sum())  # until the first trial is over
    assert num_steps > 12
    for t in range(num_steps):
        assert torch.allclose(found.numbers[:, t], belief.flatten(1), atol=1e-6), f"before step {t}"
        actions = rollout.actions[:, t]
        result = env.step(actions)
        belief = update_permutation_belief(belief, view, actions, result, result.observation, task)
        view = result.observation
    assert found.psi_chances is not None and found.psi is not None
    true = found.psi_chances[:, -1].gather(1, found.psi[:, None])
    assert float((found.psi_chances.sum(2) - 1).abs().max()) < 1e-6 and float(true.mean()) > 0.5
    with pytest.raises(RecipeError, match="observations"):
        exact_belief(task, play_trials(UniformPolicy(4), make_trial_env(task, Inputs(), 2), seed=1))
