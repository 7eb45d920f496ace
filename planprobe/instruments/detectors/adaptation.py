"""D11, adaptation: does an agent become better within a trial, by what it remembers of this very task?

A trial is cut in stages: its episodes, or five equal runs of steps where it has one episode. What the agent gains from
the first stage to the last, over what there was to be gained, is its adaptation. Getting better alone is no evidence:
late stages of a task may be easier, and an agent may warm up. So the same trials are played with memory that is reset,
and with a memory of another task: the task is redrawn at every episode end or, within one episode, boards exchange
their memories before the last stage. Adapting is compatible with planning and no sign of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import AddressError, ShapeError, TooFewLevelsError
from planprobe.core.play_trials import TrialEnvironment, TrialRollout, play_trials
from planprobe.core.protocols import Policy, State
from planprobe.core.records import Effect, Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.proportions import power_of_interval
from planprobe.instruments.statistics.stats import (
    bootstrap_table,
    cluster_bootstrap,
    difference_over_best,
    ratio,
)

CLAIM = "The agent does better late in a trial than at its start, by what it remembers of this very task."
NEEDS = ("trials of a task with a hidden variable",)
KEPT = "memory kept"
RESET_EPISODES, RESET_STEPS = "memory reset at episode ends", "memory reset each step"
REDRAWN, OTHERS = "task redrawn at each episode", "memory of another trial in the last stage"
CONTROLS = (RESET_EPISODES, RESET_STEPS, REDRAWN, OTHERS)
FALSIFIES = "that the agent learns within a trial what its task is"
GAIN_UNIT, SPREAD_UNIT = "share of the possible gain", "gain, in standard deviations of the first stage"

NUM_STAGES = 5  # of a trial with one episode
MIN_TRIALS = 20
MakeTrials = Callable[[int], TrialEnvironment]
"""Number of trials -> an environment without autoreset that plays the same ones every time."""


def run(
    policy: Policy,
    make_trials: MakeTrials,
    *,
    num_trials: int = 1000,
    best: np.ndarray | None = None,
    judged_stage: int | None = None,
    min_effect: float,
    greedy: bool = False,
    seed: int = 0,
) -> Evidence:
    """Play the same trials with memory kept and under every control, and compare what is gained within a trial.

    Args:
        best: score of each stage by a player that knows as much as can be known, on the same trials, (N, S) or more
            stages; without one the gain is counted in standard deviations of the first stage.
        judged_stage: the one that is compared with the first, counted from 1; the last unless told otherwise.
        min_effect: smallest gain of interest. greedy: the likeliest action in place of a sample. seed: of samples.
    Returns: effect = the gain over the possible gain; controls likewise; rows: the score of each stage.
    Raises: TooFewLevelsError; ShapeError (`best` of other trials); AddressError (no such stage).
    """
    rollouts = play_conditions(policy, make_trials, num_trials, greedy=greedy, seed=seed)
    recurrent = bool(policy.initial_state(1, (make_trials(1).height, make_trials(1).width)))
    options = {"judged_stage": judged_stage, "min_effect": min_effect, "seed": seed}
    return judge(rollouts, best=best, recurrent=recurrent, **options)


def play_conditions(
    policy: Policy, make_trials: MakeTrials, num_trials: int, *, greedy: bool = False, seed: int = 0
) -> dict[str, TrialRollout]:
    """The same trials by condition: memory kept, and every control that the task leaves room for."""
    if num_trials < MIN_TRIALS:
        raise TooFewLevelsError(f"adaptation needs {MIN_TRIALS} trials or more, got {num_trials}.")

    def play(player: Policy = policy, **options) -> TrialRollout:
        return play_trials(player, make_trials(num_trials), greedy=greedy, seed=seed, **options)

    played = {KEPT: play(), RESET_STEPS: play(reset_memory="each step")}
    if played[KEPT].episode_returns.shape[1] > 1:
        return played | {RESET_EPISODES: play(reset_memory="each episode"), REDRAWN: play(redraw_task=True)}
    num_steps = played[KEPT].actions.shape[1]
    num_stages = min(NUM_STAGES, num_steps)
    last_stage_begins = -(-num_steps * (num_stages - 1) // num_stages)
    return played | {OTHERS: play(ExchangedMemory(policy, last_stage_begins))}


def judge(
    rollouts: dict[str, TrialRollout],
    *,
    best: np.ndarray | None = None,
    judged_stage: int | None = None,
    min_effect: float,
    recurrent: bool = True,
    seed: int = 0,
) -> Evidence:
    """Evidence from what `play_conditions` played; arguments of `run`."""
    scores = {name: stage_scores(rollout) for name, rollout in rollouts.items()}
    stage = _check(scores[KEPT], best, judged_stage)
    unit = GAIN_UNIT if best is not None else SPREAD_UNIT
    gains = {name: pair_gains(score, best, stage) for name, score in scores.items()}
    effects = {name: share_of_gain(gain, unit=unit, seed=seed) for name, gain in gains.items()}
    effect, controls = effects[KEPT], {name: part for name, part in effects.items() if name != KEPT}
    best_control, beyond = difference_over_best(
        gains[KEPT], {name: gains[name] for name in controls}, ratio, unit=unit, seed=seed
    )
    beyond = replace(beyond, n=len(gains[KEPT]))
    power = find_power(beyond, min_effect=min_effect)
    measured = recurrent and not math.isnan(beyond.value)
    notes = [f"Judged from stage 1 to {stage + 1} of {scores[KEPT].shape[1]}. Best control: {best_control}."]
    if not recurrent:
        notes.append("The net has no memory: what it gains, it gains by the world, and that is no evidence of memory.")
    if math.isnan(beyond.value):
        notes.append(
            "Too little to be gained after the first stage in these trials for a share of it to mean anything."
        )
    return Evidence(
        detector="D11", name="adaptation", claim=CLAIM, effect=effect, controls=controls, beyond_controls=beyond,
        min_effect=min_effect, power=power, falsifies=FALSIFIES, rows=_rows(scores, seed), notes=notes,
        outcome=decide(beyond, min_effect=min_effect, power=power) if measured else "inconclusive",
    )  # fmt: skip


def stage_scores(rollout: TrialRollout) -> np.ndarray:
    """Score of each stage of each trial (N, S) float64: return of an episode, or of a fifth of the only one."""
    if rollout.episode_returns.shape[1] > 1:
        return rollout.episode_returns.double().cpu().numpy()
    return score_fifths(rollout.rewards, rollout.active)


def score_fifths(rewards: Tensor, active: Tensor, *, per_step: bool = False) -> np.ndarray:
    """Reward in each fifth of each trial's own steps (N, 5) float64; fewer parts where a trial has fewer steps.

    rewards (N, T); active (N, T) bool. per_step: the mean of a step in place of the sum.
    """
    lengths = active.sum(1, keepdim=True)
    num_stages = min(NUM_STAGES, int(lengths.min()))
    place = torch.arange(rewards.shape[1], device=rewards.device).expand_as(rewards)
    stage = torch.where(active, place * num_stages // lengths, num_stages)  # what is over goes to one stage too many
    member = F.one_hot(stage.clamp(max=num_stages), num_stages + 1)[..., :-1].double()
    total = torch.einsum("nt,nts->ns", rewards.double(), member)
    return (total / member.sum(1) if per_step else total).cpu().numpy()


def learning_score(rewards: Tensor, active: Tensor) -> np.ndarray:
    """In-context-learning score of each trial (N,): reward a step in the last fifth of its steps less the first fifth.

    rewards (N, T); active (N, T) bool.
    Source: after Olsson et al. 2022, who compare the loss late and early in a context.
    """
    scores = score_fifths(rewards, active, per_step=True)
    return scores[:, -1] - scores[:, 0]


class ExchangedMemory:
    """A policy whose boards exchange memories before one step: from then on each goes on with another trial's.

    Args: step: of the trial, counted from 0. Boards must be at the same step of their trials.
    """

    def __init__(self, policy: Policy, step: int) -> None:
        self.policy, self.at, self.elapsed = policy, step, 0

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        self.elapsed = 0
        return self.policy.initial_state(num_boards, board)

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        if self.elapsed == self.at:
            state = tuple(part.roll(1, dims=0) for part in state)
        self.elapsed += 1
        return self.policy.step(observation, state)


def pair_gains(scores: np.ndarray, best: np.ndarray | None, stage: int) -> np.ndarray:
    """What was gained in each trial from the first stage to another, and what could have been, (N, 2).

    scores, best: as `stage_scores` gives them, and as `run` takes it. stage: counted from 0.
    """
    first = scores[:, 0]
    room = np.full_like(first, first.std()) if best is None else best[:, stage] - first
    return np.stack([scores[:, stage] - first, room], axis=1)


def share_of_gain(gains: np.ndarray, *, unit: str = GAIN_UNIT, seed: int = 0) -> Effect:
    """Adaptation index: what was gained over what could have been, with its interval over trials; of `pair_gains`."""
    return replace(cluster_bootstrap(gains, ratio, unit=unit, seed=seed), n=len(gains))


def find_power(beyond: Effect, *, min_effect: float) -> float:
    """Chance that an effect of `min_effect` would have been seen, from the width of the interval.

    Where no trial differs from another there is no width: n such trials exclude what befalls more than 3 / n of all
    (rule of three), and nothing else.
    """
    power = power_of_interval(beyond, min_effect=min_effect)
    if math.isnan(power):
        return float(beyond.low == beyond.high and 3 / beyond.n < min_effect)
    return power


def _check(scores: np.ndarray, best: np.ndarray | None, judged_stage: int | None) -> int:
    """Index of the stage that is judged."""
    num_stages = scores.shape[1]
    if best is not None and (best.ndim != 2 or len(best) != len(scores) or best.shape[1] < num_stages):
        raise ShapeError(f"best must be {scores.shape}, one score a trial and stage, got {best.shape}.")
    stage = num_stages if judged_stage is None else judged_stage
    if not 2 <= stage <= num_stages:
        raise AddressError(f"judged_stage {stage}: a gain is from stage 1 to one of 2 to {num_stages}.")
    return stage - 1


def _rows(scores: dict[str, np.ndarray], seed: int) -> list[Row]:
    return [
        {"condition": name, "stage": stage, "value": mean.value, "low": mean.low, "high": mean.high, "n": len(score)}
        for name, score in scores.items()
        for stage, mean in enumerate(bootstrap_table(score.T, unit="return", seed=seed), start=1)
    ]
