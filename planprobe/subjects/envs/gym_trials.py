"""Tasks with trials for everybody else: one trial is one gymnasium episode.

An episode that ends within a trial terminates nothing: it is told in the observation (one of RL²'s inputs) and in
`info["episode_done"]`. psi never leaves the environment. Vectors are observed as (F,), boards as (C, H, W), float32.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode

from planprobe.core.protocols import StepResult
from planprobe.core.rng import draw_bits
from planprobe.subjects.envs.gym import BoardVectorEnv
from planprobe.subjects.envs.gym_boards import check_options, masked, split_ends, to_numpy
from planprobe.subjects.envs.trial_catalog import TrialTask, make_trial_env, trial_class
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs

REGISTERED_TRIALS: dict[str, dict[str, Any]] = {
    "planprobe/Bandit2-v0": {"task": "bandit", "num_arms": 2, "num_pulls": 20},
    "planprobe/Bandit5-v0": {"task": "bandit", "num_arms": 5, "num_pulls": 10},
    "planprobe/CorrelatedBandit-v0": {"task": "bandit", "structure": "correlated"},
    "planprobe/RestlessBandit-v0": {"task": "bandit", "structure": "restless"},
    "planprobe/InformativeBandit-v0": {"task": "informative-bandit"},
    "planprobe/TabularMDP-v0": {"task": "tabular-mdp"},
    "planprobe/TwoStep-v0": {"task": "two-step"},
    "planprobe/TwoStep2016-v0": {"task": "two-step", "common": 0.75, "flip": 0.0},
    "planprobe/TwoStepSwap-v0": {"task": "two-step", "swap": 0.025, "show_map": True, "hold_out": True},
    "planprobe/Causal-v0": {"task": "causal"},
    "planprobe/ConfoundedCausal-v0": {"task": "causal", "confounded": True},
    "planprobe/Timing-v0": {"task": "timing"},
    "planprobe/Regression-v0": {"task": "regression"},
    "planprobe/HiddenGoal5-v0": {"task": "hidden-goal"},
    "planprobe/NoisyHiddenGoal5-v0": {"task": "hidden-goal", "hit_rate": 0.8, "false_rate": 0.1},
    "planprobe/Doors-v0": {"task": "doors"},
    "planprobe/MazeTrial7-v0": {"task": "maze-trial"},
    "planprobe/SokobanTrial7-v0": {"task": "sokoban-trial"},
}

METADATA: dict[str, Any] = {"render_modes": []}
_BOUND = 1e6  # of observations: gymnasium's checker takes an infinite one for a mistake
_DRAW_TRIAL = 142


def register_trials() -> None:
    """Make `gymnasium.make("planprobe/Bandit2-v0")` and `make_vec` work; harmless when called twice."""
    for name, options in REGISTERED_TRIALS.items():
        if name not in gymnasium.registry:
            where = f"{__name__}:"
            gymnasium.register(
                name, where + "TrialGymEnv", vector_entry_point=where + "TrialVectorEnv", kwargs=dict(options)
            )


class TrialGymEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One trial at a time as a `gymnasium.Env`; terminated or truncated as its last episode is.

    Args:
        task: a kind of `trial_catalog`, with `options` of its dataclass, or such a dataclass.
        inputs: what is told beside the view. board_id: play as this board of a `TrialVectorEnv`.
    Raises: RecipeError (unknown kind or a bad option); gymnasium's ResetNeeded and InvalidAction.
    """

    metadata = METADATA

    def __init__(
        self,
        task: str | TrialTask = "bandit",
        *,
        inputs: Inputs | None = None,
        board_id: int = 0,
        render_mode: None = None,
        **options: Any,
    ) -> None:
        # draws are counted by board, so board i can only be had as the last of i + 1
        self._env = make_trials(task, board_id + 1, inputs, options)
        self._env.reset()
        self._env.env.trials.zero_()
        self.observation_space, self.action_space = make_trial_spaces(self._env)
        self._playing = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        check_options(options, ())
        board = self._env.num_boards - 1
        if seed is not None:
            reseed_trials(self._env, board, seed)
        self._env.begin(torch.tensor([board], device=self._env.device))
        self._playing = True
        return observe_trials(self._env)[-1], {}

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if not self._playing:
            raise ResetNeeded("the trial is over, or has not begun: call reset() before step().")
        if not self.action_space.contains(action):
            raise InvalidAction(f"action {action!r} is not one of 0..{self._env.num_actions - 1}.")
        actions = torch.zeros(self._env.num_boards, dtype=torch.int64, device=self._env.device)
        actions[-1] = int(action)
        result = self._env.step(actions)
        terminated, truncated = (bool(flag[-1]) for flag in split_ends(result))
        self._playing = not (terminated or truncated)
        info = {name: values[-1] for name, values in step_facts(result).items()}
        return observe_trials(self._env)[-1], float(result.reward[-1]), terminated, truncated, info


