"""Laws that hold for every task whose view is a vector: the same board in any batch, two flags, saving, no leaks."""

from __future__ import annotations

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.causal import CausalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.regression import RegressionTask
from planprobe.subjects.envs.tabular_mdp import TabularMdpTask
from planprobe.subjects.envs.timing import TimingTask
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs
from planprobe.subjects.envs.two_step import TwoStepTask

TASKS = {
    "independent": BanditTask(num_arms=3, num_pulls=4),
    "correlated": BanditTask(num_pulls=3, structure="correlated", preset="medium"),
    "restless": BanditTask(num_pulls=5, structure="restless", walk=0.4),
    "informative": InformativeBanditTask(),
    "two-step": TwoStepTask(num_rounds=4, flip=0.3),
    "two-step with swaps": TwoStepTask(num_rounds=6, flip=0.3, swap=0.3, show_map=True, hold_out=True),
    "tabular-mdp": TabularMdpTask(num_states=4, num_actions=3, horizon=3, num_episodes=2),
    "causal": CausalTask(num_samples=3),
    "causal, confounded, random": CausalTask(num_samples=3, confounded=True, exploration="random", early_cue=True),
    "timing": TimingTask(shortest=1, longest=3, track_length=4, num_episodes=2, tolerance=1),
    "timing, scrambled": TimingTask(shortest=2, longest=3, track_length=4, scramble=True),
    "timing, carried": TimingTask(shortest=2, longest=3, track_length=4, carried=True),
    "regression": RegressionTask(num_inputs=2, num_steps=4, noise=0.3),
}
STEPS = 40


def actions_of(env, t: int) -> torch.Tensor:
    """The same action on a board in any batch."""
    return (torch.arange(env.num_boards) * 7 + t * t) % env.num_actions


def run(env, steps: int, start: int = 0) -> list[tuple]:
    seen = []
    for t in range(start, start + steps):
        result = env.step(actions_of(env, t))
        seen.append(
            (result.observation, result.reward, result.episode_done, result.trial_done, *env.latents().values())
        )
    return seen


