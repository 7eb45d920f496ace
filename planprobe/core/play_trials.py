"""Play trials with any policy: several episodes of one task draw with memory kept, one trial a board.

The counterpart of `play` for tasks with trials. Sampled actions are draws counted by (seed, board, step), so board i
plays the same trial in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, unknown_name
from planprobe.core.protocols import Policy, State, StepResult
from planprobe.core.rng import draw_uniform

RESETS = ("never", "each episode", "each step")
"""When memory is reset within a trial. A trial itself begins with initial memory, unless told otherwise."""

FREE = -1
"""In a forced sequence of actions: let the policy choose."""

_DRAW_ACTION = 201


class TrialEnvironment(Protocol):
    """What an environment with trials offers: an `Env` without autoreset, and what it is about."""

    num_boards: int
    num_actions: int
    num_episodes: int
    height: int
    width: int

    def reset(self, level_ids: Tensor | None = None) -> Tensor: ...
    def step(self, actions: Tensor) -> StepResult: ...
    def redraw(self, ids: Tensor) -> Tensor: ...
    def latents(self) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class TrialRollout:
    """One trial on each of N boards, padded to the longest T; E episodes a trial.

    actions (N, T) int64; rewards (N, T) float32; episodes (N, T) int64: which one the step belongs to; active (N, T)
    bool: the trial was still running; episode_done (N, T) bool: the step ended an episode; logits (N, T, A); values
    (N, T); latents: psi at the start of the trial by name, (N, ...); episode_returns (N, E) float32, episode_lengths
    (N, E) int64, success (N, E) bool: the episode ended by being solved; observations (N, T, C, H, W) where kept;
    extras: whatever else the task says of each step, by name, (N, T, ...).
    Entries where active is false mean nothing.
    """

    actions: Tensor
    rewards: Tensor
    episodes: Tensor
    active: Tensor
    episode_done: Tensor
    logits: Tensor
    values: Tensor
    latents: dict[str, Tensor]
    episode_returns: Tensor
    episode_lengths: Tensor
    success: Tensor
    observations: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)

    @property
    def returns(self) -> Tensor:
        """Return of each trial, (N,)."""
        return self.episode_returns.sum(1)


@torch.no_grad()
def play_trials(
    policy: Policy,
    env: TrialEnvironment,
    *,
    greedy: bool = False,
    seed: int = 0,
    reset_memory: str = "never",
    redraw_task: bool = False,
    forced: Tensor | None = None,
    initial_state: State | None = None,
    keep_observations: bool = False,
    on_step: Callable[[int, Tensor, State], None] | None = None,
) -> TrialRollout:
    """One trial on each board of an environment without autoreset.

    greedy: the likeliest action in place of a sample. seed: of sampled actions.
    reset_memory: start every episode, or every step, from initial memory; see RESETS. The control for what it carries.
    redraw_task: a new psi at each episode, unknown to the agent: the control for what is learned of psi.
    forced: actions (N, T) int64 to take whatever the policy says, FREE where it may choose; later steps are free.
    initial_state: memory (N, ...) to begin with in place of the policy's own. on_step(t, observation, memory after the
    step): called once a step.
    Raises: ShapeError (forced actions of other boards); UnknownNameError (no such reset).
    """
    if reset_memory not in RESETS:
        raise unknown_name("reset of memory", reset_memory, RESETS)
    if forced is not None and len(forced) != env.num_boards:
        raise ShapeError(f"forced actions for {len(forced)} boards, and the environment has {env.num_boards}.")
    observation = env.reset()
    log = _Log(env, observation.device)
    blank = policy.initial_state(env.num_boards, (env.height, env.width))
    state, t = blank if initial_state is None else initial_state, 0
    step = partial(_step_running, policy, log) if getattr(policy, "boards_apart", False) else policy.step
    while bool(log.running.any()):
        logits, value, state = step(observation, state)
        if on_step:
            on_step(t, observation, state)
        actions = logits.argmax(-1) if greedy else sample_actions(logits, seed, t)
        if forced is not None and t < forced.shape[1]:
            actions = torch.where(forced[:, t] == FREE, actions, forced[:, t])
        result = env.step(actions)
        log.add(actions, result, logits, value, observation if keep_observations else None)
        observation, t = result.observation, t + 1
        ended = result.episode_done & ~result.trial_done
        if redraw_task and bool(ended.any()):
            observation = env.redraw(ended.nonzero().squeeze(1))
        if reset_memory != "never":
            over = ended if reset_memory == "each episode" else torch.ones_like(ended)
            state = tuple(torch.where(_beside(over, part), new, part) for new, part in zip(blank, state, strict=True))
    return log.finish()


def _step_running(policy: Policy, log: _Log, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
    """A step of those boards alone whose trial still runs: of a policy to which the others in a batch are nothing, to
    the bit. Most trials are over long before the last one is."""
    if bool(log.running.all()):
        return policy.step(observation, state)
    ids = log.running.nonzero().squeeze(1)
    logits, value, after = policy.step(observation[ids], tuple(part[ids] for part in state))
    whole = len(observation)
    logits = logits.new_zeros(whole, logits.shape[1]).index_copy(0, ids, logits)
    value = value.new_zeros(whole).index_copy(0, ids, value)
    return logits, value, tuple(old.index_copy(0, ids, new) for old, new in zip(state, after, strict=True))


def sample_actions(logits: Tensor, seed: int, t: int) -> Tensor:
    """One action a board (N,) int64 from logits (N, A), by a draw counted by (seed, board, step)."""
    boards = torch.arange(len(logits), device=logits.device)
    luck = draw_uniform(seed, _DRAW_ACTION, boards, t)[:, None]
    return (logits.double().softmax(-1).cumsum(-1)[:, :-1] <= luck).sum(-1)


class _Log:
    """What happened so far, a step after the other."""

    def __init__(self, env: TrialEnvironment, device: torch.device) -> None:
        num_boards, num_episodes = env.num_boards, env.num_episodes
        self.latents = env.latents()
        self.running = torch.ones(num_boards, dtype=torch.bool, device=device)
        self.returns = torch.zeros(num_boards, num_episodes, device=device)
        self.lengths = torch.zeros(num_boards, num_episodes, dtype=torch.int64, device=device)
        self.success = torch.zeros(num_boards, num_episodes, dtype=torch.bool, device=device)
        self.steps: list[tuple[Tensor, ...]] = []
        self.seen: list[Tensor] = []
        self.extras: list[dict[str, Tensor]] = []

    def add(self, actions: Tensor, result: StepResult, logits: Tensor, value: Tensor, seen: Tensor | None) -> None:
        running = self.running
        episodes = result.extras["episode"].clamp(max=self.returns.shape[1] - 1)
        self.returns.scatter_add_(1, episodes[:, None], (result.reward * running)[:, None])
        self.lengths.scatter_add_(1, episodes[:, None], running[:, None].to(torch.int64))
        self.success |= torch.zeros_like(self.success).scatter(1, episodes[:, None], (result.solved & running)[:, None])
        done = result.episode_done & running
        self.steps.append((actions, result.reward, episodes, running, done, logits, value))
        if seen is not None:
            self.seen.append(seen)
        self.extras.append({k: v for k, v in result.extras.items() if k not in ("active", "episode")})
        self.running = running & ~result.trial_done

    def finish(self) -> TrialRollout:
        actions, rewards, episodes, active, done, logits, values = (
            torch.stack(part, dim=1) for part in zip(*self.steps, strict=True)
        )
        extras = {name: torch.stack([step[name] for step in self.extras], dim=1) for name in self.extras[0]}
        return TrialRollout(
            actions=actions, rewards=rewards, episodes=episodes, active=active, episode_done=done, logits=logits,
            values=values, latents=self.latents, episode_returns=self.returns, episode_lengths=self.lengths,
            success=self.success, observations=torch.stack(self.seen, dim=1) if self.seen else None, extras=extras,
        )  # fmt: skip


def _beside(mask: Tensor, value: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (value.ndim - 1))
