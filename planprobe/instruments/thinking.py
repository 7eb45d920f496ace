"""Play levels with and without time to think, and with memories that know nothing of the level.

A thinking step is a step on the frozen first observation before the first action: memory runs, the world does not. What
it must be compared with is a memory that has run as long, on something else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, join_rollouts, play
from planprobe.core.protocols import Policy, State
from planprobe.core.rng import draw_uniform

BLANK, NOISE, OTHER_LEVEL = "blank frame", "noise state", "another level"

Prepare = Callable[[Policy, Tensor, Tensor], State]
"""(policy, level ids (B,), their first observations) -> the memory to begin with."""


@dataclass(frozen=True)
class Played:
    """What N episodes came to. solved, first_move (N,) 0 or 1, nan = not known; lengths (N,) steps."""

    solved: np.ndarray
    first_move: np.ndarray
    lengths: np.ndarray

    def some(self, mask: np.ndarray) -> Played:
        return Played(self.solved[mask], self.first_move[mask], self.lengths[mask])


@dataclass(frozen=True)
class LevelBank:
    """N levels, how to play them, and the right first moves (N, 4) bool, if known; a row without any is left out."""

    make_env: EnvMaker
    levels: LevelSet
    first_moves: Tensor | None = None

    def play(self, policy: Policy, *, prepare: Prepare | None = None, **options) -> Played:
        """Every level once, `BATCH_BOARDS` at a time; options of `core.play.play`."""
        parts = []
        for ids in torch.arange(len(self.levels)).split(BATCH_BOARDS):
            memory = None
            if prepare is not None:
                with torch.no_grad():
                    memory = prepare(policy, ids, self.first_observation(ids))
            env = self.make_env(self.levels, len(ids))
            parts.append(play(policy, env, ids, initial_state=memory, drop_finished=True, **options))
        rollout = join_rollouts(parts)
        solved, lengths = rollout.solved.cpu().double().numpy(), rollout.lengths.cpu().double().numpy()
        return Played(solved, score_first_actions(rollout.actions[:, 0].cpu(), self.first_moves), lengths)

    def first_observation(self, ids: Tensor) -> Tensor:
        """What the levels look like before the first action, (B, C, H, W)."""
        return self.make_env(self.levels, len(ids)).reset(ids)

    def draw_donors(self, seed: int) -> Tensor:
        """Another level for each, (N,) int64: one cycle, so that no level is its own donor."""
        order = torch.randperm(len(self.levels), generator=torch.Generator().manual_seed(seed))
        return torch.empty_like(order).scatter_(0, order, order.roll(1))


def score_first_actions(actions: Tensor, first_moves: Tensor | None) -> np.ndarray:
    """1 where an action (N,) is one of the right first moves (N, 4) bool, nan where none is known."""
    if first_moves is None:
        return np.full(len(actions), math.nan)
    moves = first_moves.cpu()
    right = pad(moves, (0, 1)).gather(1, actions.clamp(max=moves.shape[1])[:, None])  # a no-op is never right
    return right.squeeze(1).double().masked_fill(~moves.any(1), math.nan).numpy()


def play_uninformed(policy: Policy, bank: LevelBank, num_steps: int, *, seed: int, **options) -> dict[str, Played]:
    """Act at once from a memory that has run for `num_steps` but holds nothing about the level.

    Returns: 'blank frame', the memory after steps on an observation of zeros; 'noise state', noise like the memory
    after steps on the level itself; 'another level', the memory after steps on some other level of the bank.
    """
    donors = bank.draw_donors(seed)

    def think(policy: Policy, observation: Tensor) -> State:
        state = policy.initial_state(len(observation), (bank.levels.height, bank.levels.width))
        for _ in range(num_steps):
            state = policy.step(observation, state)[2]
        return state

    prepares: dict[str, Prepare] = {
        BLANK: lambda policy, ids, seen: think(policy, torch.zeros_like(seen)),
        NOISE: lambda policy, ids, seen: match_noise(think(policy, seen), ids, seed=seed),
        OTHER_LEVEL: lambda policy, ids, seen: think(policy, bank.first_observation(donors[ids])),
    }
    return {name: bank.play(policy, prepare=each, seed=seed, **options) for name, each in prepares.items()}


def match_noise(state: State, level_ids: Tensor, *, seed: int) -> State:
    """Gaussian noise with the mean and spread of each board's own memory, channel by channel over its squares.

    Memory without squares, (B, D) or of one square (B, D, 1, 1): over its units; a single number stays as it is. The
    draw depends on (seed, level) alone.
    """
    noise = []
    for number, part in enumerate(state):
        has_squares = part.shape[2:].numel() > 1
        over = tuple(range(2 if has_squares else 1, part.ndim))
        if not over:  # (B,), a count of steps, say: there is nothing that it could be mixed up with
            noise.append(part.clone())
            continue
        values = part if part.is_floating_point() else part.float()
        mean, spread = values.mean(over, keepdim=True), values.std(over, keepdim=True, unbiased=False)
        entries = torch.arange(part[0].numel())
        first, second = (draw_uniform(seed, number, half, level_ids.cpu()[:, None], entries) for half in (0, 1))
        drawn = torch.sqrt(-2 * torch.log((1 - first).clamp(min=1e-7))) * torch.cos(2 * math.pi * second)  # Box-Muller
        noise.append(torch.empty_like(part).copy_(mean + spread * drawn.view(part.shape).to(values)))
    return tuple(noise)


def play_more_ticks(policy: Policy, bank: LevelBank, factors: Sequence[int], **options) -> dict[int, Played]:
    """The same weights ticked more often on every step, by number of ticks; empty where the net does not offer it."""
    if not hasattr(policy, "set_num_ticks"):
        return {}
    played = {}
    for factor in factors:
        longer: Any = copy.deepcopy(policy)
        longer.set_num_ticks(factor * longer.num_ticks)
        played[longer.num_ticks] = bank.play(longer, **options)
    return played
