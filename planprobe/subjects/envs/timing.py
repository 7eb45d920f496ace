"""Interval timing on a short track: wait for as long as an interval that was shown lasted, then respond.

Nothing on show says how much time has passed, but the agent may walk the track meanwhile, and where it stands is on
show: an agent without memory can walk out during the interval and home again, and let the track remember.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.trial import DRAW_EPISODE, DRAW_TASK, TrialEnv

LEFT, STAY, RIGHT, RESPOND = range(4)
NUM_ACTIONS = 4


@dataclass(frozen=True)
class TimingTask:
    """Options of interval timing.

    shortest, longest: the interval in steps, drawn per trial with even chances; every episode of a trial has the same.
    tolerance: how many steps off a response may be. track_length: squares of the track; 1 leaves nothing to walk on.
    carried: the track carries the agent out, a square on every step of the interval, whatever it does: an easier task
    to begin with. scramble: put the agent on a random square when the interval has been shown, which erases what the
    track remembers.
    Raises: RecipeError (an empty interval or range, a negative tolerance, no track, no episode).
    Source: after Deverett et al. 2019.
    """

    kind: ClassVar[str] = "timing"
    shortest: int = 3
    longest: int = 10
    tolerance: int = 0
    track_length: int = 11
    carried: bool = False
    scramble: bool = False
    num_episodes: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest or self.tolerance < 0:
            raise RecipeError(
                f"timing: needs 1 <= shortest <= longest and a tolerance of 0 or more, got {self.shortest}, "
                f"{self.longest} and {self.tolerance}."
            )
        if min(self.track_length, self.num_episodes) < 1:
            raise RecipeError(
                f"timing: needs a track and an episode, got track_length = {self.track_length}, "
                f"num_episodes = {self.num_episodes}."
            )

    @property
    def episode_steps(self) -> int:
        """Steps after which an episode is cut: the last at which a response to the longest interval is right."""
        return 2 * self.longest + self.tolerance + 1

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> TimingEnv:
        """B tracks side by side."""
        return TimingEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


class TimingEnv(TrialEnv):
    """The interval lasts d steps, then the agent must respond d steps later; only its first response counts.

    A right response pays 1 and ends the episode; after a wrong one, nothing can be won until the episode is cut.
    View: one-hot of the square, of the phase (the interval is running, or the agent is to reproduce it).
    latents: interval (B,) int64.
    """

    num_actions = NUM_ACTIONS

    def __init__(self, num_boards: int, task: TimingTask, **options) -> None:
        super().__init__(num_boards, num_episodes=task.num_episodes, episode_steps=task.episode_steps, **options)
        self.task, self.num_planes = task, task.track_length + 2
        zeros = torch.zeros(num_boards, dtype=torch.int64, device=self.device)
        self.interval, self.place = zeros, zeros.clone()
        self.answered = torch.zeros(num_boards, dtype=torch.bool, device=self.device)

    def _begin_trial(self, ids: Tensor) -> None:
        count = self.task.longest - self.task.shortest + 1
        self.interval[ids] = self.task.shortest + draw_below(count, self.seed, DRAW_TASK, ids, self.trials[ids])

    def _begin_episode(self, ids: Tensor) -> None:
        self.place[ids] = 0
        self.answered[ids] = False

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        late = self.elapsed - 2 * self.interval
        counts = (actions == RESPOND) & self._reproducing() & ~self.answered & active
        right = counts & (late.abs() <= self.task.tolerance)
        self.answered = self.answered | counts
        walk = (actions == RIGHT).to(torch.int64) - (actions == LEFT).to(torch.int64)
        if self.task.carried:
            walk = torch.where(self._reproducing(), walk, 1)
        place = (self.place + walk).clamp(0, self.task.track_length - 1)
        if self.task.scramble:
            counters = (self.board_ids, self.trials, self.episode)
            thrown = draw_below(self.task.track_length, self.seed, DRAW_EPISODE, *counters)
            place = torch.where(self.elapsed + 1 == self.interval, thrown, place)
        self.place = torch.where(active, place, self.place)
        return right.to(torch.float32), right, {"responded": counts, "late": late}

    def _reproducing(self) -> Tensor:
        return self.elapsed >= self.interval

    def _view(self) -> Tensor:
        squares = self.place[:, None] == torch.arange(self.task.track_length, device=self.device)
        reproducing = self._reproducing()[:, None]
        return torch.cat([squares, ~reproducing, reproducing], dim=1).to(torch.float32)

    def latents(self) -> dict[str, Tensor]:
        return {"interval": self.interval.clone()}
