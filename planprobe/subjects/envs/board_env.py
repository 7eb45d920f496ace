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

# Draws are counted, so that those of the next episodes can be made at once: a few hundred small operations an episode
# would cost small batches more than all their steps.
MOST_AHEAD, ROWS_AHEAD = 16, 1024

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
        flags = [FLAGS.get(plane, 0) for plane in self.planes]  # none is the agent's
        self._flags = torch.tensor(flags, dtype=torch.uint8, device=device)[:, None]
        num_squares = self.height * self.width
        boards = self._board_ids * len(self.planes) + self.planes.index("player")
        self._player_planes = boards * num_squares  # where each begins in an observation
        zeros = torch.zeros(num_boards, dtype=torch.int64, device=device)
        self.cells = torch.zeros(num_boards, self.height * self.width, dtype=torch.uint8, device=device)
        self.players = zeros + self.width + 1  # inside, so that a step before the first reset stays on the board
        self.level_ids, self.episodes = zeros.clone(), zeros.clone()
        self.elapsed, self.limits, self.thinking = zeros.clone(), zeros.clone(), zeros.clone()
        self.finished = torch.ones(num_boards, dtype=torch.bool, device=device)
        self.num_ahead = max(1, min(MOST_AHEAD, ROWS_AHEAD // num_boards))
        self._ahead = torch.zeros(_NUM_DRAWN, num_boards, self.num_ahead, dtype=torch.int64, device=device)
        self._first_ahead = zeros - self.num_ahead - 1  # the episode that row 0 of a board is: none yet
        if observation == "rgb":
            self._palette = torch.zeros(16, 3, dtype=torch.uint8, device=device)
            for code, colour in RGB.items():
                self._palette[code] = torch.tensor(colour, dtype=torch.uint8, device=device)

    # what a subclass defines -------------------------------------------------------------------------------------
    def _move(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Apply the moves of `active` boards in place; reward (B,) float32, solved (B,) bool, extras."""
        raise NotImplementedError

    def _place(self, level_ids: Tensor, ids: Tensor, episodes: Tensor) -> tuple[Tensor, Tensor]:
        """Start and goal, (M,) each, of some episodes of boards `ids`; goal -1: the level's own targets stay."""
        return self.levels.players[level_ids], torch.full_like(level_ids, -1)

    def _load(self, ids: Tensor, level_ids: Tensor, goals: Tensor) -> None:
        """Put levels on boards `ids` (B',)."""
        self.cells[ids] = self._bank[level_ids]

    # the protocol ------------------------------------------------------------------------------------------------
    def reset(self, level_ids: Tensor | None = None) -> Tensor:
        """Start an episode on every board, on drawn levels or on the given ones (B,)."""
        self.begin(self._board_ids, level_ids)
        return self.observe()

    def step(self, actions: Tensor) -> StepResult:
        if self.thinking_steps[1] > 0:
            thinking = self.thinking > 0
            self.thinking.sub_(thinking.to(torch.int64))
            active = ~(self.finished | thinking)
        else:
            thinking, active = torch.zeros_like(self.finished), ~self.finished
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
        shown = (self.cells[:, None] & self._flags).clamp_(max=1)
        shown.view(-1).scatter_(0, self._player_planes + self.players, 1)
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
        if level_ids is None:
            drawn = self._look_up(ids, episodes)
        else:
            drawn = self._draw(ids, episodes, level_ids.to(self.device))
        level_ids, limits, thinking, players, goals = drawn
        self.level_ids[ids], self.limits[ids], self.thinking[ids], self.players[ids] = (
            level_ids, limits, thinking, players,
        )  # fmt: skip
        self._load(ids, level_ids, goals)
        self.elapsed[ids] = 0
        self.episodes[ids] = episodes + 1
        self.finished[ids] = False

    def _look_up(self, ids: Tensor, episodes: Tensor) -> Tensor:
        """What `_draw` says of the next episode of each board, drawn `num_ahead` episodes at a time."""
        rows = episodes - self._first_ahead[ids]
        out = ((rows < 0) | (rows >= self.num_ahead)).nonzero().squeeze(1)
        if len(out):
            boards, first, number = ids[out], episodes[out], self.num_ahead
            coming = (first[:, None] + torch.arange(number, device=self.device)).flatten()
            self._ahead[:, boards] = self._draw(boards.repeat_interleave(number), coming).unflatten(1, (-1, number))
            self._first_ahead[boards] = first
            rows = episodes - self._first_ahead[ids]
        return self._ahead[:, ids, rows]

    def _draw(self, ids: Tensor, episodes: Tensor, level_ids: Tensor | None = None) -> Tensor:
        """Level, time limit, thinking steps, start and goal of some episodes of boards `ids` (M,): (5, M) int64."""
        drawn, limits, thinking = draw_below(self._bounds, self.seed, self._streams, ids, episodes)
        level_ids = drawn if level_ids is None else level_ids
        if self.thinking_steps[1] > 0:
            thinks = draw_below(1_000_000, self.seed, DRAW_THINKING, ids, episodes, 1) < self.thinking_fraction * 1e6
            thinking = torch.where(thinks, self.thinking_steps[0] + thinking, 0)
        else:
            thinking = torch.zeros_like(thinking)
        players, goals = self._place(level_ids, ids, episodes)
        return torch.stack([level_ids, self.time_limit[0] + limits, thinking, players, goals])


_NUM_DRAWN = 5
