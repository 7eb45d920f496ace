"""Hidden goal: rules, two flags, the exact belief, and players whose returns are known."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.subjects.envs.hidden_goal import CORNER, GOAL_REWARD, STEP_REWARD, HiddenGoalTask, goal_squares
from planprobe.subjects.references.goal_belief import likely_goals, sample_goals, uniform_belief, update_goal_belief
from planprobe.subjects.references.goal_players import (
    OraclePlayer,
    PosteriorSamplingPlayer,
    SearchPlanPlayer,
    StepSamplingPlayer,
    SweepPlayer,
)
from planprobe.subjects.references.goal_values import exact_sweep_returns, plan_returns, plan_search
from planprobe.subjects.references.play import play_reference

UP, DOWN, LEFT, RIGHT, STAY = range(5)
GOALS = goal_squares(5)


def random_actions(num_steps: int, num_boards: int, num_actions: int = 5) -> torch.Tensor:
    return draw_below(num_actions, 5, torch.arange(num_steps)[:, None], torch.arange(num_boards))


class TestRules:
    def test_the_goal_pays_again_and_again_and_edges_hold(self):
        env = HiddenGoalTask(goal=7, episode_steps=8, num_episodes=1).make_env(1, autoreset=False)
        env.reset()
        rewards, squares = [], []
        for action in (UP, RIGHT, RIGHT, DOWN, STAY, DOWN, UP, LEFT):
            result = env.step(torch.tensor([action]))
            rewards.append(round(float(result.reward), 4))
            squares.append(int(result.extras["square"]))
        assert squares == [0, 1, 2, 7, 7, 12, 7, 6]
        assert rewards == [-0.1, -0.1, -0.1, 1, 1, -0.1, 1, -0.1]
        assert bool(result.truncated) and bool(result.trial_done) and not bool(result.solved)

    def test_two_flags(self):
        env = HiddenGoalTask(num_episodes=3).make_env(4)
        env.reset()
        first_goals = env.latents()["goal"]
        for t, actions in enumerate(random_actions(45, 4), start=1):
            assert torch.equal(env.latents()["goal"], first_goals)
            result = env.step(actions)
            assert bool(result.episode_done.all()) == bool(result.episode_done.any()) == (t % 15 == 0)
            assert bool(result.trial_done.all()) == bool(result.trial_done.any()) == (t == 45)
            if t % 15 == 0:
                assert result.observation[:, CORNER].eq(1).all()
        assert env.trials.tolist() == [2] * 4

    def test_goals_are_uniform_over_the_21_squares(self):
        env = HiddenGoalTask().make_env(21_000)
        env.reset()
        counts = env.latents()["goal"].bincount(minlength=25)
        assert GOALS.sum() == 21 and not GOALS[[0, 1, 5, 6]].any()
        assert (counts[~GOALS] == 0).all()
        assert (counts[GOALS] - 1000).abs().max() < 5 * math.sqrt(1000)

    def test_noise_pays_at_its_rates(self):
        env = HiddenGoalTask(goal=4, hit_rate=0.7, false_rate=0.2, episode_steps=60).make_env(500)
        env.reset()
        hits, falses = [], []
        for t in range(40):
            reward = env.step(torch.full((500,), RIGHT if t < 4 else STAY)).reward
            (hits if t >= 3 else falses).append((reward == GOAL_REWARD).float().mean())
        assert abs(float(torch.stack(hits).mean()) - 0.7) < 0.02
        assert abs(float(torch.stack(falses).mean()) - 0.2) < 0.05

    @pytest.mark.parametrize(
        "options",
        [{"start": "corners"}, {"size": 2}, {"hit_rate": 0.2, "false_rate": 0.3}, {"goal": 6}, {"num_episodes": 0}],
    )
    def test_nonsense_is_refused(self, options):
        with pytest.raises(RecipeError):
            HiddenGoalTask(**options)


def enumerate_posterior(squares, paid, *, hit_rate, false_rate):
    """Bayes' rule spelled out: for each goal, the chance of the whole history."""
    joint = torch.zeros(len(squares), 25, dtype=torch.float64)
    for goal in GOALS.nonzero().flatten().tolist():
        at_goal = (squares == goal).double()
        chance = at_goal * hit_rate + (1 - at_goal) * false_rate
        joint[:, goal] = torch.where(paid, chance, 1 - chance).prod(1)
    return joint / joint.sum(1, keepdim=True)


def keep_a_branch_at_the_goal(belief, squares, paid, **rates):
    """The well-known mistake: at the goal, the squares that were live before stay as likely as each other."""
    live = (belief > 0).scatter(1, squares[:, None], paid[:, None])
    return live.double() / live.sum(1, keepdim=True)


