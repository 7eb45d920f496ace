"""The exact belief about a shown interval, and two players that time it: one counts, one lets the track remember."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.timing import LEFT, RESPOND, RIGHT, STAY, TimingTask
from planprobe.subjects.envs.trial import TrialEnv


class TimingBelief:
    """Chance of every interval, (B, shortest .. longest) float64 in `chances`, from the phases seen."""

    def __init__(self, task: TimingTask) -> None:
        self.intervals = torch.arange(task.shortest, task.longest + 1)

    def begin(self, num_boards: int) -> None:
        self.chances = torch.full((num_boards, len(self.intervals)), 1 / len(self.intervals), dtype=torch.float64)

    def see(self, elapsed: Tensor, reproducing: Tensor) -> None:
        """Take in a view `elapsed` (B,) steps into an episode: whether the interval is over by then, (B,) bool."""
        agrees = (elapsed[:, None] >= self.intervals) == reproducing[:, None]
        weighed = self.chances * agrees
        self.chances = weighed / weighed.sum(1, keepdim=True)


class CountingPlayer:
    """Stands still, counts the steps of the interval, and responds as many steps later: always right."""

    def begin(self, env: TrialEnv) -> None:
        self.elapsed = torch.zeros(env.num_boards, dtype=torch.int64)
        self.interval = torch.zeros_like(self.elapsed)
        self._look(env.observe().flatten(1))

    def act(self) -> Tensor:
        return torch.where(self.reproducing & (self.elapsed == 2 * self.interval), RESPOND, STAY)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        self.elapsed = torch.where(result.episode_done, 0, self.elapsed + 1)
        self._look(view)

    def _look(self, view: Tensor) -> None:
        self.reproducing = view[:, -1] > 0
        self.interval = torch.where(self.reproducing, self.interval, self.elapsed + 1)


class WalkingPlayer:
    """A function of the present view alone: walks out while the interval runs, then home, and responds at home.

    Right wherever the track is longer than the interval; the trace is on the track, not in the player.
    """

    def begin(self, env: TrialEnv) -> None:
        self.view = env.observe().flatten(1)

    def act(self) -> Tensor:
        home, reproducing = self.view[:, 0] > 0, self.view[:, -1] > 0
        return torch.where(reproducing, torch.where(home, RESPOND, LEFT), RIGHT)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        self.view = view
