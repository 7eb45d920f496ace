"""Trials through gymnasium: its own checker, its own vector environment, and one trial as one episode."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from planprobe.core.errors import RecipeError, UnknownNameError
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.gym_trials import REGISTERED_TRIALS, TrialGymEnv, TrialVectorEnv, register_trials
from planprobe.subjects.envs.trial_catalog import TRIAL_KINDS
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.envs.two_step import TWO_STEP_2016, TwoStepTask

GOAL = {"task": "hidden-goal", "size": 3, "episode_steps": 2, "num_episodes": 2}
SMALL = {"maze-trial": {"num_mazes": 3}, "sokoban-trial": {"num_levels": 3}}


@pytest.mark.parametrize("name", REGISTERED_TRIALS)
def test_registered_ids_pass_the_checker_of_gymnasium_without_a_warning(name):
    register_trials()
    register_trials()
    options = SMALL.get(REGISTERED_TRIALS[name]["task"], {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(name, **options).unwrapped, skip_render_check=True)
    vector = gymnasium.make_vec(name, num_envs=3, vectorization_mode="vector_entry_point", **options)
    observation, _ = vector.reset(seed=1)
    assert vector.observation_space.contains(observation)
    observation, reward, *_ = vector.step(vector.action_space.sample())
    assert vector.observation_space.contains(observation)
    assert reward.shape == (3,)


def test_every_task_is_registered():
    assert {options["task"] for options in REGISTERED_TRIALS.values()} == set(TRIAL_KINDS)


def test_the_two_step_task_of_2016_is_the_one_written_down():
    options = {name: value for name, value in REGISTERED_TRIALS["planprobe/TwoStep2016-v0"].items() if name != "task"}
    assert TwoStepTask(**options) == TWO_STEP_2016


def test_a_trial_is_one_episode_and_an_inner_end_is_told_not_done():
    env = TrialGymEnv(**GOAL)
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape
    told, ended = [], []
    for step in range(4):
        observation, _, terminated, truncated, info = env.step(0)
        told.append((bool(info["episode_done"]), float(observation[-1])))
        ended.append(terminated or truncated)
        assert info["episode"] == step // 2
    assert told == [(False, 0), (True, 1), (False, 0), (True, 1)]
    assert ended == [False, False, False, True]
    with pytest.raises(ResetNeeded):
        env.step(0)


def play(env, num_steps, seeds):
    """Everything that a vector environment says."""
    rng = np.random.default_rng(0)
    said = [env.reset(seed=seeds)[0]]
    for _ in range(num_steps):
        observation, reward, terminated, truncated, info = env.step(rng.integers(0, env.single_action_space.n, 3))
        ended = info.get("episode_done", np.zeros(3, dtype=bool))  # no entry where every board was just reset
        said += [observation, reward.astype(np.float32), terminated, truncated, ended.astype(bool)]
    return said


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_vector_environment_is_the_single_one_several_times(mode):
    many = TrialVectorEnv(num_envs=3, autoreset_mode=mode, **GOAL)
    singles = SyncVectorEnv(
        [lambda board=board: TrialGymEnv(board_id=board, **GOAL) for board in range(3)], autoreset_mode=mode
    )
    for one, other in zip(play(many, 12, [5, 6, 7]), play(singles, 12, [5, 6, 7]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_seed_decides_the_trial():
    def first_rewards(seed):
        env = TrialGymEnv("bandit", num_pulls=30)
        env.reset(seed=seed)
        return [env.step(0)[1] for _ in range(30)]

    assert first_rewards(3) == first_rewards(3)
    assert len({tuple(first_rewards(seed)) for seed in range(4)}) > 1


def test_tasks_inputs_and_actions_are_checked():
    assert TrialGymEnv(BanditTask(), inputs=Inputs(reward=False)).observation_space.shape == (4,)
    with pytest.raises(RecipeError, match="Did you mean 'bandit'"):
        TrialGymEnv("bandid")
    env = TrialGymEnv()
    with pytest.raises(ResetNeeded):
        env.step(0)
    with pytest.raises(UnknownNameError, match="option"):
        env.reset(options={"level_id": 3})
    env.reset()
    with pytest.raises(InvalidAction):
        env.step(2)
