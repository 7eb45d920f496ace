"""Untrained: an architecture that could learn to plan, with random weights. It does not plan.

Why: nothing has told the weights which way the goal lies, so what it does carries no information about the level.
"""

from __future__ import annotations

from typing import Any

import torch

from planprobe.core.grid import NUM_MOVES
from planprobe.subjects.nets.base import Net
from planprobe.subjects.nets.drc import DRC
from planprobe.subjects.organisms.base import CodedNet, Style

SPREAD = 0.3  # sd added to every weight: as built, policies are uniform, and all logits equal


class Untrained(DRC):
    """A net of which it is known that nothing trained it."""


def untrained_like(policy: CodedNet | Untrained, *, seed: int) -> Net:
    """A net with random weights, and the ticks, sites and channels of an organism: what wiring alone gives."""
    style = Style(seed=seed, num_ticks=policy.num_ticks)
    shape: dict[str, Any] = {"planes": policy.planes, "board": policy.board, "num_actions": policy.num_actions}
    return make_untrained(style, **shape, channels=policy.channels)


def make_untrained(
    style: Style,
    *,
    planes: int,
    board: tuple[int, int],
    num_actions: int = NUM_MOVES,
    channels: int | None = None,
) -> Untrained:
    """A pool-headed DRC of one layer with the ticks and about the width of a style, or exactly `channels`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(style.seed)
        net = Untrained(
            planes=planes, board=board, num_actions=num_actions, num_layers=1, num_ticks=style.num_ticks, hidden=32,
            head="pool", channels=channels or 8 + style.num_padding, pool_and_inject=False,
        )  # fmt: skip
        with torch.no_grad():
            for parameter in net.head.parameters():
                parameter.add_(SPREAD * torch.randn_like(parameter))
    return net.eval()