class TrialVectorEnv(BoardVectorEnv):
    """B trials side by side; the same numbers as gymnasium's `SyncVectorEnv` over `TrialGymEnv(board_id=i)`.

    Arguments of `TrialGymEnv`, `num_envs` B, and `autoreset_mode` as in `BoardVectorEnv`.
    `reset` takes a seed (board i gets seed + i) or one per board, and `options` `reset_mask` (B,).
    """

    def __init__(
        self,
        task: str | TrialTask = "bandit",
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        inputs: Inputs | None = None,
        render_mode: None = None,
        **options: Any,
    ) -> None:
        self._env = make_trials(task, num_envs, inputs, options)  # pyright: ignore[reportIncompatibleVariableOverride]
        self._env.reset()
        self._env.env.trials.zero_()
        self.metadata, self.render_mode = METADATA, None
        self._set_up(num_envs, autoreset_mode, *make_trial_spaces(self._env))

    def reset(self, *, seed=None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        check_options(options, ("reset_mask",))
        return super().reset(seed=seed, options=options)

    def _observations(self) -> np.ndarray:
        return observe_trials(self._env)

    def _reseed(self, board: int, seed: int) -> None:
        reseed_trials(self._env, board, seed)

    def _begin(self, mask: np.ndarray, level_ids: np.ndarray | None) -> None:
        if mask.any():
            self._env.begin(torch.as_tensor(mask.nonzero()[0], device=self._env.device))
        self._ended = self._ended & ~mask

    def _level_info(self, info: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
        return info

    def _step_info(self, result: StepResult, mask: np.ndarray) -> dict[str, Any]:
        info: dict[str, Any] = {}
        for name, values in step_facts(result).items():
            info |= masked(name, values, mask)
        return info


def make_trials(task: str | TrialTask, num_boards: int, inputs: Inputs | None, options: dict[str, Any]) -> TrialInputs:
    """The batched environment behind both adapters; it never begins a trial by itself."""
    made = trial_class(task)(**options) if isinstance(task, str) else task
    return make_trial_env(made, inputs or Inputs(), num_boards, seed=0)


def make_trial_spaces(env: TrialInputs) -> tuple[spaces.Box, spaces.Discrete]:
    """Spaces of one board: (F,) or (C, H, W) float32, and the actions."""
    shape = (env.num_planes, env.height, env.width) if env.env.spatial else (env.num_planes,)
    return spaces.Box(-_BOUND, _BOUND, shape, np.float32), spaces.Discrete(env.num_actions)


def observe_trials(env: TrialInputs) -> np.ndarray:
    """What every board is told now, (B, F) or (B, C, H, W) float32."""
    observation = to_numpy(env.observe())
    return observation if env.env.spatial else observation[:, :, 0, 0]


def step_facts(result: StepResult) -> dict[str, np.ndarray]:
    """What `info` holds of a step, by name, (B, ...)."""
    facts = {"episode_done": result.episode_done, "solved": result.solved, **result.extras}
    return {name: to_numpy(values) for name, values in facts.items()}


def reseed_trials(env: TrialInputs, board_id: int, seed: int) -> None:
    """Move a board to the place in its endless sequence of trials that belongs to the seed."""
    # half the range, so that counting on never overflows
    env.env.trials[board_id] = int(draw_bits(seed % 2**63, _DRAW_TRIAL)) >> 1
