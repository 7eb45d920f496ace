"""Reference players of the two-step task, and the stay table in which people look for planning.

The stay interaction is no evidence of planning: a table of the last round, which plans nothing, has the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import UnknownNameError, unknown_name
from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.references.bandit_players import RULES, draw_actions
from planprobe.subjects.references.bandit_values import spread_ties
from planprobe.subjects.references.play import Player, play_reference
from planprobe.subjects.references.two_step_belief import TwoStepBelief

STEP_SIZE, SHARPNESS = 0.5, 5.0  # of the learners behind the published stay interactions


class _RoundPlayer:
    """A player that chooses once a round; what it does in the second step has no effect."""

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def begin(self, env: TrialEnv) -> None:
        self.task: TwoStepTask = env.task
        self.boards, self.rounds = torch.arange(env.num_boards), 0
        self.choices = torch.zeros(env.num_boards, dtype=torch.int64)
        self._start(env.num_boards)
        self._look(env.observe().flatten(1))

    def act(self) -> Tensor:
        if self.at_choice:
            self.choices = draw_actions(self.chances(), self.seed, self.boards, self.rounds)
        return self.choices

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        if self.at_choice:
            self.states = view[:, 1:3].argmax(1)
        else:
            self._learn(self.choices, self.states, result.reward)
            self.rounds += 1
        self._look(view)

    def chances(self) -> Tensor:
        """Chance of both choices in the next round, (B, 2) float64."""
        raise NotImplementedError

    def _start(self, num_boards: int) -> None:
        raise NotImplementedError

    def _learn(self, choices: Tensor, states: Tensor, rewards: Tensor) -> None:
        raise NotImplementedError

    def _look(self, view: Tensor) -> None:
        self.at_choice = bool(view[0, 0] > 0)  # rounds keep in step on all boards


class TwoStepBeliefPlayer(_RoundPlayer):
    """Keeps the exact belief. rule: 'greedy', Bayes-optimal here, as both choices tell the same about psi; 'thompson',
    each choice with its chance of being the best.

    Raises: UnknownNameError (no such rule).
    """

    def __init__(self, rule: str = "greedy", *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        if rule not in RULES:
            raise unknown_name("rule", rule, RULES)
        self.rule = rule

    def chances(self) -> Tensor:
        best = self.belief.chance_best()
        return best if self.rule == "thompson" else spread_ties(best)

    def _start(self, num_boards: int) -> None:
        self.belief = TwoStepBelief(self.task)
        self.belief.begin(num_boards)

    def _learn(self, choices: Tensor, states: Tensor, rewards: Tensor) -> None:
        self.belief.see_round(choices, states, rewards)

    def _look(self, view: Tensor) -> None:
        super()._look(view)
        if self.at_choice and self.task.show_map:
            self.belief.see_map(view[:, 3].to(torch.int64))


class ModelFreePlayer(_RoundPlayer):
    """Values of the two choices, moved toward what each paid; chosen by softmax. Never looks at the state between."""

    def chances(self) -> Tensor:
        return (SHARPNESS * self.values).softmax(1)

    def _start(self, num_boards: int) -> None:
        self.values = torch.full((num_boards, 2), 0.5, dtype=torch.float64)

    def _learn(self, choices: Tensor, states: Tensor, rewards: Tensor) -> None:
        self.values = _moved_toward(self.values, choices, rewards)


class ModelBasedPlayer(_RoundPlayer):
    """Values of the two states, moved toward what each paid, seen through known transitions; chosen by softmax.

    Where the transitions may swap and the map is shown, it plans with the map; where it is not, with the first one.
    """

    def chances(self) -> Tensor:
        ahead = torch.where(self.swapped[:, None] > 0, self.values.flip(1), self.values)
        return (SHARPNESS * (self.task.common * ahead + (1 - self.task.common) * ahead.flip(1))).softmax(1)

    def _start(self, num_boards: int) -> None:
        self.values = torch.full((num_boards, 2), 0.5, dtype=torch.float64)
        self.swapped = torch.zeros(num_boards)

    def _learn(self, choices: Tensor, states: Tensor, rewards: Tensor) -> None:
        self.values = _moved_toward(self.values, states, rewards)

    def _look(self, view: Tensor) -> None:
        super()._look(view)
        if self.task.show_map:
            self.swapped = view[:, 3]


class OneBackPlayer(_RoundPlayer):
    """A table of the last round: stay after a common transition that paid or a rare one that did not, else switch."""

    def chances(self) -> Tensor:
        return self.next_chances

    def _start(self, num_boards: int) -> None:
        self.next_chances = torch.full((num_boards, 2), 0.5, dtype=torch.float64)

    def _learn(self, choices: Tensor, states: Tensor, rewards: Tensor) -> None:
        stay = (choices == states) == (rewards > 0)
        self.next_chances = torch.nn.functional.one_hot(torch.where(stay, choices, 1 - choices), 2).to(torch.float64)


@dataclass(frozen=True)
class StayTable:
    """Chance of repeating a choice. stay (2 rare / common, 2 unpaid / paid) float64; counts (2, 2) int64 of rounds."""

    stay: Tensor
    counts: Tensor

    @property
    def interaction(self) -> float:
        """Common minus rare after a payment, less the same after none; in [-2, 2]."""
        return float(self.stay[1, 1] - self.stay[0, 1] - self.stay[1, 0] + self.stay[0, 0])


def stay_table(choices: Tensor, common: Tensor, rewards: Tensor) -> StayTable:
    """Count how often a choice is repeated, by what it led to.

    Args: choices (N, R) int64; common (N, R) bool: the transition was a common one; rewards (N, R).
    """
    stayed = (choices[:, 1:] == choices[:, :-1]).flatten().to(torch.float64)
    cell = (2 * common[:, :-1].to(torch.int64) + (rewards[:, :-1] > 0).to(torch.int64)).flatten()
    counts = torch.bincount(cell, minlength=4)
    stay = torch.bincount(cell, weights=stayed, minlength=4) / counts
    return StayTable(stay.view(2, 2), counts.view(2, 2))


def play_rounds(player: Player, task: TwoStepTask, num_trials: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Choices, whether each transition was common, and rewards of every round, each (N, num_rounds)."""
    choices, common, rewards = [], [], []

    def keep(t: int, actions: Tensor, result: StepResult) -> None:
        if t % 2 == 0:
            choices.append(actions.clone())
            common.append(result.extras["common"])
        else:
            rewards.append(result.reward)

    play_reference(player, task, num_trials, seed, on_step=keep)
    return torch.stack(choices, dim=1), torch.stack(common, dim=1), torch.stack(rewards, dim=1)


TWO_STEP_PLAYERS = ("model_free", "model_based", "exact_bayes", "thompson", "one_back_table")


def make_two_step_player(name: str, *, seed: int = 0) -> Player:
    """A reference player by the name that tables use. Raises: UnknownNameError."""
    if name in ("exact_bayes", "thompson"):
        return TwoStepBeliefPlayer("greedy" if name == "exact_bayes" else "thompson", seed=seed)
    kinds = {"model_free": ModelFreePlayer, "model_based": ModelBasedPlayer, "one_back_table": OneBackPlayer}
    if name not in kinds:
        raise unknown_name("player", name, TWO_STEP_PLAYERS, error=UnknownNameError)
    return kinds[name](seed=seed)


def _moved_toward(values: Tensor, entries: Tensor, targets: Tensor) -> Tensor:
    """values (B, 2) with one entry a row moved STEP_SIZE of the way to its target."""
    old = values.gather(1, entries[:, None])
    return values.scatter(1, entries[:, None], old + STEP_SIZE * (targets[:, None].to(values.dtype) - old))
