"""Play one episode a level with any policy in any environment: the only loop that evaluation and instruments share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.protocols import Env, Policy, State


@dataclass(frozen=True)
class Rollout:
    """One episode on each of B boards, padded to the longest T.

    observations (B, T, C, H, W) uint8 or None; actions (B, T) int64; rewards (B, T); active (B, T) bool: the episode
    was still running; moved (B, T) bool; solved (B,) bool; lengths (B,) int64; first_logits (B, A): the policy at its
    first real action, after any thinking steps; level_ids (B,).
    """

    actions: Tensor
    rewards: Tensor
    active: Tensor
    moved: Tensor
    solved: Tensor
    lengths: Tensor
    first_logits: Tensor
    level_ids: Tensor
    observations: Tensor | None = None


@torch.no_grad()
def play(
    policy: Policy,
    env: Env,
    level_ids: Tensor,
    *,
    thinking_steps: int = 0,
    reset_memory: bool = False,
    greedy: bool = True,
    seed: int = 0,
    keep_observations: bool = False,
    on_step: Callable[[int, Tensor, State], None] | None = None,
) -> Rollout:
    """One episode on the given levels (one a board of an env without autoreset).

    thinking_steps: steps on the frozen first observation before the first action (memory runs, the world does not).
    reset_memory: start every step, thinking or real, from initial memory: the control for anything memory does.
    on_step(t, observation, memory after the step): called once a step; thinking steps have t < 0.
    """
    observation = env.reset(level_ids)
    blank = policy.initial_state(env.num_boards, (env.height, env.width))
    state = blank
    for t in range(thinking_steps):
        _, _, state = policy.step(observation, blank if reset_memory else state)
        if on_step:
            on_step(t - thinking_steps, observation, state)
    generator = torch.Generator(observation.device).manual_seed(seed)
    running = torch.ones(env.num_boards, dtype=torch.bool, device=observation.device)
    solved, steps, first_logits, t = ~running, [], None, 0
    while bool(running.any()):
        logits, _, state = policy.step(observation, blank if reset_memory else state)
        if on_step:
            on_step(t, observation, state)
        first_logits = logits if first_logits is None else first_logits
        if greedy:
            action = logits.argmax(-1)
        else:
            action = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
        result = env.step(action)
        moved = result.extras.get("moved", running)
        steps.append((action, result.reward, running, moved & running, observation if keep_observations else None))
        solved = solved | (result.solved & running)
        running = running & ~result.episode_done
        observation, t = result.observation, t + 1
    actions, rewards, active, moved, observations = (
        torch.stack(part, dim=1) if part[0] is not None else None for part in zip(*steps, strict=True)
    )
    return Rollout(actions, rewards, active, moved, solved, active.sum(1), first_logits, level_ids, observations)
