"""Exact posteriors as numbers that a filter can go on from: what the belief in an agent's memory is compared with.

The filters also take numbers that are no posterior quite, as a map from memory gives them, and make the best of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.play_trials import TrialRollout
from planprobe.subjects.envs.bandit import CORRELATED_MEANS, BanditTask
from planprobe.subjects.envs.doors import DoorsTask
from planprobe.subjects.envs.hidden_goal import GOAL_REWARD, HiddenGoalTask, goal_squares
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.envs.sokoban_trial import NUM_PERMUTATIONS
from planprobe.subjects.references.bandit_beliefs import make_bandit_belief, walk_matrix
from planprobe.subjects.references.causal_players import CausalBelief
from planprobe.subjects.references.door_values import DoorModel
from planprobe.subjects.references.permutation_belief import (
    paying_ranks,
    permutation_likelihood,
    prior_permutations,
)
from planprobe.subjects.references.two_step_belief import TwoStepBelief

KINDS = ("bandit", "informative-bandit", "hidden-goal", "doors", "two-step", "causal", "sokoban-trial")
Update = Callable[[Tensor, int], Tensor]
"""(numbers (N, V) float64, step t) -> numbers after the action at t and what came of it, for a rollout's trials."""
_FLOOR = 1e-9  # of a chance, so that one that was wrongly guessed to be 0 can come back


@dataclass(frozen=True)
class ExactBelief:
    """The posterior before each step of N trials.

    numbers (N, T, V) float64, named by `names`. update: see `Update`. psi (N,) int64 and psi_chances (N, T, classes)
    float64, the posterior over it: where psi is one of so many classes and stays the same for the trial, else None.
    """

    numbers: Tensor
    names: tuple[str, ...]
    update: Update
    psi: Tensor | None = None
    psi_chances: Tensor | None = None


def exact_belief(task: Any, rollout: TrialRollout) -> ExactBelief:
    """The exact posterior along what was done in a rollout. Raises: RecipeError (a task without such a filter)."""
    make: Callable[[Any, TrialRollout], tuple[Tensor, tuple[str, ...], Update]]
    if isinstance(task, BanditTask):
        make = {"independent": _beta, "correlated": _correlated, "restless": _restless}[task.structure]
    elif task.kind in KINDS:
        make = {
            "informative-bandit": _informative, "hidden-goal": _goal, "doors": _doors, "two-step": _two_step,
            "causal": _causal, "sokoban-trial": _permutation,
        }[task.kind]  # fmt: skip
    else:
        raise RecipeError(f"the exact belief of '{task.kind}' is not kept in numbers; it is for {', '.join(KINDS)}.")
    prior, names, update = make(task, rollout)
    num_trials, num_steps = rollout.actions.shape
    numbers, course = prior.to(torch.float64).expand(num_trials, -1).clone(), []
    for t in range(num_steps):
        course.append(numbers)
        # a trial that is over teaches nothing more
        numbers = torch.where(rollout.active[:, t, None], update(numbers, t), numbers)
    numbers = torch.stack(course, dim=1)
    return ExactBelief(numbers, names, update, *_psi(task, rollout, numbers))


