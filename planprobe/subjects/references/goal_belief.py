"""Exact belief over where a hidden goal is, from the squares stepped on and whether they paid.

A square that did not pay stays ruled out for the whole trial, and one that paid (where elsewhere never pays) leaves no
other. Keeping any of the other squares alive after a find, or reviving a visited one, is the classic mistake.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_uniform


def uniform_belief(candidates: Tensor) -> Tensor:
    """The same probability on every candidate (B, S) bool; float64 rows that sum to one."""
    return candidates.to(torch.float64) / candidates.sum(1, keepdim=True)


def update_goal_belief(
    belief: Tensor, squares: Tensor, paid: Tensor, *, hit_rate: float = 1.0, false_rate: float = 0.0
) -> Tensor:
    """Posterior after each board's agent ended a step on `squares` and was `paid` or not.

    Args: belief (B, S) rows that sum to one; squares (B,) int64; paid (B,) bool. hit_rate: chance that the goal pays;
        false_rate: chance that any other square pays.
    Raises: RecipeError (an outcome that has no chance under the belief and these rates).
    """
    share = paid.to(belief.dtype)
    at_goal = share * hit_rate + (1 - share) * (1 - hit_rate)
    elsewhere = share * false_rate + (1 - share) * (1 - false_rate)
    likelihood = elsewhere[:, None].expand_as(belief).scatter(1, squares[:, None], at_goal[:, None])
    joint = belief * likelihood
    total = joint.sum(1, keepdim=True)
    if not bool((total > 0).all()):
        raise RecipeError(
            f"update_goal_belief(hit_rate={hit_rate}, false_rate={false_rate}): on {int((total <= 0).sum())} of "
            f"{len(belief)} boards this outcome has no chance.\n  Hand in the rates of the task that was played."
        )
    return joint / total


def likely_goals(belief: Tensor) -> Tensor:
    """Squares that share the highest probability, (B, S) bool."""
    return belief >= belief.max(1, keepdim=True).values * (1 - 1e-9)


def sample_goals(belief: Tensor, seed: int, *counters: Tensor | int) -> Tensor:
    """One square of each board, drawn from its belief, (B,) int64."""
    luck = draw_uniform(seed, *counters).to(torch.float64)
    # the last candidate takes what rounding leaves over
    return (belief.cumsum(1) > (luck * belief.sum(1))[:, None]).to(torch.uint8).argmax(1)
