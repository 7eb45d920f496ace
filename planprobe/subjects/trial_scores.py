"""The numbers that an agent with trials is published with: return, success and length of each episode of a trial.

One row a number, as in `scorecard`: what was measured, in which episode, how the agent acted, and what became of its
memory. Every condition plays the same trials. Memory that is reset at episode ends is the control for what is carried
from one episode to the next, memory that is reset each step for memory at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.subjects.envs.trial_catalog import TEST_SEED, TrialTask, held_out, make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.references.catalog import reference_players
from planprobe.subjects.references.play import Player, play_reference
from planprobe.subjects.scorecard import Z_95, mean_interval, proportion_interval
from planprobe.subjects.trial_measures import task_rows

NUM_TRIALS = 1000
RETURN, SUCCESS, LENGTH, LENGTH_RATIO = "return", "solved", "steps", "steps, over those of episode 1"
WHOLE_TRIAL = "all"
_MEMORY = {"kept": "never", "reset at episode ends": "each episode", "reset each step": "each step"}


@dataclass(frozen=True)
class TrialCondition:
    """How an agent plays: sampled or greedy; memory kept, 'reset at episode ends' or 'reset each step'."""

    policy: str = "sampled"
    memory: str = "kept"

    def options(self) -> dict:
        """As options of `core.play_trials.play_trials`."""
        return {"greedy": self.policy == "greedy", "reset_memory": _MEMORY[self.memory]}


def trial_conditions(num_episodes: int) -> list[TrialCondition]:
    """Every way of playing that is measured; with one episode there are no ends at which to reset."""
    memories = [memory for memory, reset in _MEMORY.items() if num_episodes > 1 or reset != "each episode"]
    return [TrialCondition(policy, memory) for policy in ("sampled", "greedy") for memory in memories]


def compute_trial_scores(
    policy: Policy,
    task: TrialTask,
    inputs: Inputs,
    *,
    num_trials: int = NUM_TRIALS,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Play the same held-out trials under every condition; rows of reference players stand beside them.

    on_progress(done, total): called after each condition.
    Returns: {'num_levels': trials, 'level_hashes': {'trials': sha256 of their psi}, 'rows': [...]}, the keys of
    `scorecard.compute_scores`, so that both kinds of agent are read alike.
    """
    task = held_out(task)
    jobs: list[Callable[[], list[Row]]] = [
        partial(_condition_rows, policy, task, inputs, num_trials, condition)
        for condition in trial_conditions(make_trial_env(task, inputs, 1).num_episodes)
    ]
    jobs += [partial(_player_rows, name, player, task, num_trials) for name, player in reference_players(task).items()]
    jobs.append(partial(task_rows, policy, task, inputs, num_trials))
    rows: list[Row] = []
    for done, job in enumerate(jobs, start=1):
        rows += job()
        if on_progress:
            on_progress(done, len(jobs))
    return {"num_levels": num_trials, "level_hashes": {"trials": hash_trials(task, num_trials)}, "rows": rows}


def play_condition(
    policy: Policy, task: TrialTask, inputs: Inputs, num_trials: int, condition: TrialCondition, **options
) -> TrialRollout:
    """The trials of a task that agents are measured on; options of `play_trials`."""
    return play_trials(policy, make_trial_env(task, inputs, num_trials), **condition.options(), **options)


def score_trials(rollout: TrialRollout, condition: TrialCondition) -> list[Row]:
    """Return of the trial and of each episode, share of episodes solved, and their length, alone and over the first's.

    A ratio of lengths is one of means, with Fieller's interval. Tasks whose episodes are all equally long and never
    solved have returns alone.
    """
    played = asdict(condition)
    rows = return_rows(rollout.episode_returns, **played)
    lengths = rollout.episode_lengths.to(torch.float64)
    if not bool(rollout.success.any()) and bool((lengths == lengths[0, 0]).all()):
        return rows
    for episode in range(lengths.shape[1]):
        label = {"episode": episode + 1, **played}
        rows.append(_row(SUCCESS, label, *proportion_interval(rollout.success[:, episode])))
        rows.append(_row(LENGTH, label, *mean_interval(lengths[:, episode])))
        if episode:
            rows.append(_row(LENGTH_RATIO, label, *ratio_interval(lengths[:, episode], lengths[:, 0])))
    return rows


def return_rows(returns: Tensor, *, policy: str, memory: str = "kept") -> list[Row]:
    """Mean return of the trial and of each of its episodes; returns (N, E). Also for reference players, by name."""
    played = {"policy": policy, "memory": memory}
    rows = [_row(RETURN, {"episode": WHOLE_TRIAL, **played}, *mean_interval(returns.sum(1)))]
    if returns.shape[1] > 1:
        for episode, column in enumerate(returns.unbind(1), start=1):
            rows.append(_row(RETURN, {"episode": episode, **played}, *mean_interval(column)))
    return rows


def find_trial_score(
    metrics: dict, measure: str = RETURN, *, episode: int | str = WHOLE_TRIAL, **condition
) -> Row | None:
    """The row of a scorecard under a condition (fields of `TrialCondition`), or None where it was not measured."""
    wanted = {"measure": measure, "episode": episode, **asdict(TrialCondition(**condition))}
    return next((row for row in metrics.get("rows", []) if wanted.items() <= row.items()), None)


def hash_trials(task: TrialTask, num_trials: int) -> str:
    """sha256 over psi of the trials that agents are measured on: the identity stored beside every result."""
    env = task.make_env(num_trials, seed=TEST_SEED, autoreset=False)
    env.reset()
    digest = hashlib.sha256(task.kind.encode())
    for name, value in sorted(env.latents().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def ratio_interval(values: Tensor, bases: Tensor) -> tuple[float, float, float, int]:
    """Ratio of the means of paired values (N,) with its 95 % interval after Fieller 1954, cut to positive ratios.

    Source: Fieller, Some problems in interval estimation, 1954.
    """
    values, bases = values.to(torch.float64), bases.to(torch.float64)
    n, top, bottom = len(values), float(values.mean()), float(bases.mean())
    ratio = top / bottom
    if n < 2:
        return ratio, ratio, ratio, n
    var_top, var_bottom = float(values.var()) / n, float(bases.var()) / n
    covariance = float(((values - top) * (bases - bottom)).sum()) / (n - 1) / n
    z2 = Z_95**2
    a, b, c = bottom**2 - z2 * var_bottom, top * bottom - z2 * covariance, top**2 - z2 * var_top
    half = max(b * b - a * c, 0.0) ** 0.5
    return ratio, max((b - half) / a, 0.0), (b + half) / a, n


def _condition_rows(
    policy: Policy, task: TrialTask, inputs: Inputs, num_trials: int, condition: TrialCondition
) -> list[Row]:
    return score_trials(play_condition(policy, task, inputs, num_trials, condition), condition)


def _player_rows(name: str, player: Player, task: TrialTask, num_trials: int) -> list[Row]:
    return return_rows(play_reference(player, task, num_trials, TEST_SEED), policy=name)


def _row(measure: str, label: dict, value: float, low: float, high: float, n: int) -> Row:
    return {"measure": measure, **label, "value": value, "low": low, "high": high, "n": n}
