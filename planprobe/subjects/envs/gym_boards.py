"""What the two gymnasium adapters share: banks of levels, spaces, partial resets, info entries, pictures of a board."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import Error
from torch import Tensor

from planprobe.core.errors import unknown_name
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.protocols import StepResult
from planprobe.core.rng import draw_bits
from planprobe.subjects.envs.board_env import RGB, BoardEnv
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.sokoban import Sokoban

TASKS: dict[str, type[BoardEnv]] = {"sokoban": Sokoban, "maze": Maze}
TILE_PIXELS = 16
PLAYER = 8
_GLYPHS = {0: " ", WALL: "#", TARGET: ".", BOX: "$", BOX | TARGET: "*", PLAYER: "@", PLAYER | TARGET: "+"}
METADATA = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}
_DRAW_EPISODE = 141


def make_board_env(task: str, levels: LevelSet, num_boards: int, **options: Any) -> BoardEnv:
    """The batched environment behind both adapters; it never resets by itself."""
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    return TASKS[task](levels, num_boards, autoreset=False, **options)


@lru_cache(maxsize=8)
def generate_levels(
    task: str, num_levels: int, size: int | None, split: str | None, seed: int, num_boxes: tuple[int, int]
) -> LevelSet:
    """A bank of generated levels; the last few are kept, for checkers and vector makers ask for the same one again."""
    if task == "maze":
        return generate_mazes(num_levels, size=size or 11, seed=seed, split=split)
    if task == "sokoban":
        return generate_sokoban(num_levels, size=size or 7, num_boxes=num_boxes, seed=seed, split=split)
    raise unknown_name("task", task, TASKS)


def make_spaces(env: BoardEnv) -> tuple[spaces.Box, spaces.Discrete]:
    """Spaces of one board: (C, H, W) uint8 up to 1 for planes and 255 for colours, and the moves."""
    high = 255 if env.observation_preset == "rgb" else 1
    shape = (env.num_planes, env.height, env.width)
    return spaces.Box(0, high, shape, np.uint8), spaces.Discrete(env.num_actions)


def begin(env: BoardEnv, board_ids: Tensor, level_ids: np.ndarray | None) -> None:
    """Start the next episode on some boards only, on drawn or given levels."""
    if level_ids is None:
        return env.begin(board_ids)
    # a negative id would quietly play a level from the end of the bank
    if not np.issubdtype(level_ids.dtype, np.integer) or (level_ids < 0).any() or (level_ids >= len(env.levels)).any():
        raise Error(f"level ids must be integers in 0..{len(env.levels) - 1}, got {level_ids.tolist()}.")
    env.begin(board_ids, torch.as_tensor(level_ids, dtype=torch.int64, device=env.device))


def reseed(env: BoardEnv, board_id: int, seed: int) -> None:
    """Move a board to the place in its endless sequence of episodes that belongs to the seed."""
    # half the range, so that counting on never overflows
    env.episodes[board_id] = int(draw_bits(seed % 2**63, _DRAW_EPISODE)) >> 1


def split_ends(result: StepResult) -> tuple[Tensor, Tensor]:
    """Terminated and truncated (B,): a trial is one gymnasium episode, so episodes within it end nothing."""
    return result.trial_done & ~result.truncated, result.trial_done & result.truncated


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A copy of its own, never a view of a buffer that a later step may change."""
    return tensor.cpu().numpy().copy()


def masked(name: str, values: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """gymnasium's info entry for some boards: values with zeros elsewhere, and the mask; none for no board."""
    if not mask.any():
        return {}
    shaped = mask.reshape(-1, *[1] * (values.ndim - 1))
    return {name: np.where(shaped, values, np.zeros_like(values)), f"_{name}": mask.copy()}


def check_options(options: dict[str, Any] | None, known: tuple[str, ...]) -> dict[str, Any]:
    """The reset options, or an error for a misspelt one, which would otherwise do nothing."""
    for name in options or {}:
        if name not in known:
            raise unknown_name("option", name, known, where="reset")
    return options or {}


def check_mask(mask: np.ndarray | None, num_envs: int) -> np.ndarray:
    """Which boards to reset, (B,) bool; all of them without a mask."""
    if mask is None:
        return np.ones(num_envs, dtype=bool)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,) or not mask.any():
        raise Error(f"reset_mask must be a numpy array ({num_envs},) of bool with at least one True, got {mask!r}.")
    return mask


def check_render_mode(render_mode: str | None) -> str | None:
    """The render mode, or an error that names those there are."""
    if render_mode is not None and render_mode not in METADATA["render_modes"]:
        raise unknown_name("render mode", render_mode, METADATA["render_modes"])
    return render_mode


def render_board(env: BoardEnv, board: int, render_mode: str) -> str | np.ndarray:
    """One board as text or as a picture (H * 16, W * 16, 3) uint8."""
    codes = env.cells[board].to(torch.int64).cpu()
    codes[int(env.players[board])] += PLAYER
    grid = codes.view(env.height, env.width).numpy()
    if render_mode == "ansi":
        return "\n".join("".join(_GLYPHS[code] for code in row) for row in grid.tolist())
    palette = np.zeros((16, 3), dtype=np.uint8)
    palette[list(RGB)] = list(RGB.values())
    return palette[grid].repeat(TILE_PIXELS, 0).repeat(TILE_PIXELS, 1)
