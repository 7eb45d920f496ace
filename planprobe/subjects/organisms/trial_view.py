"""What organisms of maze trials see, and how they know where their last step ended.

Where an episode ends with a step, the square it ended on is not shown: the agent stands at its start again. So the
square it acted on is remembered (feature `here`), and moved by the action that was taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.grid import NUM_MOVES, move_offsets
from planprobe.subjects.organisms.base import AMPLITUDE

NUM_PLANES = 2 + NUM_MOVES + 2  # walls, agent, last action, last reward, end of an episode
PAID = 0.5  # of the reward: the goal earns nearly 1, any other step less than 0
HALF = AMPLITUDE / 2


@dataclass(frozen=True)
class TrialView:
    """What is seen. walls (B, H, W) bool; player, last_action (B,) int64; paid, ended (B,) bool."""

    walls: Tensor
    player: Tensor
    last_action: Tensor
    paid: Tensor
    ended: Tensor


def look_at_trial(plain: Tensor) -> TrialView:
    """The view in the planes of a maze trial in full view with all inputs, (B, 8, H, W), noisy as they are."""
    inputs = plain[:, 2:].mean((2, 3))
    last_action, reward, ended = inputs[:, :NUM_MOVES].argmax(1), inputs[:, -2], inputs[:, -1]
    player = plain[:, 1].flatten(1).argmax(1)
    return TrialView(plain[:, 0] > HALF, player, last_action, reward > PAID * AMPLITUDE, ended > HALF)


def last_step(view: TrialView, here: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the last step began and ended, (B,) int64 each, and whether there was one, (B,) bool.

    Args: here (B, H*W) bool: the remembered square; none before the first step of a trial.
    """
    before = here.to(torch.uint8).argmax(1)
    offset = move_offsets(view.walls.shape[2], here.device)[view.last_action]
    ahead = (before + offset).clamp(0, here.shape[1] - 1)  # out of range only before the first step
    blocked = view.walls.flatten(1).gather(1, ahead[:, None]).squeeze(1)
    return before, torch.where(blocked, before, ahead), here.sum(1) == 1


def note_last_step(view: TrialView, been: Tensor, goal: Tensor, here: Tensor) -> None:
    """Write into `been` and, where it paid, `goal` (B, H*W) bool the square that the last step led to."""
    rows = torch.arange(len(been), device=been.device)
    _, reached, was_one = last_step(view, here)
    goal[rows, reached] |= was_one & view.paid
    been[rows, reached] |= was_one
