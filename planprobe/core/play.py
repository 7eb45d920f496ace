"""Play one episode a level with any policy in any environment: the only loop that evaluation and instruments share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from planprobe.core.levels import LevelSet
from planprobe.core.protocols import Env, Policy, State

EnvMaker = Callable[[LevelSet, int], Env]
"""(levels, number of boards) -> an environment on those levels, without autoreset."""

BATCH_BOARDS = 250  # fixed: a convolution may round differently in another batch size, and an argmax can flip


@dataclass(frozen=True)
class Rollout:
    """One episode on each of B boards, padded to the longest T.

    actions (B, T) int64; rewards (B, T) float32; active (B, T) bool: the episode was still running; moved, pushed
    (B, T) bool: the action moved the agent, or a box; positions (B, T + 1) int64: flat index of the agent before each
    action and after the last; solved (B,) bool; lengths (B,) int64 steps; logits (B, T, A); first_logits (B, A): the
    policy at its first real action, after any thinking steps; level_ids (B,); observations (B, T, C, H, W) uint8 where
    kept; values (B, T): what the policy's value head said before each action.
    Entries after the end of an episode (active false) mean nothing.
    """

    actions: Tensor
    rewards: Tensor
    active: Tensor
    moved: Tensor
    pushed: Tensor
    positions: Tensor
    solved: Tensor
    lengths: Tensor
    logits: Tensor
    level_ids: Tensor
    observations: Tensor | None = None
    values: Tensor | None = None

    @property
    def first_logits(self) -> Tensor:
        return self.logits[:, 0]


@torch.no_grad()
def play(
    policy: Policy,
    env: Env,
    level_ids: Tensor,
    *,
    thinking_steps: int = 0,
    max_steps: int | None = None,
    reset_memory: bool = False,
    greedy: bool = True,
    seed: int = 0,
    keep_observations: bool = False,
    initial_state: State | None = None,
    on_step: Callable[[int, Tensor, State], None] | None = None,
    drop_finished: bool = False,
    on_drop: Callable[[Tensor], None] | None = None,
    enough: Callable[[], Tensor] | None = None,
) -> Rollout:
    """One episode on the given levels (one a board of an env without autoreset).

    thinking_steps: steps on the frozen first observation before the first action (memory runs, the world does not).
    max_steps: stop after so many real steps even where the episode goes on.
    reset_memory: start every step, thinking or real, from initial memory: the control for anything memory does.
    initial_state: memory (B, ...) to begin with in place of the policy's own: noise, or what another level left behind.
    on_step(t, observation, memory after the step): called once a step; thinking steps have t < 0.
    drop_finished: show the policy no boards whose episode is over, each time half of the rest are: a few long episodes
        then cost little. Not with `on_step` or with captures after the first step, which need all boards.
    on_drop(ids of the boards still shown): called as they become fewer, so that an edit can follow.
    enough() -> (B,) bool: boards on which nothing later matters, asked after each step; they count as finished.
    """
    observation = env.reset(level_ids)
    blank = policy.initial_state(env.num_boards, (env.height, env.width))
    state = blank if initial_state is None else initial_state
    for t in range(-thinking_steps, 0):
        _, _, state = policy.step(observation, blank if reset_memory else state)
        if on_step:
            on_step(t, observation, state)
    generator = torch.Generator(observation.device).manual_seed(seed)
    running = torch.ones(env.num_boards, dtype=torch.bool, device=observation.device)
    nothing = torch.zeros_like(running)
    here = getattr(env, "players", torch.zeros_like(level_ids))
    shown = torch.arange(env.num_boards, device=observation.device)
    solved, steps, seen, positions, t = nothing, [], [], [here.clone()], 0
    while bool(running.any()) and (max_steps is None or t < max_steps):
        if drop_finished and 2 * int(running.sum()) <= len(shown):
            left = running[shown]
            shown, state, blank = shown[left], take_boards(state, left), take_boards(blank, left)
            if on_drop:
                on_drop(shown)
        logits, value, state = _step_shown(policy, observation, blank if reset_memory else state, shown)
        if on_step:
            on_step(t, observation, state)
        action = logits.argmax(-1) if greedy else torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        result = env.step(action)
        moved = result.extras.get("moved", running) & running
        pushed = result.extras.get("pushed", nothing) & running
        steps.append((action, result.reward, running, moved, pushed, logits, value))
        if keep_observations:
            seen.append(observation)
        positions.append(getattr(env, "players", level_ids).clone())
        solved = solved | (result.solved & running)
        running = running & ~result.episode_done
        if enough:
            running = running & ~enough()
        observation, t = result.observation, t + 1
    actions, rewards, active, moved, pushed, logits, values = (
        torch.stack(part, dim=1) for part in zip(*steps, strict=True)
    )
    return Rollout(
        actions=actions, rewards=rewards, active=active, moved=moved, pushed=pushed, logits=logits, solved=solved,
        positions=torch.stack(positions, dim=1), lengths=active.sum(1), level_ids=level_ids,
        observations=torch.stack(seen, dim=1) if keep_observations else None, values=values,
    )  # fmt: skip


def _step_shown(policy: Policy, observation: Tensor, state: State, shown: Tensor) -> tuple[Tensor, Tensor, State]:
    """One step of the boards `shown` (B',), whose memory `state` is; logits and values (B, ...) are 0 on the others."""
    if len(shown) == len(observation):
        return policy.step(observation, state)
    logits, value, state = policy.step(observation[shown], state)
    logits, value = (
        part.new_zeros(len(observation), *part.shape[1:]).index_copy(0, shown, part) for part in (logits, value)
    )
    return logits, value, state


def take_boards(state: State, boards: Tensor) -> State:
    """The memory of some boards, by id or mask.

    It stays in the layout that the net gave it: in another, a convolution may round differently.
    """
    taken = []
    for part in state:
        is_last = part.ndim == 4 and part.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if is_last else torch.contiguous_format
        taken.append(part[boards].contiguous(memory_format=layout))
    return tuple(taken)


def play_levels(policy: Policy, make_env: EnvMaker, levels: LevelSet, **options) -> Rollout:
    """Play every level once, BATCH_BOARDS at a time; options of `play`. One padded rollout in the order of `levels`."""
    parts = [
        play(policy, make_env(levels, len(ids)), ids, **options)
        for ids in torch.arange(len(levels)).split(BATCH_BOARDS)
    ]
    return join_rollouts(parts)


def join_rollouts(parts: list[Rollout]) -> Rollout:
    """Concatenate along B, padding the shorter ones with zeros (inactive)."""
    num_steps = max(part.actions.shape[1] for part in parts)
    joined = {}
    for field in fields(Rollout):
        values = [getattr(part, field.name) for part in parts]
        if values[0] is None or field.name in ("solved", "lengths", "level_ids"):
            joined[field.name] = None if values[0] is None else torch.cat(values)
            continue
        length = num_steps + (1 if field.name == "positions" else 0)
        joined[field.name] = torch.cat([_pad_steps(value, length) for value in values])
    return Rollout(**joined)


def _pad_steps(value: Tensor, length: int) -> Tensor:
    padding = value.new_zeros(value.shape[0], length - value.shape[1], *value.shape[2:])
    return torch.cat([value, padding], dim=1)