def forget_visited_squares(belief, squares, paid, **rates):
    fresh = uniform_belief(GOALS.expand(len(belief), -1))
    return torch.where(
        belief.max(1, keepdim=True).values == 1, belief, update_goal_belief(fresh, squares, paid, **rates)
    )


def belief_error(update, *, hit_rate=1.0, false_rate=0.0, num_steps=12, num_walks=60) -> float:
    """Largest difference from enumeration over random histories, after every step."""
    walks, steps = torch.arange(num_walks), torch.arange(num_steps)
    goals = GOALS.nonzero().flatten()[draw_below(21, 1, walks)]
    squares = draw_below(25, 2, walks[:, None], steps)
    chance = torch.where(squares == goals[:, None], hit_rate, false_rate)
    paid = draw_uniform(3, walks[:, None], steps) < chance
    belief, worst = uniform_belief(GOALS.expand(num_walks, -1)), 0.0
    for step in range(num_steps):
        belief = update(belief, squares[:, step], paid[:, step], hit_rate=hit_rate, false_rate=false_rate)
        rates = {"hit_rate": hit_rate, "false_rate": false_rate}
        exact = enumerate_posterior(squares[:, : step + 1], paid[:, : step + 1], **rates)
        worst = max(worst, float((belief - exact).abs().max()))
    return worst


class TestBelief:
    @pytest.mark.parametrize("rates", [(1.0, 0.0), (0.8, 0.1), (1.0, 0.3), (0.5, 0.0)])
    def test_is_bayes_rule(self, rates):
        assert belief_error(update_goal_belief, hit_rate=rates[0], false_rate=rates[1]) < 1e-12

    @pytest.mark.parametrize("wrong", [keep_a_branch_at_the_goal, forget_visited_squares])
    def test_a_wrong_update_is_caught(self, wrong):
        assert belief_error(wrong) > 0.01

    def test_of_a_player_is_that_of_its_history(self):
        task, seen = HiddenGoalTask(hit_rate=0.9, false_rate=0.05, num_episodes=3), []
        player = SweepPlayer()
        play_reference(
            player, task, 40, on_step=lambda t, a, result: seen.append((result.extras["square"], result.reward))
        )
        squares, rewards = (torch.stack(part, dim=1) for part in zip(*seen, strict=True))
        exact = enumerate_posterior(squares, rewards == GOAL_REWARD, hit_rate=0.9, false_rate=0.05)
        assert (player.belief - exact).abs().max() < 1e-9

    def test_an_outcome_without_a_chance_is_an_error(self):
        belief = uniform_belief(GOALS[None])
        with pytest.raises(RecipeError, match="1 of 1 boards"):
            update_goal_belief(belief, torch.tensor([0]), torch.tensor([True]))

    def test_samples_follow_it(self):
        belief = torch.tensor([[0.0, 0.2, 0.0, 0.5, 0.3, 0.0]]).double().expand(20_000, -1)
        shares = sample_goals(belief, 4, torch.arange(20_000)).bincount(minlength=6) / 20_000
        assert (shares - belief[0]).abs().max() < 0.02
        assert shares[0] == shares[2] == shares[5] == 0
        assert likely_goals(belief[:1]).nonzero()[:, 1].tolist() == [3]


