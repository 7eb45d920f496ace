"""Trials: several episodes of one task draw with memory kept, for B boards side by side.

Two flags, never one: `episode_done` is something the agent may be shown; `trial_done` is where memory is reset and
returns are cut. Which task board b plays in its n-th trial is a draw counted by (seed, b, n), so board b is the same in
any batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.protocols import StepResult

DRAW_TASK, DRAW_EPISODE, DRAW_STEP = 101, 102, 103
"""Streams of counter-based draws: what a trial is, where an episode starts, what happens in a step."""


class TrialEnv:
    """Base of tasks with a latent variable that is drawn per trial.

    Subclasses set `num_planes`, `num_actions` (and `height`, `width` where the view is a board), draw in
    `_begin_trial` and `_begin_episode`, move in `_act` and show in `_view`. Vectors are boards of one square.

    Args:
        num_boards: B trials at a time. num_episodes: episodes a trial. episode_steps: an episode is cut after so many.
        seed: of every draw. autoreset: begin the next trial in the step that ends one; otherwise a finished board
            stands still. Episodes within a trial follow each other either way.
    Raises: ShapeError (a number below one).
    """

    num_planes: int
    num_actions: int
    task: Any  # the options that it was made from
    height = width = 1
    spatial = False  # whether the view is a board, to which further inputs are added as constant planes

    def __init__(
        self,
        num_boards: int,
        *,
        num_episodes: int = 1,
        episode_steps: int = 20,
        seed: int = 0,
        device: torch.device | str = "cpu",
        autoreset: bool = True,
    ) -> None:
        if min(num_boards, num_episodes, episode_steps) < 1:
            raise ShapeError(
                f"needs at least one board, episode and step, got {num_boards}, {num_episodes} and {episode_steps}."
            )
        self.num_boards, self.num_episodes, self.episode_steps = num_boards, num_episodes, episode_steps
        self.seed, self.device, self.autoreset = seed, torch.device(device), autoreset
        self.board_ids = torch.arange(num_boards, device=device)
        zeros = torch.zeros(num_boards, dtype=torch.int64, device=device)
        self.trials = zeros.clone()  # trials begun so far
        self.episode, self.elapsed = zeros.clone(), zeros.clone()  # of the present trial; of the present episode
        self.finished = torch.ones(num_boards, dtype=torch.bool, device=device)

    # what a subclass defines -----------------------------------------------------------------------------------------
    def _begin_trial(self, ids: Tensor) -> None:
        """Draw the task of boards `ids` (B',); count draws by (DRAW_TASK, ids, self.trials[ids])."""
        raise NotImplementedError

    def _begin_episode(self, ids: Tensor) -> None:
        """Put boards `ids` (B',) at the start of an episode of their present task."""

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Apply the actions of `active` boards; reward (B,) float32, ended (B,) bool (solved: no time limit), extras.

        Rewards and ends of boards that are not active are ignored.
        """
        raise NotImplementedError

    def _view(self) -> Tensor:
        """What the agent sees: (B, F) float32, or (B, C, H, W) where `spatial`. Freshly allocated."""
        raise NotImplementedError

    def latents(self) -> dict[str, Tensor]:
        """psi of the present trials by name, each (B, ...). Never part of an observation."""
        raise NotImplementedError

    # the protocol ----------------------------------------------------------------------------------------------------
    def reset(self, level_ids: Tensor | None = None) -> Tensor:
        """Begin a trial on every board; tasks are drawn, so `level_ids` must be None."""
        if level_ids is not None:
            raise ShapeError("a trial draws its task; it cannot be told which one by level_ids.")
        self._new_trials(self.board_ids)
        return self.observe()

    def step(self, actions: Tensor) -> StepResult:
        active = ~self.finished
        reward, ended, extras = self._act(actions, active)
        self.elapsed += active
        solved = active & ended
        truncated = active & ~ended & (self.elapsed >= self.episode_steps)
        episode_done = solved | truncated
        self.episode += episode_done
        trial_done = episode_done & (self.episode >= self.num_episodes)
        extras |= {"active": active, "episode": self.episode - episode_done.to(torch.int64)}
        again = (episode_done & ~trial_done).nonzero().squeeze(1)
        if len(again):
            self._new_episodes(again)
        self.finished = self.finished | trial_done
        if self.autoreset:
            over = trial_done.nonzero().squeeze(1)
            if len(over):
                self._new_trials(over)
        return StepResult(self.observe(), reward * active, episode_done, trial_done, solved, truncated, extras)

    def begin(self, ids: Tensor) -> None:
        """Start the next trial on boards `ids` (B',) alone."""
        self._new_trials(ids)

    def redraw(self, ids: Tensor) -> None:
        """Give boards `ids` (B',) another task at the start of an episode, within their trial.

        What memory carries over is then worth nothing: the control for what was learned in earlier episodes.
        """
        self._begin_trial(ids)
        self.trials[ids] += 1
        self._new_episodes(ids)

    def observe(self) -> Tensor:
        """The present observation (B, F, H, W) float32, freshly allocated; vectors have H = W = 1."""
        view = self._view()
        return view if self.spatial else view[:, :, None, None]

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs: every tensor attribute that has one entry a board."""
        return {name: value.clone() for name, value in self._by_board().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(self.device).clone())

    # -----------------------------------------------------------------------------------------------------------------
    def _by_board(self) -> dict[str, Tensor]:
        attributes: dict[str, Any] = vars(self)
        return {
            name: value
            for name, value in attributes.items()
            if isinstance(value, Tensor) and value.ndim and len(value) == self.num_boards and name != "board_ids"
        }

    def _new_trials(self, ids: Tensor) -> None:
        self.episode[ids] = 0
        self.finished[ids] = False
        self._begin_trial(ids)
        self.trials[ids] += 1
        self._new_episodes(ids)

    def _new_episodes(self, ids: Tensor) -> None:
        self.elapsed[ids] = 0
        self._begin_episode(ids)
