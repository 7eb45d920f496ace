"""The scorecard of agents with trials: rows worked by hand, controls, reference players beside the agent."""

import json
import math

import pytest
import torch

from planprobe.core.play_trials import play_trials
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.references.bandit_values import bayes_values, policy_divergence
from planprobe.subjects.references.catalog import BAYES, THOMPSON, reference_players
from planprobe.subjects.trial_measures import DIVERGENCE, INFORMATIVE_FIRST, divergence_rows, task_rows
from planprobe.subjects.trial_scores import (
    LENGTH,
    LENGTH_RATIO,
    SUCCESS,
    TrialCondition,
    compute_trial_scores,
    find_trial_score,
    hash_trials,
    ratio_interval,
    score_trials,
    trial_conditions,
)

BANDIT = BanditTask(num_arms=2, num_pulls=4)


class CountReader:
    """Keeps the counts of both arms in memory and plays a policy of counts; inputs: view, action (2), reward, end."""

    def __init__(self, policy):
        self.policy = policy

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 2), torch.zeros(num_boards, 2))

    def step(self, observation, state):
        flat = observation.flatten(1)
        pulled, paid = flat[:, 1:3], flat[:, 3:4]
        successes, failures = state[0] + pulled * paid, state[1] + pulled * (1 - paid)
        logits = self.policy(successes.long(), failures.long()).clamp(min=1e-12).log()
        return logits, torch.zeros(len(flat)), (successes, failures)


class Uniform:
    def initial_state(self, num_boards, board=None):
        return ()

    def step(self, observation, state):
        return torch.zeros(len(observation), self.num_actions), torch.zeros(len(observation)), ()

    def __init__(self, num_actions):
        self.num_actions = num_actions


@pytest.fixture(scope="module")
def bayes_scores():
    agent = CountReader(bayes_values(2, 4).policy)
    return compute_trial_scores(agent, BANDIT, Inputs(), num_trials=4000)


def test_a_bayes_optimal_agent_earns_what_the_tables_say(bayes_scores):
    row, player = find_trial_score(bayes_scores), find_trial_score(bayes_scores, policy=BAYES)
    exact = bayes_values(2, 4).optimal_return
    for each in (row, player):
        assert each["low"] < exact < each["high"]
        assert each["n"] == 4000
    thompson = find_trial_score(bayes_scores, policy=THOMPSON)
    assert thompson["value"] < row["value"]


def test_without_memory_it_earns_the_mean_of_an_arm(bayes_scores):
    blank = find_trial_score(bayes_scores, memory="reset each step")
    # one pull is still seen in the input: what the last one paid; the first of four is blind
    assert blank["value"] < find_trial_score(bayes_scores)["value"]
    assert find_trial_score(bayes_scores, memory="reset at episode ends") is None, "there is one episode"


def test_divergence_from_bayes_is_nothing_for_bayes_and_right_for_others():
    bayes = divergence_rows(CountReader(bayes_values(2, 4).policy), BANDIT, Inputs(), 500)
    uniform = divergence_rows(Uniform(2), BANDIT, Inputs(), 4000)
    assert bayes[0]["value"] == pytest.approx(0, abs=1e-6)
    assert uniform[0]["measure"] == DIVERGENCE
    exact = policy_divergence(lambda wins, losses: torch.full_like(wins, 0.5, dtype=torch.float64), 2, 4)
    assert uniform[0]["low"] <= exact <= uniform[0]["high"]
    assert 0 < exact < math.log(2)


def test_the_informative_arm_has_a_row_of_its_own():
    rows = task_rows(Uniform(11), InformativeBanditTask(), Inputs(), 20)
    assert [(row["measure"], row["policy"]) for row in rows] == [
        (INFORMATIVE_FIRST, policy) for policy in ("sampled", BAYES, THOMPSON)
    ]
    assert rows[0]["value"] == pytest.approx(1 / 11)


def test_rows_of_two_episodes_by_hand():
    """Random walks to a goal: every row against its definition on the same trials."""
    env = make_trial_env(HiddenGoalTask(size=3, episode_steps=4), Inputs(), 50)
    rollout = play_trials(Uniform(env.num_actions), env)
    rows = {(row["measure"], row["episode"]): row for row in score_trials(rollout, TrialCondition())}
    whole = rollout.rewards.sum(1)
    assert rows["return", "all"]["value"] == pytest.approx(float(whole.mean()))
    first = rollout.rewards[:, :4].sum(1)
    assert rows["return", 1]["value"] == pytest.approx(float(first.mean()))
    half = 1.959964 * float(first.double().std()) / math.sqrt(50)
    assert rows["return", 1]["high"] - rows["return", 1]["value"] == pytest.approx(half, rel=1e-4)
    assert (SUCCESS, 1) not in rows, "episodes of this task are all equally long and nothing ends them"


def test_lengths_and_successes_where_episodes_end():
    rollout = play_trials(Uniform(2), make_trial_env(BANDIT, Inputs(), 6))
    lengths = torch.tensor([[4, 2], [2, 2], [3, 1], [1, 1], [4, 2], [4, 4]])
    changed = {"episode_lengths": lengths, "success": lengths < 4, "episode_returns": lengths.float()}
    rollout = type(rollout)(**{**vars(rollout), **changed})
    rows = {(row["measure"], row["episode"]): row for row in score_trials(rollout, TrialCondition("greedy"))}
    assert rows[SUCCESS, 1]["value"] == 0.5
    assert rows[SUCCESS, 2]["value"] == pytest.approx(5 / 6)
    assert rows[LENGTH, 1]["value"] == 3
    assert rows[LENGTH_RATIO, 2]["value"] == pytest.approx(12 / 18)
    assert (LENGTH_RATIO, 1) not in rows
    assert {row["policy"] for row in rows.values()} == {"greedy"}


def test_the_interval_of_a_ratio_covers_it_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(400):
        bases = 5 + torch.rand(60, generator=generator) * 10
        values = 0.4 * bases + torch.randn(60, generator=generator)
        _, low, high, _ = ratio_interval(values, bases)
        covered += low <= 0.4 <= high
    assert 0.92 < covered / 400 < 0.98
    assert ratio_interval(torch.tensor([2.0, 4.0]), torch.tensor([4.0, 8.0]))[:3] == pytest.approx((0.5, 0.5, 0.5))


def test_scores_are_json_and_come_out_again():
    task = HiddenGoalTask(size=3, episode_steps=3)
    agent = Uniform(make_trial_env(task, Inputs(), 1).num_actions)
    one, other = (compute_trial_scores(agent, task, Inputs(), num_trials=30) for _ in range(2))
    assert json.loads(json.dumps(one, allow_nan=False)) == other
    played = {(row["policy"], row["memory"]) for row in one["rows"]}
    assert played >= {(each.policy, each.memory) for each in trial_conditions(2)}
    assert played >= {(name, "kept") for name in reference_players(task)}
    assert len(trial_conditions(2)) == 6
    assert len(trial_conditions(1)) == 4


def test_the_hash_is_of_the_trials():
    assert hash_trials(BANDIT, 5) == hash_trials(BANDIT, 5)
    others = {hash_trials(task, n) for task, n in ((BANDIT, 6), (BanditTask(num_arms=3, num_pulls=4), 5))}
    assert hash_trials(BANDIT, 5) not in others