class TestPlayers:
    """Expected returns of the two episodes as published with the project's reference values, which were simulated."""

    @pytest.mark.parametrize(
        ("player", "expected"),
        [
            (SweepPlayer(), (3.91, 10.21)),
            (PosteriorSamplingPlayer(), (2.90, 7.87)),
            (StepSamplingPlayer(), (1.97, 5.57)),
            (OraclePlayer(), (11.07, 11.07)),
        ],
        ids=lambda value: type(value).__name__ if hasattr(value, "act") else "",
    )
    def test_returns_are_the_known_ones(self, player, expected):
        returns = play_reference(player, HiddenGoalTask(), 2500, seed=7)
        error = returns.std(0) / math.sqrt(len(returns))
        assert ((returns.mean(0) - torch.tensor(expected)).abs() < 3.5 * error + 0.05).all()
        assert (error < 0.13).all()

    def test_sweep_earns_its_exact_value(self):
        task = HiddenGoalTask(size=4, episode_steps=9, num_episodes=3)
        returns = play_reference(SweepPlayer(), task, 3000, seed=1)
        error = returns.std(0) / math.sqrt(len(returns))
        assert ((returns.mean(0) - torch.tensor(exact_sweep_returns(task))).abs() < 4 * error + 1e-3).all()

    def test_sweep_of_the_default_task_as_published(self):
        assert abs(exact_sweep_returns(HiddenGoalTask(num_episodes=1))[0] - 3.91) < 0.06

    def test_search_plan_earns_exactly_what_it_says_and_no_player_more(self):
        task = HiddenGoalTask()
        plan = plan_search(task)
        assert plan.returns == pytest.approx(
            (4.0, 232.5 / 21)
        )  # no free step could be used better: 84/21, and the oracle
        returns = [
            play_reference(SearchPlanPlayer(), HiddenGoalTask(), 1500, seed=2).mean(0),
            play_reference(OraclePlayer(), HiddenGoalTask(), 1500, seed=2).mean(0),
        ]
        assert float(returns[0][1]) == pytest.approx(float(returns[1][1]), abs=1e-5)
        assert abs(float(returns[0][0]) - 4.0) < 0.5

    @pytest.mark.parametrize(("size", "steps", "episodes"), [(3, 3, 2), (3, 4, 1), (4, 5, 1), (4, 4, 2)])
    def test_no_walk_is_better_than_the_search_plan(self, size, steps, episodes):
        task = HiddenGoalTask(size=size, episode_steps=steps, num_episodes=episodes)
        assert sum(plan_search(task).returns) == pytest.approx(best_by_enumeration(task))

    def test_value_of_a_walk_by_hand(self):
        # 3 x 3, goals 2 5 6 7 8, walk 0 -> 1 -> 2 -> 5: 2 is found in step 2 of 3, 5 in step 3, the others never
        task = HiddenGoalTask(size=3, episode_steps=3, num_episodes=2)
        found = (2 * GOAL_REWARD + STEP_REWARD) + (GOAL_REWARD + 2 * STEP_REWARD)
        first, second = plan_returns(task, ((1, 2, 5), (3, 6, 7)))
        assert first == pytest.approx((found + 3 * 3 * STEP_REWARD) / 5)
        assert second == pytest.approx((found + found + 3 * STEP_REWARD) / 5)

    def test_values_of_noisy_tasks_are_refused(self):
        with pytest.raises(RecipeError, match="without noise"):
            plan_search(HiddenGoalTask(hit_rate=0.9))
        with pytest.raises(RecipeError, match="max_nodes"):
            plan_search(HiddenGoalTask(size=6, episode_steps=11), max_nodes=50)

    def test_a_goal_kept_for_ever_is_known_from_the_first_step(self):
        returns = play_reference(SweepPlayer(), HiddenGoalTask(goal=24), 3)
        assert torch.allclose(returns, torch.tensor(8 * GOAL_REWARD + 7 * STEP_REWARD).expand(3, 2))

    def test_players_find_a_noisy_goal_in_the_end(self):
        task = HiddenGoalTask(hit_rate=0.8, false_rate=0.1, num_episodes=5)
        returns = play_reference(SweepPlayer(), task, 200)
        assert float(returns[:, 4].mean()) > float(returns[:, 0].mean()) + 3


def best_by_enumeration(task: HiddenGoalTask) -> float:
    """Highest expected return of a trial: every action in every (episode, step, square, squares live) tried."""
    size, horizon = task.size, task.episode_steps
    goals = goal_squares(size).nonzero().flatten().tolist()

    @cache
    def value(episode: int, step: int, square: int, live: frozenset[int]) -> float:
        """Summed over the goals that are still live."""
        if step == horizon:
            episode, step, square = episode + 1, 0, CORNER
        if episode == task.num_episodes or not live:
            return 0.0
        row, column = divmod(square, size)
        options = []
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            ahead = min(max(row + down, 0), size - 1) * size + min(max(column + right, 0), size - 1)
            rest, paid = live - {ahead}, 0.0
            if ahead in live:
                later = task.num_episodes - episode - 1
                away = sum(divmod(ahead, size))
                walk_there = (away - 1) * STEP_REWARD + (horizon - away + 1) * GOAL_REWARD
                paid = GOAL_REWARD * (horizon - step) + later * walk_there
            options.append(paid + STEP_REWARD * len(rest) + value(episode, step + 1, ahead, rest))
        return max(options)

    return value(0, 0, CORNER, frozenset(goals)) / len(goals)


def test_enumeration_itself_is_right():
    """On a walk so short that all of them can be listed."""
    task = HiddenGoalTask(size=3, episode_steps=3, num_episodes=1)
    neighbours = {0: (1, 3), 1: (0, 2, 4), 2: (1, 5), 3: (0, 4, 6), 4: (1, 3, 5, 7), 5: (2, 4, 8), 6: (3, 7)}
    walks = [(a, b, c) for a, b in itertools.product(range(9), repeat=2) if a in neighbours[0] for c in range(9)
             if b in neighbours[a] and c in neighbours[b]]  # fmt: skip
    assert best_by_enumeration(task) == pytest.approx(max(plan_returns(task, (walk,))[0] for walk in walks))
