"""Two histories of one trial that differ in psi: how both are led, and which of them make a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.pairs import HistoryPairs
from planprobe.subjects.envs.trial_catalog import TrialTask, make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs


@dataclass(frozen=True)
class Led:
    """What N trials came to under T forced actions.

    observations: (N, T + 1, C, H, W), before each action and after the last. rewards (N, T); ended (N, T) bool, the
    step ended an episode. extras: what the task says of each step, by name, (N, T, ...).
    """

    observations: Tensor
    rewards: Tensor
    ended: Tensor
    extras: dict[str, Tensor]


@dataclass(frozen=True)
class PsiCandidates:
    """N pairs of histories, not all of which may do.

    clean, corrupted: of the same length. clean_best, corrupted_best: (N, A) bool, every best action after each, none
    where that is not known. told: (N,) bool, both histories tell which psi it is.
    """

    clean: Tensor
    corrupted: Tensor
    clean_best: Tensor
    corrupted_best: Tensor
    told: Tensor


def lead(task: TrialTask, inputs: Inputs, actions: Tensor, set_psi: Callable[[Any], None], *, seed: int) -> Led:
    """Play forced actions (N, T) on N trials of a task. set_psi(environment) says what is hidden."""
    env = make_trial_env(task, inputs, len(actions), seed=seed)
    env.reset()
    set_psi(env.env)
    observations, results = [env.observe()], []
    for column in actions.unbind(1):
        results.append(env.step(column))
        observations.append(results[-1].observation)
    extras = {name: torch.stack([each.extras[name] for each in results], dim=1) for name in results[0].extras}
    rewards, ended = (torch.stack(part, 1) for part in zip(*((r.reward, r.episode_done) for r in results), strict=True))
    return Led(torch.stack(observations, dim=1), rewards, ended, extras)


def choose_pairs(candidates: PsiCandidates, num_pairs: int, *, kind: str) -> HistoryPairs:
    """The first `num_pairs` whose runs call for other actions and are shown the same in the end.

    Raises: TooFewLevelsError.
    """
    clean, corrupted = candidates.clean_best, candidates.corrupted_best
    fits = candidates.told & clean.any(1) & corrupted.any(1) & ~(clean & corrupted).any(1)
    fits &= (candidates.clean[:, -1] == candidates.corrupted[:, -1]).flatten(1).all(1)
    kept = fits.nonzero().squeeze(1)[:num_pairs]
    if len(kept) < num_pairs:
        raise TooFewLevelsError(
            f"{num_pairs} pairs that differ in psi were asked for: {len(fits)} draws of '{kind}' give {int(fits.sum())}"
            ".\n  Ask for fewer, or take a bigger task, or longer episodes."
        )
    actions, other = (best[kept].to(torch.uint8).argmax(1) for best in (clean, corrupted))
    legal = torch.ones_like(clean[kept])  # an action that a wall blocks can be taken all the same
    return HistoryPairs(
        candidates.clean[kept], candidates.corrupted[kept], actions, other, legal, torch.arange(num_pairs), "psi"
    )


def one_hot(actions: Tensor, num_actions: int) -> Tensor:
    """(N, A) bool."""
    return torch.nn.functional.one_hot(actions, num_actions).bool()
