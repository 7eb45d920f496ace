"""Our boards for everybody else: a `gymnasium.Env`, a `gymnasium.vector.VectorEnv`, and registered ids.

The adapters add no rules. They turn tensors into fresh numpy copies, one trial into one gymnasium episode (an inner
episode end would be no termination), and they speak all three autoreset modes. A seed picks a place in the endless
sequence of episodes of each board, so that reseeding one board leaves the others alone. Unseeded, the sequence starts
at its beginning: two environments made alike play alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import Error, InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from planprobe.core.levels import LevelSet
from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.gym_boards import (
    METADATA,
    begin,
    check_mask,
    check_options,
    check_render_mode,
    generate_levels,
    make_board_env,
    make_spaces,
    masked,
    render_board,
    reseed,
    split_ends,
    to_numpy,
)

REGISTERED = {
    "planprobe/Sokoban7-v0": {"task": "sokoban", "size": 7, "num_boxes": (1, 2)},
    "planprobe/Sokoban8-v0": {"task": "sokoban", "size": 8, "num_boxes": (1, 3)},
    "planprobe/Sokoban10-v0": {"task": "sokoban", "size": 10, "num_boxes": (4, 4)},
    "planprobe/Maze9-v0": {"task": "maze", "size": 9},
    "planprobe/Maze11-v0": {"task": "maze", "size": 11},
    "planprobe/Maze15-v0": {"task": "maze", "size": 15},
    "planprobe/Maze25-v0": {"task": "maze", "size": 25},
}


def register() -> None:
    """Make `gymnasium.make("planprobe/Sokoban7-v0")` and `make_vec` work; harmless when called twice.

    Call it: since gymnasium 1.0 an installed package cannot register by itself, and we do nothing on import.
    """
    for name, options in REGISTERED.items():
        if name not in gymnasium.registry:
            where = f"{__name__}:"
            gymnasium.register(
                name, where + "BoardGymEnv", vector_entry_point=where + "BoardVectorEnv", kwargs=dict(options)
            )


class BoardGymEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One board as a `gymnasium.Env`: observations (C, H, W) uint8, terminated = solved, truncated = out of time.

    `info` holds `level_id`, and after a step whether the player `moved`, `pushed` a box, and so on.
    `reset(options={"level_id": 3})` plays that level.

    Args:
        task: 'sokoban' or 'maze'.
        levels: the bank to draw from; None generates one of `num_levels` levels.
        size, split, num_levels, level_seed, num_boxes: of the generated bank; size None is 7 for Sokoban, 11 for mazes.
        render_mode: None, 'ansi' (text) or 'rgb_array' ((H * 16, W * 16, 3) uint8, FAR's colours).
        board_id: play as this board of a `BoardVectorEnv` with the same options and seed.
        options: of `BoardEnv` and of the task, such as `time_limit`, `noop`, `observation`.
    Raises: UnknownNameError (task); gymnasium's ResetNeeded and InvalidAction.
    """

    metadata = METADATA

    def __init__(
        self,
        task: str = "sokoban",
        *,
        levels: LevelSet | None = None,
        size: int | None = None,
        split: str | None = "train",
        num_levels: int = 1000,
        level_seed: int = 0,
        num_boxes: tuple[int, int] = (1, 2),
        render_mode: str | None = None,
        board_id: int = 0,
        **options: Any,
    ) -> None:
        if levels is None:
            levels = generate_levels(task, num_levels, size, split, level_seed, tuple(num_boxes))
        # draws are counted by board, so board i can only be had as the last of i + 1
        self._env = make_board_env(task, levels, board_id + 1, **options)
        self._board_ids = torch.tensor([board_id], device=self._env.device)
        if board_id:
            begin(self._env, torch.arange(board_id, device=self._env.device), None)
        self.observation_space, self.action_space = make_spaces(self._env)
        self.render_mode = check_render_mode(render_mode)
        self._playing = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        options = check_options(options, ("level_id",))
        if seed is not None:
            reseed(self._env, self._env.num_boards - 1, seed)
        level_id = options.get("level_id")
        begin(self._env, self._board_ids, None if level_id is None else np.array([level_id]))
        self._playing = True
        return self._observation(), {"level_id": int(self._env.level_ids[-1])}

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if not self._playing:
            raise ResetNeeded("the episode is over, or has not begun: call reset() before step().")
        if not self.action_space.contains(action):
            raise InvalidAction(f"action {action!r} is not one of 0..{self._env.num_actions - 1}.")
        actions = torch.zeros(self._env.num_boards, dtype=torch.int64, device=self._env.device)
        actions[-1] = int(action)
        result = self._env.step(actions)
        terminated, truncated = (bool(flag[-1]) for flag in split_ends(result))
        self._playing = not (terminated or truncated)
        info = {"level_id": int(self._env.level_ids[-1])}
        info |= {name: values[-1].item() for name, values in result.extras.items()}
        return self._observation(), float(result.reward[-1]), terminated, truncated, info

    def render(self) -> str | np.ndarray | None:
        if self.render_mode is None:
            return None
        return render_board(self._env, -1, self.render_mode)

    def _observation(self) -> np.ndarray:
        return to_numpy(self._env.observe()[-1])


class BoardVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """B boards stepped together; the same numbers as gymnasium's `SyncVectorEnv` over `BoardGymEnv(board_id=i)`.

    Arguments of `BoardGymEnv`, and:
        num_envs: B.
        autoreset_mode: NEXT_STEP (the step after an end ignores its action and returns the first observation: mask that
            transition in training), SAME_STEP (the last observation is in `info["final_obs"]`), or DISABLED (call
            `reset(options={"reset_mask": ended})`).
    `reset` takes a seed (board i gets seed + i) or one per board, and `options` `reset_mask`, `level_ids`, both (B,).
    """

    metadata = METADATA

    def __init__(
        self,
        task: str = "sokoban",
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        levels: LevelSet | None = None,
        size: int | None = None,
        split: str | None = "train",
        num_levels: int = 1000,
        level_seed: int = 0,
        num_boxes: tuple[int, int] = (1, 2),
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        if levels is None:
            levels = generate_levels(task, num_levels, size, split, level_seed, tuple(num_boxes))
        self._env = make_board_env(task, levels, num_envs, **options)
        self.metadata = METADATA
        self.render_mode = check_render_mode(render_mode)
        self._set_up(num_envs, autoreset_mode, *make_spaces(self._env))

    def _set_up(
        self, num_envs: int, autoreset_mode: AutoresetMode | str, observations: spaces.Space, actions: spaces.Discrete
    ) -> None:
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = observations, actions
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._begun = np.zeros(num_envs, dtype=bool)
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed if isinstance(seed, int) else None)
        options = check_options(options, ("reset_mask", "level_ids"))
        mask = check_mask(options.get("reset_mask"), self.num_envs)
        for board, board_seed in enumerate(_list_seeds(seed, self.num_envs)):
            if board_seed is not None and mask[board]:
                self._reseed(board, board_seed)
        level_ids = options.get("level_ids")
        self._begin(mask, None if level_ids is None else np.asarray(level_ids)[mask])
        self._begun |= mask
        return self._observations(), self._level_info({}, mask)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        self._check_step(actions)
        restarting = self._ended if self.autoreset_mode is AutoresetMode.NEXT_STEP else np.zeros_like(self._ended)
        result = self._env.step(torch.as_tensor(np.asarray(actions), dtype=torch.int64, device=self._env.device))
        terminated, truncated = (to_numpy(flag) for flag in split_ends(result))
        reward = to_numpy(result.reward).astype(np.float64)
        ended = terminated | truncated
        info: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and ended.any():
            info |= self._final_info(result, ended)
            restarting = ended
        stepped = ~restarting
        info |= self._step_info(result, stepped)
        self._begin(restarting, None)
        self._ended = ended if self.autoreset_mode is not AutoresetMode.SAME_STEP else self._ended
        return (
            self._observations(),
            reward,
            terminated,
            truncated,
            self._level_info(info, stepped | restarting),
        )

    def render(self) -> tuple[str | np.ndarray, ...] | None:
        if self.render_mode is None:
            return None
        return tuple(render_board(self._env, board, self.render_mode) for board in range(self.num_envs))

    def _observations(self) -> np.ndarray:
        return to_numpy(self._env.observe())

    def _reseed(self, board: int, seed: int) -> None:
        reseed(self._env, board, seed)

    def _begin(self, mask: np.ndarray, level_ids: np.ndarray | None) -> None:
        if mask.any():
            begin(self._env, torch.as_tensor(mask.nonzero()[0], device=self._env.device), level_ids)
        self._ended = self._ended & ~mask

    def _check_step(self, actions: np.ndarray) -> None:
        if not self._begun.all():
            raise ResetNeeded("not every board has begun an episode: call reset() before step().")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            raise ResetNeeded(
                f"boards {self._ended.nonzero()[0].tolist()} have ended and autoreset is disabled:"
                " call reset(options={'reset_mask': terminated | truncated}) first."
            )
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise InvalidAction(f"actions must be ({self.num_envs},) integers, got {actions.shape} {actions.dtype}.")
        # the board would look the action up in a table, and a negative one would wrap around to another move
        if ((actions < 0) | (actions >= self._env.num_actions)).any():
            raise InvalidAction(f"actions must lie in 0..{self._env.num_actions - 1}, got {actions.tolist()}.")

    def _level_info(self, info: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
        return info | masked("level_id", to_numpy(self._env.level_ids), mask)

    def _step_info(self, result: StepResult, mask: np.ndarray) -> dict[str, Any]:
        info: dict[str, Any] = {}
        for name, values in result.extras.items():
            info |= masked(name, to_numpy(values), mask)
        return info

    def _final_info(self, result: StepResult, ended: np.ndarray) -> dict[str, Any]:
        """The last observation and info of the boards that a SAME_STEP reset is about to overwrite."""
        observations = np.full(self.num_envs, None, dtype=object)
        last = self._observations()
        for board in ended.nonzero()[0]:
            observations[board] = last[board].copy()
        final = self._level_info(self._step_info(result, ended), ended)
        return {"final_obs": observations, "_final_obs": ended.copy(), "final_info": final, "_final_info": ended.copy()}


def _list_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> Sequence[int | None]:
    """One seed a board as gymnasium counts them: a single one goes up by one from board to board."""
    if seed is None:
        return [None] * num_envs
    seeds = [seed + board for board in range(num_envs)] if isinstance(seed, int) else seed
    if len(seeds) != num_envs:
        raise Error(f"{len(seeds)} seeds for {num_envs} boards: give one, or one per board.")
    return seeds
