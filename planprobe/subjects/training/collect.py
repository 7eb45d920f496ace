"""Act in the environment for T steps and remember what the losses need."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.protocols import State, StepResult
from planprobe.subjects.envs.board_env import BoardEnv
from planprobe.subjects.envs.trial_inputs import TrialInputs
from planprobe.subjects.nets.base import Net, reset_state


@dataclass(frozen=True)
class Batch:
    """T steps of B boards; time first.

    observations (T, B, C, H, W); actions (T, B) int64; log_probs, values, rewards (T, B) float32 under the acting
    policy; starts (T, B) bool: memory was reset before the step; trial_done, episode_done (T, B) bool; acted (T, B)
    bool: the action had an effect (false in thinking steps); state: memory before the first step; last_value (B,) after
    the last.
    episode_returns (n, E): of each episode of the n trials that ended in these steps, unscaled; levels are such trials.
    """

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    starts: Tensor
    trial_done: Tensor
    episode_done: Tensor
    acted: Tensor
    state: State
    last_value: Tensor
    episode_returns: Tensor
    num_solved: int
    num_ended: int

    def boards(self, ids: Tensor) -> Batch:
        """The same steps of some boards: whole sequences, with their own stored memory."""
        by_board = {
            name: getattr(self, name)[:, ids]
            for name in (
                "observations", "actions", "log_probs", "values", "rewards", "starts", "trial_done", "episode_done",
                "acted",
            )
        }  # fmt: skip
        state = tuple(part[ids] for part in self.state)
        none = {"episode_returns": self.episode_returns[:0], "num_solved": 0, "num_ended": 0}
        return Batch(**by_board, state=state, last_value=self.last_value[ids], **none)


class Collector:
    """Holds one environment, and the policy's memory between calls."""

    def __init__(
        self, net: Net, env: BoardEnv | TrialInputs, *, reset_memory: bool, reward_scale: float, seed: int
    ) -> None:
        self.net, self.env, self.reset_memory, self.reward_scale = net, env, reset_memory, reward_scale
        self.generator = torch.Generator(env.device).manual_seed(seed)
        self.observation = env.reset()
        self.state = net.initial_state(env.num_boards, (env.height, env.width))
        self.start = torch.ones(env.num_boards, dtype=torch.bool, device=env.device)
        self.returns = torch.zeros(env.num_boards, getattr(env, "num_episodes", 1), device=env.device)

    @torch.no_grad()
    def collect(self, num_steps: int) -> Batch:
        """Play `num_steps` steps with actions sampled from the policy."""
        first_state = self.state
        steps: dict[str, list[Tensor]] = {name: [] for name in _STEP_FIELDS}
        returns: list[Tensor] = []
        shape = (num_steps, self.env.num_boards, self.env.num_actions)
        noise = torch.rand(shape, generator=self.generator, device=self.env.device)
        gumbel = -torch.log(-torch.log(noise.clamp_(1e-20)))
        for step_gumbel in gumbel:
            observation, start = self.observation, self.start
            logits, value, self.state = self.net.step(observation, reset_state(self.state, start))
            log_probs = torch.log_softmax(logits.float(), dim=-1)
            action = (log_probs + step_gumbel).argmax(-1)  # a sample
            result = self.env.step(action)
            for name, part in zip(
                _STEP_FIELDS,
                (
                    observation, action, log_probs, value, result.reward, start, result.trial_done,
                    result.extras["active"], result.solved, result.episode_done,
                ),
                strict=True,
            ):  # fmt: skip
                steps[name].append(part)
            returns.append(self._count_return(result))
            self.observation = result.observation
            self.start = result.trial_done | self.reset_memory
        last_value = self.net.step(self.observation, reset_state(self.state, self.start))[1].float()
        stacked = {name: torch.stack(parts) for name, parts in steps.items()}
        num_solved, num_ended = int(stacked.pop("solved").sum()), int(stacked["episode_done"].sum())
        stacked["log_probs"] = stacked["log_probs"].gather(2, stacked["actions"][..., None]).squeeze(2)
        stacked["values"], stacked["rewards"] = stacked["values"].float(), stacked["rewards"] * self.reward_scale
        return Batch(
            **stacked, state=first_state, last_value=last_value, num_solved=num_solved, num_ended=num_ended,
            episode_returns=torch.stack(returns)[stacked["trial_done"]],
        )  # fmt: skip

    def _count_return(self, result: StepResult) -> Tensor:
        """Add a step's rewards to the trials in progress; their episodes' returns so far (B, E)."""
        if "episode" in result.extras:
            self.returns.scatter_add_(1, result.extras["episode"][:, None], result.reward[:, None])
        else:
            self.returns[:, 0] += result.reward
        returns = self.returns.clone()
        self.returns.masked_fill_(result.trial_done[:, None], 0)
        return returns

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as tensors."""
        tensors = {"observation": self.observation, "start": self.start, "returns": self.returns}
        tensors["generator"] = self.generator.get_state()
        tensors |= {f"state.{i}": part for i, part in enumerate(self.state)}
        return tensors | {f"env.{name}": part for name, part in self.env.state_dict().items()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        device = self.env.device
        self.observation, self.start, self.returns = (
            tensors[name].to(device).clone() for name in ("observation", "start", "returns")
        )
        restore_generator(self.generator, tensors["generator"])
        self.state = tuple(  # in the memory layout of the run: in another one a convolution may round differently
            torch.empty_like(part).copy_(tensors[f"state.{i}"]) for i, part in enumerate(self.state)
        )
        self.env.load_state_dict({k.removeprefix("env."): v for k, v in tensors.items() if k.startswith("env.")})


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Go on where a generator stood; one of another kind of device draws other numbers, and begins with a new seed."""
    if len(state) == len(generator.get_state()):
        generator.set_state(state)
        return
    digest = hashlib.blake2b(state.numpy().tobytes(), digest_size=7).digest()
    generator.manual_seed(int.from_bytes(digest, "big"))


_STEP_FIELDS = (
    "observations", "actions", "log_probs", "values", "rewards", "starts", "trial_done", "acted", "solved",
    "episode_done",
)  # fmt: skip