def _psi(task: Any, rollout: TrialRollout, numbers: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if task.kind == "hidden-goal":
        return rollout.latents["goal"], numbers
    if task.kind == "doors":
        return rollout.latents["door"], numbers
    if task.kind == "informative-bandit":
        return rollout.latents["target"], numbers
    if task.kind == "sokoban-trial":
        return rollout.latents["permutation_id"], numbers.unflatten(2, (-1, len(paying_ranks(task)))).sum(3)
    if task.kind == "bandit" and task.structure != "restless":
        belief, chances = make_bandit_belief(task), []
        belief.begin(len(numbers))
        for t in range(numbers.shape[1]):
            chances.append(belief.chance_best())
            belief.see(rollout.actions[:, t], rollout.rewards[:, t])
        return rollout.latents["best_arm"], torch.stack(chances, dim=1)
    return None, None


def _beta(task: BanditTask, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """Mean of each arm's Beta and the log of its weight (two plus its pulls)."""
    arms = range(task.num_arms)
    prior = torch.cat([torch.full((task.num_arms,), 0.5), torch.full((task.num_arms,), 2.0).log()])

    def update(numbers: Tensor, t: int) -> Tensor:
        pulled = torch.nn.functional.one_hot(rollout.actions[:, t], task.num_arms).to(numbers.dtype)
        return _count(numbers, pulled, rollout.rewards[:, t, None])

    return prior, (*(f"mean of arm {k}" for k in arms), *(f"log weight of arm {k}" for k in arms)), update


def _count(numbers: Tensor, seen: Tensor, paid: Tensor) -> Tensor:
    """One more observation, where `seen` (N, K) is one, in numbers (N, 2 K) of means and log weights."""
    mean, weight = numbers.chunk(2, dim=1)
    mean, weight = mean.clamp(0, 1), weight.exp().clamp(min=2)
    after = weight + seen
    return torch.cat([(mean * weight + seen * paid) / after, after.log()], dim=1)


def _correlated(task: BanditTask, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """Of the first arm, of which every pull tells: mean and log weight, or log odds that it is the better one."""

    def speaks_for(t: int) -> Tensor:
        return (rollout.rewards[:, t] == (rollout.actions[:, t] == 0)).to(torch.float64)[:, None]

    if task.preset == "uniform":
        prior = torch.tensor([0.5, 2.0]).double()
        prior[1] = prior[1].log()
        return prior, ("mean of arm 0", "log weight"), lambda numbers, t: _count(
            numbers, torch.ones_like(speaks_for(t)), speaks_for(t)
        )  # fmt: skip
    low, high = CORRELATED_MEANS[task.preset]
    step = torch.tensor(high / low).double().log()
    return torch.zeros(1), ("log odds of arm 0",), lambda numbers, t: numbers + step * (2 * speaks_for(t) - 1)


def _restless(task: BanditTask, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """The chance of each level of each arm."""
    values, walk = torch.linspace(0, 1, task.num_levels, dtype=torch.float64), walk_matrix(task)
    names = tuple(f"P(arm {k} on level {level})" for k in range(task.num_arms) for level in range(task.num_levels))

    def update(numbers: Tensor, t: int) -> Tensor:
        levels = numbers.clamp(min=0).unflatten(1, (task.num_arms, task.num_levels)) + _FLOOR
        paid = rollout.rewards[:, t, None, None] > 0
        pulled = torch.nn.functional.one_hot(rollout.actions[:, t], task.num_arms).bool()[:, :, None]
        levels = torch.where(pulled, levels * torch.where(paid, values, 1 - values), levels)
        return (levels / levels.sum(2, keepdim=True) @ walk).flatten(1)

    return torch.full((len(names),), 1 / task.num_levels), names, update


def _informative(task: InformativeBanditTask, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """The chance of each target."""
    arms = torch.arange(task.num_targets)

    def update(numbers: Tensor, t: int) -> Tensor:
        actions, rewards = rollout.actions[:, t, None], rollout.rewards[:, t, None]
        told = (task.hints() - rewards).abs() < 0.01
        agrees = torch.where(rewards == task.high, arms == actions, arms != actions)
        return _weigh(numbers, torch.where(actions == task.num_targets, told, agrees).to(torch.float64))

    return torch.full((task.num_targets,), 1 / task.num_targets), tuple(f"P(target {k})" for k in arms.tolist()), update


def _goal(task: HiddenGoalTask, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """The chance of each square."""
    goals = goal_squares(task.size) if task.goal is None else torch.arange(task.size**2) == task.goal
    squares = torch.arange(task.size**2)

    def update(numbers: Tensor, t: int) -> Tensor:
        paid = (rollout.rewards[:, t] == GOAL_REWARD).to(torch.float64)[:, None]
        rates = torch.where(rollout.extras["square"][:, t, None] == squares, task.hit_rate, task.false_rate)
        return _weigh(numbers * goals, paid * rates + (1 - paid) * (1 - rates), where=goals)

    return goals / goals.sum(), tuple(f"P(goal on {square})" for square in squares.tolist()), update


def _doors(task: DoorsTask, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """The chance of each map: those under which all would have looked as it did."""
    model, door, squares = DoorModel.of(task), rollout.latents["door"], rollout.extras["square_before"]

    def agree(told: Tensor) -> Tensor:
        """Maps that tell what the true one tells, (N, M) bool, of (M, N)."""
        return (told == told.gather(0, door[None])).T

    def update(numbers: Tensor, t: int) -> Tensor:
        before, actions = squares[:, t], rollout.actions[:, t]
        seen, ended = agree(model.seen[:, before, actions]), rollout.episode_done[:, t, None]
        solved = agree(model.at_goal[:, before, actions])  # of where an episode ends nothing else is seen
        if t + 1 < squares.shape[1]:
            solved &= agree(model.at_start[:, squares[:, t + 1]])
        return _weigh(numbers, torch.where(ended, solved, seen).to(torch.float64))

    start = agree(model.at_start[:, squares[:, 0]]).to(torch.float64)
    return start / start.sum(1, keepdim=True), tuple(f"P(door {k} is open)" for k in range(task.num_doors)), update


def _two_step(task: Any, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """The chance of each combination of good state and transitions."""
    if task.show_map:
        raise RecipeError("the exact belief of a two-step task whose map is shown is not kept in numbers.")
    belief = TwoStepBelief(task)

    def update(numbers: Tensor, t: int) -> Tensor:
        if t % 2 == 0:  # a choice; what it led to is taken in with the payment
            return numbers
        numbers = numbers.clamp(min=0) + _FLOOR * (belief.start > 0)
        belief.chances = numbers / numbers.sum(1, keepdim=True)
        belief.see_round(rollout.actions[:, t - 1], rollout.extras["state"][:, t], rollout.rewards[:, t])
        return belief.chances

    names = tuple(f"P(state {c & 1} pays{', swapped' if c >> 1 else ''})" for c in range(len(belief.start)))
    return belief.start, names, update


def _causal(task: Any, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """The chance of each graph."""
    belief = CausalBelief(task)
    number = len(belief.graphs)

    def update(numbers: Tensor, t: int) -> Tensor:
        if bool(rollout.extras["quiz"][:, t].any()):  # the last step, in all trials
            return numbers
        settings, outcomes = (rollout.extras[name][:, t] for name in ("setting", "outcome"))
        return _weigh(numbers, belief.graphs.outcomes[:, settings, outcomes].T)

    return torch.full((number,), 1 / number), tuple(f"P(graph {graph})" for graph in range(number)), update


def _permutation(task: Any, rollout: TrialRollout) -> tuple[Tensor, tuple[str, ...], Update]:
    """The chance of each permutation of the moves, and of which target pays where one does."""
    if rollout.observations is None or rollout.observations.shape[2] < len(Sokoban.planes):
        raise RecipeError("the exact belief of Sokoban trials is read from the boards: keep the observations.")
    views = rollout.observations[:, :, : len(Sokoban.planes)]
    views = torch.cat([views, views[:, -1:]], dim=1)  # nothing is shown after the last step, which ends the trial
    solved = rollout.episode_done & rollout.success.gather(1, rollout.episodes)
    prior = prior_permutations(task, 1)[0].flatten()
    possible = prior > 0

    def update(numbers: Tensor, t: int) -> Tensor:
        fits = permutation_likelihood(
            views[:, t], rollout.actions[:, t], rollout.rewards[:, t], solved[:, t], rollout.episode_done[:, t],
            views[:, t + 1], task,
        ).flatten(1)  # fmt: skip
        return _weigh(numbers * possible, fits.to(torch.float64), where=possible)

    ranks = [f", target {rank} pays" if task.one_pays else "" for rank in paying_ranks(task)]
    names = tuple(f"P(permutation {k}{rank})" for k in range(NUM_PERMUTATIONS) for rank in ranks)
    return prior, names, update


def _weigh(numbers: Tensor, likelihood: Tensor, *, where: Tensor | None = None) -> Tensor:
    """Posterior chances from prior ones, which may be rough."""
    floor = _FLOOR if where is None else _FLOOR * where
    joint = (numbers.clamp(min=0) + floor) * likelihood
    total = joint.sum(1, keepdim=True)
    return torch.where(total > 0, joint / total.clamp(min=1e-300), numbers)
