"""The two-step task: a choice leads, mostly, to one of two states, and one of the states pays.

Which state pays may flip between rounds. In the *transition swap* extension the transitions may swap too, seen or
unseen, so that a player that only knows which choice paid must relearn and one that knows the map need not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.subjects.envs.trial import DRAW_STEP, DRAW_TASK, TrialEnv

NUM_COMBINATIONS = 4
HELD_OUT = 3
"""Combinations of psi are numbered good state + 2 * swapped; the last is the one that can be kept out of training."""


@dataclass(frozen=True)
class TwoStepTask:
    """Options of the two-step task. A round is two steps: a choice, then the state it led to, where the action is void.

    num_rounds: choices in a trial. common: chance that choice a leads to state a. rich: chance that the good state pays
    1; the other pays with 1 - rich. flip: chance that the good state changes after a round.
    swap: chance that after a round the transitions swap (choice a then leads commonly to state 1 - a).
    show_map: the view tells which way the transitions are. hold_out: the good state is never 1 while the transitions
    are swapped: a flip or swap into that combination does not happen. Train with it, test without.
    The defaults are the task of Wang et al. 2018; that of 2016 is `TWO_STEP_2016`.
    Raises: RecipeError (no rounds, a chance outside [0, 1]).
    Source: Wang et al. 2016, 2018, after Daw et al. 2011.
    """

    kind: ClassVar[str] = "two-step"
    num_rounds: int = 100
    common: float = 0.8
    rich: float = 0.9
    flip: float = 0.025
    swap: float = 0.0
    show_map: bool = False
    hold_out: bool = False

    def __post_init__(self) -> None:
        if self.num_rounds < 1:
            raise RecipeError(f"a two-step trial needs a round, got num_rounds = {self.num_rounds}.")
        for name in ("common", "rich", "flip", "swap"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"two-step: {name} is a chance in [0, 1], got {getattr(self, name)}.")

    def start(self) -> Tensor:
        """Chance of each combination of psi at the start of a trial, (4,) float64."""
        allowed = torch.tensor([True, True, self.swap > 0, self.swap > 0 and not self.hold_out])
        return allowed.to(torch.float64) / allowed.sum()

    def drift(self) -> Tensor:
        """Chance that combination i is followed by j after a round, (4, 4) float64."""
        chances = torch.zeros(NUM_COMBINATIONS, NUM_COMBINATIONS, dtype=torch.float64)
        for now in range(NUM_COMBINATIONS):
            for change in range(NUM_COMBINATIONS):
                after = now if self.hold_out and now ^ change == HELD_OUT else now ^ change
                flips = self.flip if change & 1 else 1 - self.flip
                swaps = self.swap if change & 2 else 1 - self.swap
                chances[now, after] += flips * swaps
        return chances

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> TwoStepEnv:
        """B two-step tasks side by side."""
        return TwoStepEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


TWO_STEP_2016 = TwoStepTask(common=0.75, flip=0.0)


class TwoStepEnv(TrialEnv):
    """View: one-hot of where the agent is (the choice, state 0, state 1), and `swapped` where the map is shown.

    latents: good_state, swapped, best_choice (B,) int64, of the present round.
    extras: chose (B,) bool, this step was a choice; state (B,) int64, where the round's choice led; common (B,) bool,
    the way it leads commonly.
    """

    num_actions = 2

    def __init__(self, num_boards: int, task: TwoStepTask, **options) -> None:
        super().__init__(num_boards, num_episodes=1, episode_steps=2 * task.num_rounds, **options)
        self.task = task
        self.num_planes = 3 + task.show_map
        zeros = torch.zeros(num_boards, dtype=torch.int64, device=self.device)
        self.psi, self.choice, self.state = zeros, zeros.clone(), zeros.clone()
        self.at_choice = torch.ones(num_boards, dtype=torch.bool, device=self.device)

    def _begin_trial(self, ids: Tensor) -> None:
        count = int((self.task.start() > 0).sum())  # the combinations that may come up are the first ones
        self.psi[ids] = draw_below(count, self.seed, DRAW_TASK, ids, self.trials[ids])
        self.at_choice[ids] = True

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        chose, task = self.at_choice & active, self.task
        luck = draw_uniform(self.seed, DRAW_STEP, self.board_ids, self.trials, self.elapsed)
        self.choice = torch.where(chose, actions, self.choice)
        common_state = self.choice ^ (self.psi >> 1)
        self.state = torch.where(chose, common_state ^ (luck >= task.common), self.state)
        pay = torch.where(self.state == (self.psi & 1), task.rich, 1 - task.rich)
        reward = (luck < pay) & ~chose
        extras = {"chose": chose, "state": self.state.clone(), "common": self.state == common_state}
        self._drift(active & ~chose)
        self.at_choice = torch.where(active, ~chose, self.at_choice)
        return reward.to(torch.float32), torch.zeros_like(active), extras

    def _drift(self, moving: Tensor) -> None:
        counters = (self.board_ids, self.trials, self.elapsed)
        flips = draw_uniform(self.seed, DRAW_STEP, *counters, 1) < self.task.flip
        swaps = draw_uniform(self.seed, DRAW_STEP, *counters, 2) < self.task.swap
        after = self.psi ^ (flips.to(torch.int64) + 2 * swaps.to(torch.int64))
        refused = (after == HELD_OUT) & self.task.hold_out
        self.psi = torch.where(moving & ~refused, after, self.psi)

    def _view(self) -> Tensor:
        states = self.state[:, None] == torch.arange(2, device=self.device)
        planes = [self.at_choice[:, None], states & ~self.at_choice[:, None]]
        if self.task.show_map:
            planes.append(self.psi[:, None] > 1)
        return torch.cat(planes, dim=1).to(torch.float32)

    def latents(self) -> dict[str, Tensor]:
        good, swapped = self.psi & 1, self.psi >> 1
        return {"good_state": good, "swapped": swapped, "best_choice": good ^ swapped}