@pytest.mark.parametrize("name", TASKS)
def test_a_board_is_the_same_in_any_batch(name):
    task = TASKS[name]
    many, few = task.make_env(9, seed=5), task.make_env(3, seed=5)
    assert torch.equal(many.reset()[:3], few.reset())
    for large, small in zip(run(many, STEPS), run(few, STEPS), strict=True):
        assert all(torch.equal(a[:3], b) for a, b in zip(large, small, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_seeds_and_trials_differ(name):
    task = TASKS[name]
    env, other = task.make_env(64, seed=0), task.make_env(64, seed=1)
    env.reset(), other.reset()
    first = [value.clone() for value in env.latents().values()]
    assert any(not torch.equal(a, b) for a, b in zip(first, other.latents().values(), strict=True))
    env.reset()
    assert any(not torch.equal(a, b) for a, b in zip(first, env.latents().values(), strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_a_saved_task_goes_on_as_if_nothing_had_been(name):
    task = TASKS[name]
    env = task.make_env(5, seed=2)
    env.reset()
    run(env, 5)
    state = env.state_dict()
    copy = task.make_env(5, seed=2)
    copy.reset()
    copy.load_state_dict(state)
    for here, there in zip(run(env, STEPS, 5), run(copy, STEPS, 5), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_two_flags(name):
    """A trial ends with its last episode and never elsewhere; without autoreset a finished board earns nothing more."""
    env = TASKS[name].make_env(6, seed=3, autoreset=False)
    env.reset()
    episodes = torch.zeros(6, dtype=torch.int64)
    ended = torch.zeros(6, dtype=torch.bool)
    for t in range(env.num_episodes * env.episode_steps + 3):
        result = env.step(actions_of(env, t))
        assert not (ended & (result.episode_done | result.trial_done | (result.reward != 0))).any()
        episodes += result.episode_done
        assert torch.equal(result.trial_done, result.episode_done & (episodes == env.num_episodes))
        assert not (result.solved & result.truncated).any()
        ended |= result.trial_done
    assert ended.all()
    assert (episodes == env.num_episodes).all()


@pytest.mark.parametrize("name", TASKS)
def test_observations_are_fresh_and_fit_the_declared_width(name):
    env = TASKS[name].make_env(4)
    first = env.reset()
    assert first.shape == (4, env.num_planes, 1, 1)
    assert first.dtype == torch.float32
    kept = first.clone()
    run(env, 3)
    assert torch.equal(first, kept)
    inputs = TrialInputs(env, Inputs(step_index=True))
    assert inputs.reset().shape == (4, env.num_planes + env.num_actions + 3, 1, 1)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: BanditTask(structure="restles"), "restless"),
        (lambda: BanditTask(preset="simple"), "easy"),
        (lambda: BanditTask(num_arms=1), "two arms"),
        (lambda: BanditTask(num_arms=3, structure="correlated"), "come in twos"),
        (lambda: BanditTask(walk=0.7), "at most 0.5"),
        (lambda: InformativeBanditTask(num_arms=2), "three arms"),
        (lambda: TwoStepTask(common=1.2), "common is a chance"),
        (lambda: TwoStepTask(num_rounds=0), "num_rounds = 0"),
        (lambda: TabularMdpTask(num_states=1), "num_states = 1"),
        (lambda: CausalTask(exploration="passive"), "observe"),
        (lambda: CausalTask(strength=0.0), "strength"),
        (lambda: TimingTask(shortest=4, longest=3), "shortest"),
        (lambda: TimingTask(track_length=0), "track_length = 0"),
        (lambda: RegressionTask(noise=-1.0), "noise"),
    ],
)
def test_senseless_options_are_refused(make, match):
    with pytest.raises(RecipeError, match=match):
        make()


# what each task is ---------------------------------------------------------------------------------------------------
def test_arms_are_drawn_as_said():
    env = BanditTask(num_arms=2).make_env(20_000)
    env.reset()
    means = env.latents()["means"]
    assert float(means.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(means.var()) == pytest.approx(1 / 12, abs=0.003)
    paid = env.step(torch.zeros(20_000, dtype=torch.int64)).reward
    assert float(paid[means[:, 0] > 0.9].mean()) == pytest.approx(0.95, abs=0.03)
    env = BanditTask(structure="correlated", preset="hard").make_env(2000)
    env.reset()
    means = env.latents()["means"]
    assert torch.allclose(means.sum(1), torch.ones(2000))
    assert sorted(set(means.flatten().mul(10).round().int().tolist())) == [4, 6]
    assert float((means[:, 0] > 0.5).float().mean()) == pytest.approx(0.5, abs=0.04)


def test_wandering_means_stay_on_their_lattice_and_wander_at_their_rate():
    env = BanditTask(structure="restless", num_levels=5, walk=0.25, num_pulls=100).make_env(3000)
    env.reset()
    before = env.latents()["means"]
    env.step(torch.zeros(3000, dtype=torch.int64))
    after = env.latents()["means"]
    inside = (before > 0.1) & (before < 0.9)
    for jump in (-0.25, 0.0, 0.25):
        share = float((((after - before) - jump).abs() < 1e-4)[inside].float().mean())
        assert share == pytest.approx(0.5 if jump == 0 else 0.25, abs=0.03)
    assert float((after[before < 0.1] > 0.2).float().mean()) == pytest.approx(0.5, abs=0.05)  # reflected
    for _ in range(50):
        env.step(torch.zeros(3000, dtype=torch.int64))
    levels = env.latents()["means"] * 4
    assert torch.equal(levels, levels.round())
    assert set(levels.flatten().int().tolist()) == {0, 1, 2, 3, 4}


def test_the_informative_arm_tells():
    env = InformativeBanditTask().make_env(500)
    env.reset()
    target = env.latents()["target"]
    assert set(target.tolist()) == set(range(10))
    told = env.step(torch.full((500,), 10)).reward
    assert torch.allclose(told, 0.1 * (target + 1).float())
    assert (env.step(target).reward == 5).all()
    assert (env.step((target + 1) % 10).reward == 1).all()


def test_two_step_chances_are_those_asked_for():
    task = TwoStepTask(num_rounds=40)
    env = task.make_env(1000)
    env.reset()
    common, paid, flips = [], [], []
    for t in range(39):
        good = env.latents()["good_state"]
        result = env.step(actions_of(env, t))
        if t % 2 == 0:
            assert (result.reward == 0).all()
            assert torch.equal(result.observation[:, 1:3, 0, 0].argmax(1), result.extras["state"])
            common.append(result.extras["common"].float().mean())
        else:
            hit = result.extras["state"] == good
            paid.append(torch.stack([result.reward[hit].mean(), result.reward[~hit].mean()]))
            flips.append((env.latents()["good_state"] != good).float().mean())
    assert float(torch.stack(common).mean()) == pytest.approx(0.8, abs=0.01)
    assert torch.stack(paid).mean(0).tolist() == pytest.approx([0.9, 0.1], abs=0.01)
    assert float(torch.stack(flips).mean()) == pytest.approx(0.025, abs=0.004)


def test_held_out_combinations_never_come_up():
    counts = {}
    for hold_out in (True, False):
        env = TwoStepTask(num_rounds=30, flip=0.2, swap=0.2, show_map=True, hold_out=hold_out).make_env(300)
        env.reset()
        combinations = []
        for t in range(100):
            psi = env.latents()
            assert torch.equal(env.observe()[:, 3, 0, 0].long(), psi["swapped"])
            assert torch.equal(psi["best_choice"], psi["good_state"] ^ psi["swapped"])
            combinations.append(psi["good_state"] + 2 * psi["swapped"])
            env.step(actions_of(env, t))
        counts[hold_out] = torch.bincount(torch.cat(combinations), minlength=4)
    assert (counts[True] > 0).tolist() == [True, True, True, False]
    assert (counts[False] > 0.2 * counts[False].sum()).all()


def test_random_mdps_are_drawn_as_said():
    env = TabularMdpTask().make_env(500)
    env.reset()
    psi = env.latents()
    assert torch.allclose(psi["transitions"].sum(-1), torch.ones(500, 10, 5), atol=1e-5)
    # of a flat Dirichlet over ten: mean 1/10, variance 9 / (100 * 11)
    assert float(psi["transitions"].var()) == pytest.approx(9 / 1100, rel=0.03)
    assert float(psi["reward_means"].mean()) == pytest.approx(1, abs=0.03)
    assert float(psi["reward_means"].std()) == pytest.approx(1, abs=0.03)
    assert (env.observe()[:, 0] == 1).all()
    result = env.step(torch.zeros(500, dtype=torch.int64))
    noise = result.reward - psi["reward_means"][:, 0, 0]
    assert float(noise.std()) == pytest.approx(1, abs=0.12)
    likely = psi["transitions"][:, 0, 0].gather(1, result.extras["to_state"][:, None])
    # the mean chance of what happened is that of a squared row: 2 / 11
    assert float(likely.mean()) == pytest.approx(2 / 11, abs=0.02)


def test_an_interval_is_answered_in_time_or_not():
    env = TimingTask(shortest=2, longest=2, track_length=3).make_env(2, autoreset=False)
    env.reset()
    stay, respond = 1, 3
    for t in range(4):
        assert env.observe()[0, -1, 0, 0] == (t >= 2)
        # board 1 answers a step early, and again in time, which no longer counts
        early = env.step(torch.tensor([stay, respond if t == 3 else stay]))
        assert (early.reward == 0).all()
    result = env.step(torch.tensor([respond, respond]))
    assert result.reward.tolist() == [1, 0]
    assert result.solved.tolist() == [True, False]


def test_a_track_carries_out_while_the_interval_runs_and_no_longer():
    """Interval 2: on square 2 after two steps, whatever was done; then board 0 walks home and board 1 stays."""
    env = TimingTask(shortest=2, longest=2, track_length=4, carried=True).make_env(2, autoreset=False)
    env.reset()
    left, stay, right = range(3)
    places = []
    for actions in ([left, right], [stay, left], [left, stay], [left, stay]):
        env.step(torch.tensor(actions))
        places.append(env.place.tolist())
    assert places == [[1, 1], [2, 2], [1, 2], [0, 2]]


def test_regression_pays_the_sign():
    env = RegressionTask(num_inputs=3).make_env(400)
    view = env.reset().flatten(1)
    value = (view[:, :3] * env.latents()["weights"]).sum(1)
    assert float(value.var()) == pytest.approx(1, abs=0.3)
    result = env.step((value > 0).long())
    assert (result.reward == 1).all()
    assert torch.allclose(result.observation[:, 3, 0, 0], value)
    value = (result.observation[:, :3, 0, 0] * env.latents()["weights"]).sum(1)
    assert (env.step((value < 0).long()).reward == 0).all()
