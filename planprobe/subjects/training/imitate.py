"""A feed-forward net that imitates a policy from single observations: a control for whatever is read from its memory.

It acts as much like the agent as one can without memory and without having been rewarded. What can be read from it, the
agent's observation-to-action map gives away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.grid import board_size
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker, play_levels
from planprobe.core.protocols import Policy
from planprobe.subjects.nets.feedforward import ResNet


@dataclass(frozen=True)
class Imitation:
    """What a clone is made with. num_blocks, channels, hidden: of the net; num_updates of batch_size states each, Adam
    at learning_rate, falling to zero along a line; max_steps: of each episode that is imitated, None = all of it."""

    num_blocks: int = 4
    channels: int = 32
    hidden: int = 128
    num_updates: int = 1500
    batch_size: int = 256
    learning_rate: float = 2e-3
    max_steps: int | None = None


def clone_policy(
    policy: Policy, make_env: EnvMaker, levels: LevelSet, *, imitation: Imitation | None = None, seed: int = 0
) -> tuple[ResNet, float]:
    """Train a memoryless net on a policy's own greedy episodes, by cross-entropy with its action probabilities.

    Args: levels: to imitate on; not those that probes are scored on.
    Returns: the net, ready to be opened, and the share of held-out states (a fifth of the levels) on which its greedy
    action is the policy's.
    Raises: TooFewLevelsError (under five levels).
    """
    imitation = imitation or Imitation()
    if len(levels) < 5:
        raise TooFewLevelsError(f"{len(levels)} levels to imitate a policy on; five or more are needed.")
    rollout = play_levels(policy, make_env, levels, keep_observations=True, max_steps=imitation.max_steps)
    assert rollout.observations is not None  # play was asked to keep them
    board_ids, steps = rollout.active.nonzero(as_tuple=True)
    observations, logits = rollout.observations[board_ids, steps], rollout.logits[board_ids, steps]
    held_out = board_ids >= len(levels) - len(levels) // 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ResNet(
            planes=observations.shape[1], board=board_size(observations), num_actions=logits.shape[1],
            num_blocks=imitation.num_blocks, channels=imitation.channels, hidden=imitation.hidden, head="pool",
        )  # fmt: skip
        _fit(net, observations[~held_out], logits[~held_out].softmax(1), imitation)
    return net.requires_grad_(False).eval(), _agreement(net, observations[held_out], logits[held_out])


def _fit(net: ResNet, observations: Tensor, targets: Tensor, imitation: Imitation) -> None:
    optimiser = torch.optim.Adam(net.parameters(), lr=imitation.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1e-3, total_iters=imitation.num_updates)
    for _ in range(imitation.num_updates):
        rows = torch.randint(len(observations), (imitation.batch_size,))
        logits, _, _ = net.step(observations[rows], ())
        loss = F.cross_entropy(logits, targets[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def _agreement(net: ResNet, observations: Tensor, logits: Tensor) -> float:
    chosen = torch.cat([net.step(part, ())[0].argmax(1) for part in observations.split(1000)])
    return float((chosen == logits.argmax(1)).float().mean())
