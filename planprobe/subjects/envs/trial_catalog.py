"""Tasks with trials by kind, and the environments on them that an agent sees: the counterpart of `catalog`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs

if TYPE_CHECKING:
    from planprobe.subjects.envs.trial import TrialEnv

TRIAL_KINDS = (
    "bandit", "informative-bandit", "tabular-mdp", "two-step", "causal", "timing", "regression", "hidden-goal", "doors",
    "maze-trial", "sokoban-trial",
)  # fmt: skip
TEST_SEED, VALID_SEED = 3, 2
"""Of the trials that agents are measured on, and watched on in training, which draws its own with the recipe's seed."""
_TRAIN_SEEDS = 1000


class TrialTask(Protocol):
    """Options of one task with trials: a frozen dataclass, named by `kind` in a recipe's [task]."""

    kind: ClassVar[str]

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> TrialEnv: ...


def trial_class(kind: str) -> type[TrialTask]:
    """The dataclass of a kind of task. Raises: RecipeError (no such kind)."""
    match kind:
        case "bandit":
            from planprobe.subjects.envs.bandit import BanditTask as found
        case "informative-bandit":
            from planprobe.subjects.envs.informative_bandit import InformativeBanditTask as found
        case "tabular-mdp":
            from planprobe.subjects.envs.tabular_mdp import TabularMdpTask as found
        case "two-step":
            from planprobe.subjects.envs.two_step import TwoStepTask as found
        case "causal":
            from planprobe.subjects.envs.causal import CausalTask as found
        case "timing":
            from planprobe.subjects.envs.timing import TimingTask as found
        case "regression":
            from planprobe.subjects.envs.regression import RegressionTask as found
        case "hidden-goal":
            from planprobe.subjects.envs.hidden_goal import HiddenGoalTask as found
        case "doors":
            from planprobe.subjects.envs.doors import DoorsTask as found
        case "maze-trial":
            from planprobe.subjects.envs.maze_trial import MazeTrialTask as found
        case "sokoban-trial":
            from planprobe.subjects.envs.sokoban_trial import SokobanTrialTask as found
        case _:
            raise unknown_name("task", kind, TRIAL_KINDS, error=RecipeError)
    return found


def held_out(task: TrialTask, split: str = "test") -> TrialTask:
    """The task on layouts that training never showed, where it has layouts; psi is drawn anew in any case."""
    return dataclasses.replace(task, split=split) if hasattr(task, "split") else task  # pyright: ignore


def with_small_bank(task: TrialTask) -> TrialTask:
    """The same shapes from as few layouts as can be, so that asking for them generates no bank."""
    if not hasattr(task, "split") or getattr(task, "maze_id", None) is not None:
        return task  # has no layouts, or one of a certain number
    bank = next(name for name in ("num_levels", "num_mazes") if hasattr(task, name))
    return dataclasses.replace(task, **{bank: 1})  # pyright: ignore


def make_trial_env(
    task: TrialTask,
    inputs: Inputs,
    num_boards: int,
    *,
    seed: int = TEST_SEED,
    device: str = "cpu",
    autoreset: bool = False,
) -> TrialInputs:
    """B boards of a task, seen through `inputs`; without autoreset, board i plays the i-th trial of the seed."""
    return TrialInputs(task.make_env(num_boards, seed=seed, device=device, autoreset=autoreset), inputs)


def training_seed(seed: int) -> int:
    """Where the trials of a training run are drawn from, away from those for measuring, whatever the recipe's seed."""
    return _TRAIN_SEEDS + seed
