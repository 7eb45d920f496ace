"""The scorecard of agents with trials: rows worked by hand, controls, reference players beside the agent."""

import itertools
import json
import math

import pytest
import torch

from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.trial_catalog import TRIAL_KINDS, make_trial_env, trial_class, with_small_bank
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.references.bandit_values import bayes_values, policy_divergence
from planprobe.subjects.references.catalog import BAYES, THOMPSON, reference_players
from planprobe.subjects.references.play import play_reference
from planprobe.subjects.references.two_step_players import ModelFreePlayer, OneBackPlayer, play_rounds, stay_table
from planprobe.subjects.trial_measures import (
    DIVERGENCE,
    INFORMATIVE_FIRST,
    divergence_rows,
    first_walks,
    score_second_paths,
    stay_interval,
    task_rows,
)
from planprobe.subjects.trial_scores import (
    LENGTH,
    LENGTH_RATIO,
    SUCCESS,
    TrialCondition,
    compute_trial_scores,
    find_trial_score,
    hash_trials,
    ratio_interval,
    return_rows,
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


def test_a_second_path_is_compared_with_the_loop_erased_first():
    """A searcher that walks shortest paths once it knows: shorter wherever its loop-erased search was not shortest."""
    walls = torch.tensor(
        [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=torch.bool
    )
    # start 6, goal 8: round the block the long way, with a step back, then straight; and straight twice
    long, straight = [6, 11, 6, 11, 16, 17, 18, 13, 8], [6, 7, 8]
    rollout = make_rollout([(long, straight), (straight, straight), (straight, long)], walls, goal=8)
    assert first_walks(rollout)[0, :9].tolist() == long
    assert first_walks(rollout)[1].tolist() == [6, 7, 8] + [-1] * (first_walks(rollout).shape[1] - 3)
    shorter, shortenable = score_second_paths(rollout)
    assert (shorter["value"], shortenable["value"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert shorter["n"] == 3


def make_rollout(trials, walls, *, goal):
    """Two walks a trial, as `play_trials` writes them down."""
    num_steps = max(len(first) + len(second) - 2 for first, second in trials)
    shape = (len(trials), num_steps)
    before, after, episodes = (torch.full(shape, fill) for fill in (0, 0, 1))
    active = torch.zeros(shape, dtype=torch.bool)
    for row, walks in enumerate(trials):
        t = 0
        for number, walk in enumerate(walks):
            for here, there in itertools.pairwise(walk):
                before[row, t], after[row, t], episodes[row, t], active[row, t] = here, there, number, True
                t += 1
    lengths = torch.tensor([[len(walk) - 1 for walk in walks] for walks in trials])
    blank = torch.zeros(shape)
    latents = {"walls": walls.expand(len(trials), -1, -1), "goal": torch.full((len(trials),), goal)}
    return TrialRollout(
        actions=before, rewards=blank, episodes=episodes, active=active, episode_done=active, logits=blank,
        values=blank, latents=latents, episode_returns=lengths.float(), episode_lengths=lengths, success=lengths > 0,
        extras={"square_before": before, "square": after},
    )  # fmt: skip


def test_the_stay_interaction_of_known_players():
    """The one-back table stays after common-paid and rare-unpaid for certain: 2, whatever trial is left out."""
    task = TwoStepTask(num_rounds=60)
    rounds = play_rounds(OneBackPlayer(), task, 20)
    assert stay_interval(*rounds) == pytest.approx((2.0, 2.0, 2.0, 20))
    value, low, high, _ = stay_interval(*play_rounds(ModelFreePlayer(), task, 60))
    assert value == stay_table(*play_rounds(ModelFreePlayer(), task, 60)).interaction
    assert low < value < high


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


@pytest.mark.parametrize("kind", TRIAL_KINDS)
def test_reference_players_play_their_task(kind):
    """Each on ten trials: a row for every episode, and a name that says so of those that are told the answer."""
    task = with_small_bank(trial_class(kind)())
    players = reference_players(task)
    assert players
    for name, player in players.items():
        returns = play_reference(player, task, 10)
        assert bool(returns.isfinite().all())
        assert len(return_rows(returns, policy=name)) == (1 if returns.shape[1] == 1 else 1 + returns.shape[1])
        assert ("Oracle" in type(player).__name__) == (name == "oracle")


def test_the_hash_is_of_the_trials():
    assert hash_trials(BANDIT, 5) == hash_trials(BANDIT, 5)
    others = {hash_trials(task, n) for task, n in ((BANDIT, 6), (BanditTask(num_arms=3, num_pulls=4), 5))}
    assert hash_trials(BANDIT, 5) not in others
