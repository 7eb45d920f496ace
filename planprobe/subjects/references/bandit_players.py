"""Reference players of the bandits, and the exact values of the one with an informative arm."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, unknown_name
from planprobe.core.protocols import StepResult
from planprobe.core.rng import draw_uniform
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.references.bandit_beliefs import (
    BanditBelief,
    BetaBelief,
    InformativeBelief,
    make_bandit_belief,
)
from planprobe.subjects.references.bandit_values import CountPolicy, spread_ties

RULES = ("greedy", "thompson")
MAX_TARGETS = 16


def draw_actions(chances: Tensor, seed: int, *counters: Tensor | int) -> Tensor:
    """One action a row of chances (B, A), counter-based: (B,) int64."""
    cumulative = chances.to(torch.float64).cumsum(1)
    luck = draw_uniform(seed, *counters).to(torch.float64)[:, None] * cumulative[:, -1:]
    # the last action whose share is not empty, where rounding puts the draw beyond all
    last = chances.shape[1] - 1 - (chances.flip(1) > 0).to(torch.uint8).argmax(1)
    return torch.minimum((luck >= cumulative).sum(1), last)


class _Drawing:
    """A player that knows chances of its next action; board b draws the same in any batch."""

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def begin(self, env: TrialEnv) -> None:
        self.boards, self.pulls = torch.arange(env.num_boards), 0

    def act(self) -> Tensor:
        return draw_actions(self.chances(), self.seed, self.boards, self.pulls)

    def chances(self) -> Tensor:
        """Chance of each arm at the next pull, (B, K) float64."""
        raise NotImplementedError

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        self.pulls += 1


class CountPlayer(_Drawing):
    """Plays a `CountPolicy` on independent arms: Bayes-optimal, Gittins, Thompson, greedy, UCB1, random."""

    def __init__(self, policy: CountPolicy, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.policy = policy

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        self.belief = BetaBelief(env.task)
        self.belief.begin(env.num_boards)

    def chances(self) -> Tensor:
        return self.policy(self.belief.successes, self.belief.failures)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        super().see(actions, result, view)
        self.belief.see(actions, result.reward)


class BeliefPlayer(_Drawing):
    """Keeps the exact belief of any bandit and acts by a rule.

    rule: 'greedy', the highest posterior mean; 'thompson', each arm with its chance of being the best.
    Raises: UnknownNameError (no such rule).
    """

    def __init__(self, rule: str = "greedy", *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        if rule not in RULES:
            raise unknown_name("rule", rule, RULES)
        self.rule = rule

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        self.belief: BanditBelief = make_bandit_belief(env.task)
        self.belief.begin(env.num_boards)

    def chances(self) -> Tensor:
        return self.belief.chance_best() if self.rule == "thompson" else spread_ties(self.belief.mean())

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        super().see(actions, result, view)
        self.belief.see(actions, result.reward)


class InformativeBayesPlayer(_Drawing):
    """Bayes-optimal in the informative bandit: pulls the arm that tells, then the one that pays."""

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        self.task: InformativeBanditTask = env.task
        self.belief = InformativeBelief(env.task)
        self.belief.begin(env.num_boards)

    def chances(self) -> Tensor:
        known = self.belief.candidates.to(torch.int64) @ (2 ** torch.arange(self.task.num_targets))
        left = max(self.task.num_pulls - self.pulls, 1)
        return spread_ties(informative_values(self.task)[left][known])

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        super().see(actions, result, view)
        self.belief.see(actions, result.reward)


@lru_cache(maxsize=4)
def informative_values(task: InformativeBanditTask) -> tuple[Tensor, ...]:
    """Return to go of every arm, by pulls left and by the set of possible targets.

    Returns: for 0, 1, ... num_pulls pulls left, (2 ** num_targets, num_arms) float64; bit i of a row's number says that
    arm i may be the target. Row 0, which cannot occur, is 0.
    Raises: ShapeError (too many sets).
    """
    n = task.num_targets
    if n > MAX_TARGETS:
        raise ShapeError(f"{n} possible targets make 2 ** {n} sets; values are worked out for up to {MAX_TARGETS}.")
    sets, bits = torch.arange(2**n), 2 ** torch.arange(n)
    possible = (sets[:, None] & bits) > 0
    size = possible.sum(1, keepdim=True).clamp(min=1).to(torch.float64)
    hint = possible.to(torch.float64) @ task.hints().to(torch.float64) / size.squeeze(1)
    without = sets[:, None] & ~bits
    values, tables = torch.zeros(2**n, dtype=torch.float64), [torch.zeros(2**n, n + 1, dtype=torch.float64)]
    for left in range(1, task.num_pulls + 1):
        chance = possible / size
        # once the target is known there is nothing better than to pull it
        hit, miss = task.high * left, task.low + values[without]
        pull = chance * hit + (1 - chance) * miss
        tell = hint + task.high * (left - 1)
        table = torch.cat([pull, tell[:, None]], dim=1)
        table[0] = 0
        tables.append(table)
        values = table.amax(1)
    return tuple(tables)


def informative_thompson_return(task: InformativeBanditTask) -> float:
    """Expected return of posterior sampling on every pull: the informative arm is never the best, so never pulled."""
    found = torch.arange(1, task.num_pulls + 1).clamp(max=task.num_targets) / task.num_targets
    return float((task.low + (task.high - task.low) * found).sum())
