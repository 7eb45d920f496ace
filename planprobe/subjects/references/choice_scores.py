"""Histories of bandits, enumerated, and what every exact reading says of the next pull after each of them.

A reading is a score of each action: its value (Bayes-optimal, posterior mean) or the log of its chance (the mixture:
the posterior chance that it is the best one). On enumerated histories an agent is asked about all that can happen, not
only about what it lets happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.protocols import StepResult
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.references.bandit_beliefs import BetaBelief, InformativeBelief, make_bandit_belief
from planprobe.subjects.references.bandit_players import informative_values
from planprobe.subjects.references.bandit_values import bayes_values
from planprobe.subjects.references.catalog import BAYES, GREEDY, THOMPSON, has_bayes_table
from planprobe.subjects.references.play import Player, play_reference

PullTask = BanditTask | InformativeBanditTask
MAX_HISTORIES = 200_000
_FORCE = 511  # stream of the counter-based draws


@dataclass(frozen=True)
class PullHistories:
    """N sequences of D pulls. actions (N, D) int64; rewards (N, D) float32."""

    actions: Tensor
    rewards: Tensor

    def __len__(self) -> int:
        return len(self.actions)

    def prefixes(self, num_pulls: int) -> tuple[Tensor, Tensor]:
        """One sequence for each different beginning that leaves a pull of `num_pulls`: rows (M,) and lengths (M,)."""
        rows, lengths = [], []
        numbers = torch.arange(len(self))
        for length in range(min(self.actions.shape[1], num_pulls - 1) + 1):
            begun = torch.cat([self.actions[:, :length].to(torch.float32), self.rewards[:, :length]], dim=1)
            index = torch.zeros_like(numbers)
            distinct = begun[:1]
            if length:
                distinct, index = begun.unique(dim=0, return_inverse=True)
            first = numbers.new_full((len(distinct),), len(self)).scatter_reduce_(0, index, numbers, "amin")
            rows.append(first)
            lengths.append(torch.full_like(first, length))
        return torch.cat(rows), torch.cat(lengths)


def enumerate_histories(task: PullTask, depth: int) -> PullHistories:
    """Everything that can be pulled and paid in the first `depth` pulls, each sequence once.

    Raises: RecipeError (more than `MAX_HISTORIES` of them, or more pulls than a trial has).
    """
    informative = isinstance(task, InformativeBanditTask)
    outcomes = task.num_targets if informative else 2**depth
    number = task.num_arms**depth * outcomes
    if not 1 <= depth <= task.num_pulls or number > MAX_HISTORIES:
        raise RecipeError(
            f"{depth} pulls of {task.num_arms} arms make {number:,} histories, of a trial of {task.num_pulls} pulls; "
            f"up to {MAX_HISTORIES:,} are enumerated.\n  Ask for a smaller depth."
        )
    pulls = torch.tensor(list(product(range(task.num_arms), repeat=depth)))
    actions = pulls.repeat_interleave(outcomes, dim=0)
    if isinstance(task, InformativeBanditTask):  # what a pull pays follows from the target
        targets = torch.arange(outcomes).repeat(len(pulls))[:, None]
        paid = torch.where(actions == targets, task.high, task.low)
        rewards = torch.where(actions == task.num_targets, task.hints()[targets], paid)
    else:
        rewards = torch.tensor(list(product((0.0, 1.0), repeat=depth))).repeat(len(pulls), 1)
    return PullHistories(actions, rewards.to(torch.float32))


def depth_within(task: PullTask, most: int) -> int:
    """The greatest depth at which no more than `most` sequences are enumerated, and at least one pull."""
    outcomes = 1 if isinstance(task, InformativeBanditTask) else 2
    first = most / (task.num_targets if isinstance(task, InformativeBanditTask) else 1)
    depth = 1
    while depth < task.num_pulls - 1 and (outcomes * task.num_arms) ** (depth + 1) <= first:
        depth += 1
    return depth


class ScriptedPulls(TrialEnv):
    """A bandit that pays what a script says, whatever is pulled, and nothing once the script is over.

    With forced actions it puts an agent through histories of one's choice. latents: none.
    """

    num_planes = 1

    def __init__(self, task: PullTask, rewards: Tensor) -> None:
        super().__init__(
            len(rewards), num_episodes=1, episode_steps=task.num_pulls, device=rewards.device, autoreset=False
        )  # fmt: skip
        self.task, self.num_actions, self.script = task, task.num_arms, rewards

    def _begin_trial(self, ids: Tensor) -> None:
        pass

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        last = self.script.shape[1] - 1
        paid = self.script.gather(1, self.elapsed.clamp(max=last)[:, None]).squeeze(1) * (self.elapsed <= last)
        return paid, torch.zeros_like(active), {}

    def _view(self) -> Tensor:
        return torch.ones(self.num_boards, 1, device=self.device)

    def latents(self) -> dict[str, Tensor]:
        return {}


def draw_histories(task: PullTask, num_trials: int, *, seed: int = 0) -> PullHistories:
    """Whole trials of pulls drawn at random, paid as the task pays: histories of every length."""
    boards, steps = torch.arange(num_trials)[:, None], torch.arange(task.num_pulls)
    actions = draw_below(task.num_arms, seed, _FORCE, boards, steps)
    return _play_out(_Scripted(actions), task, num_trials, seed)


def own_histories(player: Player, task: PullTask, num_trials: int, *, seed: int = 0) -> PullHistories:
    """Whole trials as a player plays them."""
    return _play_out(player, task, num_trials, seed)


def score_readings(task: PullTask, histories: PullHistories) -> dict[str, Tensor]:
    """What each reading says before the first pull and after each of the D pulls, by name: (N, L, K) float64.

    L = D + 1, or D where the sequences are whole trials. Scores are values (Bayes-optimal, greedy) or log chances
    (Thompson). Bayes-optimal is left out where no table of it exists; where both arms of a bandit tell the same of psi,
    it is the greedy reading. Of the informative bandit there is no greedy reading: it does what the mixture does.
    """
    belief = make_bandit_belief(task)
    belief.begin(len(histories))
    found: dict[str, list[Tensor]] = {}
    length = min(histories.actions.shape[1] + 1, task.num_pulls)
    for t in range(length):
        chances = belief.chance_best()
        scores = {THOMPSON: chances.clamp(min=0).log()}
        if isinstance(task, BanditTask):
            scores[GREEDY] = belief.mean()
        if isinstance(belief, InformativeBelief) and isinstance(task, InformativeBanditTask):
            known = belief.candidates.to(torch.int64) @ (2 ** torch.arange(task.num_targets))
            scores[BAYES] = informative_values(task)[task.num_pulls - t][known]
        elif type(belief) is BetaBelief and has_bayes_table(task):
            scores[BAYES] = bayes_values(task.num_arms, task.num_pulls).q_values(belief.successes, belief.failures)
        for name, score in scores.items():
            found.setdefault(name, []).append(score)
        if t < histories.actions.shape[1]:
            belief.see(histories.actions[:, t], histories.rewards[:, t])
    return {name: torch.stack(scores, dim=1) for name, scores in found.items()}


class _Scripted:
    """Takes the actions (N, T) that it is given."""

    def __init__(self, actions: Tensor) -> None:
        self.actions = actions

    def begin(self, env: TrialEnv) -> None:
        self.t = 0

    def act(self) -> Tensor:
        return self.actions[:, self.t]

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        self.t += 1


def _play_out(player: Player, task: PullTask, num_trials: int, seed: int) -> PullHistories:
    steps: list[tuple[Tensor, Tensor]] = []
    play_reference(
        player, task, num_trials, seed, on_step=lambda t, actions, result: steps.append((actions, result.reward))
    )  # fmt: skip
    actions, rewards = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
    return PullHistories(actions, rewards)
