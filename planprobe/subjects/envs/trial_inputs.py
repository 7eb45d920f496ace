"""What an RL² agent is told beside its view: its last action, its last reward, and that an episode ended.

x_t = [view, onehot(a_{t-1}), r_{t-1}, episode_done_{t-1}], zeros at the start of a trial (Duan et al. 2016, Wang et al.
2016). Each part can be switched off, which is how the ingredients of RL² are removed one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import ShapeError
from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.trial import TrialEnv


@dataclass(frozen=True)
class Inputs:
    """Which parts the agent gets. step_index: steps since the trial began, over its longest possible length."""

    observation: bool = True
    previous_action: bool = True
    reward: bool = True
    episode_end: bool = True
    step_index: bool = False


class TrialInputs:
    """A `TrialEnv` whose observations hold the chosen inputs, in the order of `Inputs`; an `Env` like any other.

    observation: (B, F, 1, 1) float32, or (B, C, H, W) float32 with the further inputs as constant planes where the view
    is a board. `latents`, `num_boards`, `device` and so on are those of the task.
    Raises: ShapeError (nothing is switched on).
    """

    def __init__(self, env: TrialEnv, inputs: Inputs) -> None:
        self.env, self.inputs = env, inputs
        self.num_boards, self.num_actions = env.num_boards, env.num_actions
        self.height, self.width, self.device = env.height, env.width, env.device
        self.num_episodes, self.longest_trial = env.num_episodes, env.num_episodes * env.episode_steps
        widths = (env.num_planes, env.num_actions, 1, 1, 1)
        self.num_planes = sum(width for width, on in zip(widths, self._switches(), strict=True) if on)
        self.view_planes = env.num_planes if inputs.observation else 0  # the first of them
        if not self.num_planes:
            raise ShapeError("an agent without any input cannot be run; switch at least one on.")
        self._clear(torch.arange(env.num_boards, device=env.device), first=True)

    def reset(self, level_ids: Tensor | None = None) -> Tensor:
        view = self.env.reset(level_ids)
        self._clear(self.env.board_ids)
        return self._assemble(view)

    def step(self, actions: Tensor) -> StepResult:
        result = self.env.step(actions)
        self.last_action = F.one_hot(actions, self.num_actions).to(torch.float32)
        self.last_reward, self.last_end = result.reward.clone(), result.episode_done.to(torch.float32)
        self.steps = self.steps + 1
        if self.env.autoreset:
            over = result.trial_done.nonzero().squeeze(1)
            if len(over):
                self._clear(over)
        return StepResult(
            self._assemble(result.observation), result.reward, result.episode_done, result.trial_done, result.solved,
            result.truncated, result.extras,
        )  # fmt: skip

    def begin(self, ids: Tensor) -> None:
        """Start the next trial on boards `ids` (B',) alone."""
        self.env.begin(ids)
        self._clear(ids)

    def redraw(self, ids: Tensor) -> Tensor:
        """The observation after boards `ids` were given another task; see `TrialEnv.redraw`."""
        self.env.redraw(ids)
        return self.observe()

    def observe(self) -> Tensor:
        """The present observation, freshly allocated."""
        return self._assemble(self.env.observe())

    def latents(self) -> dict[str, Tensor]:
        """psi of the present trials; see `TrialEnv.latents`."""
        return self.env.latents()

    def state_dict(self) -> dict[str, Tensor]:
        own = {f"inputs.{name}": getattr(self, name).clone() for name in _NAMES}
        return own | {f"task.{name}": value for name, value in self.env.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name in _NAMES:
            setattr(self, name, state[f"inputs.{name}"].to(self.device).clone())
        self.env.load_state_dict({k.removeprefix("task."): v for k, v in state.items() if k.startswith("task.")})

    # -----------------------------------------------------------------------------------------------------------------
    def _switches(self) -> tuple[bool, ...]:
        i = self.inputs
        return (i.observation, i.previous_action, i.reward, i.episode_end, i.step_index)

    def _clear(self, ids: Tensor, *, first: bool = False) -> None:
        if first:
            zeros = torch.zeros(self.num_boards, device=self.device)
            self.last_action = torch.zeros(self.num_boards, self.num_actions, device=self.device)
            self.last_reward, self.last_end, self.steps = zeros, zeros.clone(), zeros.clone()
        for name in _NAMES:
            getattr(self, name)[ids] = 0

    def _assemble(self, view: Tensor) -> Tensor:
        elapsed = self.steps[:, None] / self.longest_trial
        parts = (None, self.last_action, self.last_reward[:, None], self.last_end[:, None], elapsed)
        board = view.shape[-2:]
        chosen = [
            view.to(torch.float32) if part is None else part[:, :, None, None].expand(-1, -1, *board)
            for part, on in zip(parts, self._switches(), strict=True)
            if on
        ]
        return torch.cat(chosen, dim=1)


_NAMES = ("last_action", "last_reward", "last_end", "steps")
