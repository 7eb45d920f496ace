"""What is measured on some tasks alone, beside returns: closeness to the Bayes-optimal policy, first choices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.play_trials import play_trials
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.trial_catalog import TEST_SEED, TrialTask, make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.references.bandit_values import BanditValues, bayes_values, policy_divergence
from planprobe.subjects.references.catalog import BAYES, THOMPSON, has_bayes_table
from planprobe.subjects.references.play import play_reference
from planprobe.subjects.scorecard import mean_interval

DIVERGENCE = "KL from the Bayes-optimal policy, nats a pull"
INFORMATIVE_FIRST = "chance of the informative arm at the first pull"


def task_rows(policy: Policy, task: TrialTask, inputs: Inputs, num_trials: int) -> list[Row]:
    """Rows of the measures that a task has of its own."""
    if has_bayes_table(task):
        return divergence_rows(policy, task, inputs, num_trials)  # pyright: ignore[reportArgumentType]
    if isinstance(task, InformativeBanditTask):
        rollout = play_trials(policy, make_trial_env(task, inputs, num_trials))
        chances = rollout.logits[:, 0].softmax(-1)[:, -1]
        return [
            _row(INFORMATIVE_FIRST, "sampled", *mean_interval(chances)),
            _row(INFORMATIVE_FIRST, BAYES, 1.0, 1.0, 1.0, num_trials),
            _row(INFORMATIVE_FIRST, THOMPSON, 0.0, 0.0, 0.0, num_trials),
        ]
    return []


def divergence_rows(policy: Policy, task: BanditTask, inputs: Inputs, num_trials: int) -> list[Row]:
    """KL(Bayes-optimal || policy) on histories of Bayes-optimal play, the mean over pulls; Thompson's is exact."""
    from planprobe.subjects.references.bandit_players import CountPlayer
    from planprobe.subjects.references.bandit_policies import thompson_policy

    values = bayes_values(task.num_arms, task.num_pulls)
    played: list[Tensor] = []
    player = CountPlayer(values.policy)
    play_reference(player, task, num_trials, TEST_SEED, on_step=lambda t, actions, result: played.append(actions))
    rollout = play_trials(policy, make_trial_env(task, inputs, num_trials), forced=torch.stack(played, dim=1))
    found = divergence(values, rollout.actions, rollout.rewards, rollout.logits)
    exact = policy_divergence(thompson_policy, task.num_arms, task.num_pulls)
    return [
        _row(DIVERGENCE, "sampled", *mean_interval(found)),
        _row(DIVERGENCE, THOMPSON, exact, exact, exact, num_trials),
    ]


def divergence(values: BanditValues, actions: Tensor, rewards: Tensor, logits: Tensor) -> Tensor:
    """Mean over pulls of KL(Bayes-optimal || policy) on each history (N,).

    actions, rewards (N, T); logits (N, T, K).
    """
    pulled = F.one_hot(actions, values.num_arms)
    paid = (pulled * rewards[..., None]).round().to(torch.int64)
    before = [part.cumsum(1) - part for part in (paid, pulled - paid)]  # counts at each pull, (N, T, K)
    best = values.policy(*(part.flatten(0, 1) for part in before)).view(*actions.shape, -1)
    log_policy = logits.double().log_softmax(-1)
    return (torch.special.xlogy(best, best) - best * log_policy).sum(-1).mean(1)


def _row(measure: str, policy: str, value: float, low: float, high: float, n: int) -> Row:
    label: Row = {"measure": measure, "episode": "all", "policy": policy, "memory": "kept"}
    return {**label, "value": value, "low": low, "high": high, "n": n}
