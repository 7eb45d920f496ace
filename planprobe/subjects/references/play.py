"""Play a reference player: the counterpart of `core.play` for players that are written down, not trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.trial import TrialEnv

OnStep = Callable[[int, Tensor, StepResult], None]


class Player(Protocol):
    """Plays one trial on each of B boards.

    A player may read the options of the task and what the agent could see; one that reads `latents` says *oracle* in
    its name. Actions on boards whose trial is over do nothing.
    """

    def begin(self, env: TrialEnv) -> None:
        """A trial begins on every board of `env`, which was just reset; keep its sizes and its first view."""
        ...

    def act(self) -> Tensor:
        """The next action of every board, (B,) int64."""
        ...

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        """What came of it; view as the task shows it after the step, (B, F) or (B, C, H, W)."""
        ...


class TrialTask(Protocol):
    """The options of a task with trials, which know how to build it."""

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> TrialEnv: ...


@torch.no_grad()
def play_reference(
    player: Player, task: TrialTask, num_trials: int, seed: int = 0, *, on_step: OnStep | None = None
) -> Tensor:
    """Return of every episode of `num_trials` trials played side by side, (N, E) float32.

    Args: seed: of the task; a player that draws has a seed of its own. on_step(t, actions, result): called once a step.
    """
    env = task.make_env(num_trials, seed=seed, autoreset=False)
    env.reset()
    player.begin(env)
    returns = torch.zeros(num_trials, env.num_episodes, device=env.device)
    for t in range(env.num_episodes * env.episode_steps):
        if bool(env.finished.all()):
            break
        actions = player.act()
        result = env.step(actions)
        view = result.observation if env.spatial else result.observation.flatten(1)
        player.see(actions, result, view)
        if on_step:
            on_step(t, actions, result)
        # a board whose trial is over earns nothing, so where its reward is put does not matter
        episode = result.extras["episode"].clamp(max=env.num_episodes - 1)
        returns.scatter_add_(1, episode[:, None], result.reward[:, None])
    return returns
