"""What Sokoban and the maze share: a bank of levels, time limits, thinking steps, resets, observations.

B boards are stepped by a handful of tensor operations, with no Python loop over boards, on whatever device the levels
live. Which level a board plays is a draw counted by (seed, board, episode), so board i is the same in any batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.protocols import StepResult
from planprobe.core.rng import draw_below

# streams of the counter-based draws, so that no two decisions share random bits
DRAW_LEVEL, DRAW_LIMIT, DRAW_THINKING, DRAW_GOAL, DRAW_START, DRAW_WALK = range(6)

FLAGS = {"wall": WALL, "target": TARGET, "box": BOX}

# FAR's tiny RGB: index = board code without WALL (target 2, box 4) + 8 if the player is there; index 1 is a wall.
RGB = {
    0: (243, 248, 238), 1: (0, 0, 0), 2: (254, 126, 125), 4: (142, 121, 56), 6: (254, 95, 56),
    8: (160, 212, 56), 10: (219, 212, 56),
}  # fmt: skip


class BoardEnv:
    """B boards of one size. Subclasses say how a move changes the board and what it earns.

    Args:
        levels: the bank that every board draws from.
        num_boards: B.
        time_limit: steps before an episode is truncated; a pair draws the limit per episode, ends included, so that
            resets do not synchronise.
        seed: of level, limit and start draws.
        noop: offer a fifth action that does nothing.
        thinking_steps: the first n steps of an episode ignore the action, earn nothing and cost no time, n drawn in
            this inclusive range; the observation stays frozen, so an agent trained so has seen thinking time.
        thinking_fraction: share of episodes that begin with thinking steps.
        autoreset: start the next episode in the step that ends one; otherwise a finished board stands still.
        observation: 'planes' (one uint8 plane a kind of thing) or 'rgb' (3 planes, FAR's colours).
    Raises: ShapeError (no levels, or an unknown observation preset).
    """

    planes: tuple[str, ...] = ("wall", "target", "player")

    def __init__(
        self,
        levels: LevelSet,
        num_boards: int,
        *,
        time_limit: int | tuple[int, int] = 120,
        seed: int = 0,
        noop: bool = False,
        thinking_steps: tuple[int, int] = (0, 0),
        thinking_fraction: float = 1.0,
        device: torch.device | str = "cpu",
        autoreset: bool = True,
        observation: str = "planes",
    ) -> None:
        if len(levels) == 0 or num_boards < 1:
            raise ShapeError(f"needs at least one level and one board, got {len(levels)} and {num_boards}.")
        if observation not in ("planes", "rgb"):
            raise ShapeError(f"observation '{observation}' is not one of 'planes', 'rgb'.")
        self.levels = levels.to(device)
        self.num_boards, self.height, self.width = num_boards, levels.height, levels.width
        self.time_limit = (time_limit, time_limit) if isinstance(time_limit, int) else (time_limit[0], time_limit[1])
        self.seed, self.autoreset, self.observation_preset = seed, autoreset, observation
        self.thinking_steps, self.thinking_fraction = thinking_steps, thinking_fraction
        self.num_actions = NUM_MOVES + int(noop)
        self.num_planes = len(self.planes) if observation == "planes" else 3
        self.device = torch.device(device)
        self._bank = self.levels.boards.flatten(1)
        self._offsets = move_offsets(self.width, device)
        spans = [len(levels), *(high - low + 1 for low, high in (self.time_limit, thinking_steps))]
        self._bounds = torch.tensor(spans, device=device)[:, None]
        self._streams = torch.tensor([DRAW_LEVEL, DRAW_LIMIT, DRAW_THINKING], device=device)[:, None]
        self._board_ids = torch.arange(num_boards, device=device)
        zeros = torch.zeros(num_boards, dtype=torch.int64, device=device)
        self.cells = torch.zeros(num_boards, self.height * self.width, dtype=torch.uint8, device=device)
        self.players = zeros + self.width + 1  # inside, so that a step before the first reset stays on the board
        self.level_ids, self.episodes = zeros.clone(), zeros.clone()
        self.elapsed, self.limits, self.thinking = zeros.clone(), zeros.clone(), zeros.clone()
        self.finished = torch.ones(num_boards, dtype=torch.bool, device=device)
        if observation == "rgb":
            self._palette = torch.zeros(16, 3, dtype=torch.uint8, device=device)
            for code, colour in RGB.items():
                self._palette[code] = torch.tensor(colour, dtype=torch.uint8, device=device)

    # what a subclass defines -------------------------------------------------------------------------------------
    def _move(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Apply the moves of `active` boards in place; reward (B,) float32, solved (B,) bool, extras."""
        raise NotImplementedError

    def _place(self, ids: Tensor) -> None:
        """Adjust freshly loaded boards `ids` (B',), e.g. redraw start and goal."""

    # the protocol ------------------------------------------------------------------------------------------------
    def reset(self, level_ids: Tensor | None = None) -> Tensor:
        """Start an episode on every board, on drawn levels or on the given ones (B,)."""
        self.begin(self._board_ids, level_ids)
        return self.observe()

    def step(self, actions: Tensor) -> StepResult:
        thinking = self.thinking > 0
        active = ~(self.finished | thinking)
        self.thinking.sub_(thinking.to(torch.int64))
        self.elapsed.add_(active)
        reward, solved, extras = self._move(actions, active)
        over = self.elapsed >= self.limits
        truncated = active & ~solved & (over | extras["lost"] if "lost" in extras else over)
        done = solved | truncated
        self.finished = self.finished | done
        if self.autoreset:
            ended = done.nonzero().squeeze(1)
            if len(ended):
                self.begin(ended)
        extras |= {"thinking": thinking, "active": active}
        return StepResult(self.observe(), reward, done, done.clone(), solved, truncated, extras)

    def observe(self) -> Tensor:
        """The present observation (B, C, H, W) uint8, freshly allocated."""
        if self.observation_preset == "rgb":
            player = torch.zeros_like(self.cells).scatter_(1, self.players[:, None], 1)
            colours = self._palette[(self.cells.to(torch.int64) + 8 * player)]
            return colours.view(self.num_boards, self.height, self.width, 3).permute(0, 3, 1, 2).contiguous()
        shown = self.cells.new_empty(self.num_boards, len(self.planes), self.height * self.width)
        for name, plane in zip(self.planes, shown.unbind(1), strict=True):
            if name == "player":
                plane.zero_().scatter_(1, self.players[:, None], 1)
            else:
                torch.bitwise_and(self.cells, FLAGS[name], out=plane)
                if FLAGS[name] > 1:
                    plane.clamp_(max=1)
        return shown.view(self.num_boards, len(self.planes), self.height, self.width)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as tensors."""
        names = ("cells", "players", "level_ids", "episodes", "elapsed", "limits", "thinking", "finished")
        return {name: getattr(self, name).clone() for name in names}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(self.device).clone())

    # ---------------------------------------------------------------------------------------------------------------
    def begin(self, ids: Tensor, level_ids: Tensor | None = None) -> None:
        """Start an episode on boards `ids` (B',) alone, on drawn levels or on the given ones."""
        episodes = self.episodes[ids]
        drawn, limits, thinking = draw_below(self._bounds, self.seed, self._streams, ids, episodes)
        level_ids = drawn if level_ids is None else level_ids.to(self.device)
        self.level_ids[ids] = level_ids
        self.cells[ids] = self._bank[level_ids]
        self.players[ids] = self.levels.players[level_ids]
        self.elapsed[ids] = 0
        self.limits[ids] = self.time_limit[0] + limits
        if self.thinking_steps[1] > 0:
            thinks = draw_below(1_000_000, self.seed, DRAW_THINKING, ids, episodes, 1) < self.thinking_fraction * 1e6
            self.thinking[ids] = torch.where(thinks, self.thinking_steps[0] + thinking, 0)
        else:
            self.thinking[ids] = 0
        self._place(ids)
        self.episodes[ids] = episodes + 1
        self.finished[ids] = False
