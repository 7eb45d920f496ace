"""What is measured on some tasks alone, beside returns: closeness to the Bayes-optimal policy, first choices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.routes import PAD
from planprobe.subjects.envs.trial_catalog import TEST_SEED, TrialTask, make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.references.bandit_values import BanditValues, bayes_values, policy_divergence
from planprobe.subjects.references.catalog import BAYES, THOMPSON, has_bayes_table
from planprobe.subjects.references.loop_erasure import erase_loops, route_lengths
from planprobe.subjects.references.play import play_reference
from planprobe.subjects.references.two_step_players import stay_table
from planprobe.subjects.scorecard import Z_95, mean_interval, proportion_interval

DIVERGENCE = "KL from the Bayes-optimal policy, nats a pull"
STAY = "stay interaction (no evidence of planning)"
SHORTER = "second path shorter than the loop-erased first"
SHORTENABLE = "loop-erased first path longer than the shortest"
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
    if isinstance(task, MazeTrialTask) and task.num_episodes > 1 and task.start == "fixed":
        return score_second_paths(play_trials(policy, make_trial_env(task, inputs, num_trials)))
    if isinstance(task, TwoStepTask):
        rollout = play_trials(policy, make_trial_env(task, inputs, num_trials))
        common = rollout.extras["common"][:, ::2]
        return [_row(STAY, "sampled", *stay_interval(rollout.actions[:, ::2], common, rollout.rewards[:, 1::2]))]
    return []


def stay_interval(choices: Tensor, common: Tensor, rewards: Tensor) -> tuple[float, float, float, int]:
    """Stay interaction over all rounds with its jackknife interval over trials; arguments of `stay_table`, (N, R)."""
    whole = stay_table(choices, common, rewards).interaction
    stayed = (choices[:, 1:] == choices[:, :-1]).to(torch.float64)
    cell = F.one_hot(2 * common[:, :-1].to(torch.int64) + (rewards[:, :-1] > 0).to(torch.int64), 4).to(torch.float64)
    counts, stays = cell.sum(1), (cell * stayed[..., None]).sum(1)  # of each trial, (N, 4)
    stay = (stays.sum(0) - stays) / (counts.sum(0) - counts)
    without = stay[:, 3] - stay[:, 1] - stay[:, 2] + stay[:, 0]  # leaving out one trial after the other
    n = len(choices)
    half = Z_95 * float(((without - without.mean()) ** 2).sum() * (n - 1) / n) ** 0.5
    return whole, whole - half, whole + half, n


def score_second_paths(rollout: TrialRollout) -> list[Row]:
    """Share of trials whose second path is shorter than the loop-erased first, of those that found the goal twice.

    Replaying a remembered path, with its detours cut out, never gives one. Beside it the share where there is one to be
    had: where the loop-erased first path is no shortest path.
    """
    both = rollout.success[:, 0] & rollout.success[:, 1]
    if not bool(both.any()):
        return []
    erased = route_lengths(erase_loops(first_walks(rollout)[both]))
    walls, goals = rollout.latents["walls"][both], rollout.latents["goal"][both]
    starts = rollout.extras["square_before"][both, 0]
    shortest = distance_maps(walls, goals).flatten(1).gather(1, starts[:, None]).squeeze(1)
    return [
        _row(SHORTER, "sampled", *proportion_interval(rollout.episode_lengths[both, 1] < erased)),
        _row(SHORTENABLE, "sampled", *proportion_interval(shortest < erased)),
    ]


def first_walks(rollout: TrialRollout) -> Tensor:
    """Squares of each first episode in order, start and last one included, (N, T) int64, padded with -1."""
    first = (rollout.episodes == 0) & rollout.active
    walks = torch.where(first, rollout.extras["square_before"], PAD)
    walks = torch.cat([walks, torch.full_like(walks[:, :1], PAD)], dim=1)
    steps = rollout.episode_lengths[:, :1]
    return walks.scatter(1, steps, rollout.extras["square"].gather(1, steps - 1))


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
