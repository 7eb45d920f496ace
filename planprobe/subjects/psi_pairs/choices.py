"""Pairs that differ in psi, for tasks where the agent chooses: which arm pays, which state pays.

Both runs make the same choices, with the same luck; what is paid differs. Best is what the exact posterior makes of
that, whatever psi was: pairs in which both runs were misled, or not told anything, are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.envs.two_step import HELD_OUT, TwoStepTask
from planprobe.subjects.psi_pairs.histories import Led, PsiCandidates, lead, one_hot
from planprobe.subjects.references.two_step_belief import TwoStepBelief

MOST_PULLS = 3  # of each arm
MOST_ROUNDS = 6  # of the two-step task
_TARGET = 343


def draw_arms(task: BanditTask, inputs: Inputs, num_trials: int, seed: int) -> PsiCandidates:
    """The best and the worst arm trade places; every arm is pulled equally often, so the one that paid most is best.

    Raises: RecipeError (arms that wander, or too few pulls to try all of them).
    """
    rounds = min(MOST_PULLS, (task.num_pulls - 1) // task.num_arms)
    if task.structure == "restless" or rounds < 1:
        raise RecipeError(
            f"pairs that differ in which arm is best need arms that stay as they are, and {task.num_arms + 1} pulls."
        )
    env = task.make_env(num_trials, seed=seed, autoreset=False)
    env.reset()
    best, worst = env.means.argmax(1, keepdim=True), env.means.argmin(1, keepdim=True)
    traded = env.means.scatter(1, best, env.means.gather(1, worst)).scatter(1, worst, env.means.gather(1, best))
    forced = torch.arange(task.num_arms).repeat(rounds).expand(num_trials, -1)
    runs: list[Led] = []
    for means in (env.means, traded):

        def set_psi(env, means=means) -> None:
            env.means = means.clone()

        runs.append(lead(task, inputs, forced, set_psi, seed=seed))
    found = []
    for run in runs:
        paid = run.rewards.view(num_trials, rounds, task.num_arms).sum(1)
        leads = paid == paid.amax(1, keepdim=True)
        found.append(leads & (leads.sum(1, keepdim=True) == 1))
    clean, corrupted = (run.observations for run in runs)
    return PsiCandidates(clean, corrupted, *found, told=torch.ones(num_trials, dtype=torch.bool))


def draw_targets(task: InformativeBanditTask, inputs: Inputs, num_trials: int, seed: int) -> PsiCandidates:
    """The informative arm is pulled, and names one target or another; then an arm that is neither, so that the last pay
    is the same.

    Raises: RecipeError (too few pulls, or arms).
    """
    if task.num_pulls < 3 or task.num_targets < 3:
        raise RecipeError(
            "pairs that differ in the target need three pulls (to be told, to wait, to choose), four arms."
        )
    numbers = torch.arange(num_trials)
    clean = draw_below(task.num_targets, seed, _TARGET, numbers, 0)
    corrupted = (clean + 1 + draw_below(task.num_targets - 1, seed, _TARGET, numbers, 1)) % task.num_targets
    best = [one_hot(target, task.num_arms) for target in (clean, corrupted)]
    neither = (best[0] | best[1]).to(torch.uint8).argmin(1)
    forced = torch.stack([torch.full_like(neither, task.num_targets), neither], dim=1)
    runs = []
    for target in (clean, corrupted):

        def set_psi(env, target=target) -> None:
            env.target = target.clone()

        runs.append(lead(task, inputs, forced, set_psi, seed=seed).observations)
    return PsiCandidates(*runs, *best, told=clean != corrupted)


def draw_states(task: TwoStepTask, inputs: Inputs, num_trials: int, seed: int) -> PsiCandidates:
    """The other state pays, from the start on; choices take turns, and transitions are the same, swaps and all.

    Raises: RecipeError (too few rounds).
    """
    rounds = min(MOST_ROUNDS, task.num_rounds - 1)
    if rounds < 2:
        raise RecipeError("pairs that differ in which state pays need three rounds: both choices tried, and one more.")
    turns = torch.stack([torch.arange(rounds) % 2, torch.zeros(rounds, dtype=torch.int64)], dim=1).flatten()
    forced, runs, best = turns.expand(num_trials, -1), [], []
    told = torch.ones(num_trials, dtype=torch.bool)
    for flip in (0, 1):

        def set_psi(env, flip=flip) -> None:
            env.psi = env.psi ^ flip
            told.logical_and_((env.psi != HELD_OUT) | (not task.hold_out))

        led = lead(task, inputs, forced, set_psi, seed=seed)
        belief = TwoStepBelief(task)
        belief.begin(num_trials)
        for start in range(0, 2 * rounds, 2):
            _show_map(belief, task, inputs, led.observations[:, start])
            belief.see_round(forced[:, start], led.extras["state"][:, start], led.rewards[:, start + 1])
        _show_map(belief, task, inputs, led.observations[:, -1])
        runs.append(led.observations)
        best.append(one_hot(belief.chance_best().argmax(1), 2))
    return PsiCandidates(*runs, *best, told=told)


def _show_map(belief: TwoStepBelief, task: TwoStepTask, inputs: Inputs, observation: Tensor) -> None:
    """Where the agent is shown which way the transitions are, (N, F, 1, 1): the last of what it sees of the task."""
    if task.show_map and inputs.observation:
        belief.see_map((observation[:, 3, 0, 0] > 0.5).to(torch.int64))
