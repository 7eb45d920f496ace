"""Sokoban trials: which way each action moves is a hidden permutation, drawn per trial; so may be the target that pays.

An agent has to find out what its actions do, on levels it has never seen, and go on using it in the next level. The
board is shown as in `sokoban`, so that a net with a board inside can play it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.grid import NUM_MOVES, TARGET
from planprobe.core.levels import SPLITS, LevelSet
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.envs.trial import DRAW_EPISODE, DRAW_TASK, TrialEnv

NUM_PERMUTATIONS = 24
ALL_PAY = -1
HELD_OUT_LEVELS = 500
LEVEL_SEEDS = {"train": 21, "valid": 22, "test": 23}
_PERMUTATION, _PAYING = range(2)  # what a draw decides
_TARGET_PLANE = Sokoban.planes.index("target")


@dataclass(frozen=True)
class SokobanTrialTask:
    """Options of the Sokoban trials; rewards as in `sokoban`, a solved level ends the episode.

    size: squares a side, outer wall included. num_boxes: fewest and most.
    num_episodes: E, cut after `episode_steps` steps each.
    same_level: play one level in all episodes of a trial, in place of a new one in each.
    one_pays: only one target counts, the k-th in reading order with k drawn per trial; a box on any other earns
        nothing, and the level is solved as soon as one is on it. All targets look alike.
    num_permutations: draw among the first so many of `all_permutations`: 1 is the identity alone, 2 may swap left
        and right, 6 leave up alone.
    permutation_id: keep this permutation for ever, in place of a draw; 0 is the identity.
    split, num_levels: the bank; its layouts are those of no other split. Held-out banks have HELD_OUT_LEVELS at most:
        small boards have few.
    Raises: RecipeError (a number out of range, an unknown split, one_pays with a single box).
    """

    kind: ClassVar[str] = "sokoban-trial"
    size: int = 7
    num_boxes: tuple[int, int] = (1, 2)
    num_episodes: int = 4
    episode_steps: int = 40
    same_level: bool = False
    one_pays: bool = False
    num_permutations: int = NUM_PERMUTATIONS
    permutation_id: int | None = None
    split: str = "train"
    num_levels: int = 20_000

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown_name("split", self.split, SPLITS, where="sokoban-trial", error=RecipeError)
        if min(self.num_episodes, self.episode_steps, self.num_levels) < 1:
            raise RecipeError(
                f"sokoban-trial needs an episode, a step and a level, got num_episodes = {self.num_episodes}, "
                f"episode_steps = {self.episode_steps}, num_levels = {self.num_levels}."
            )
        if self.one_pays and self.num_boxes[0] < 2:
            raise RecipeError(f"sokoban-trial one_pays: needs two targets to choose from, got {self.num_boxes} boxes.")
        if self.permutation_id is not None and not 0 <= self.permutation_id < NUM_PERMUTATIONS:
            raise RecipeError(f"sokoban-trial permutation_id {self.permutation_id}: there are 0 to 23.")
        if not 1 <= self.num_permutations <= NUM_PERMUTATIONS:
            raise RecipeError(f"sokoban-trial num_permutations {self.num_permutations}: there are 1 to 24.")

    def levels(self) -> LevelSet:
        """The bank of levels."""
        num_levels = self.num_levels if self.split == "train" else min(self.num_levels, HELD_OUT_LEVELS)
        return _make_bank(self.size, tuple(self.num_boxes), self.split, num_levels)

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> SokobanTrialEnv:
        """B boards side by side."""
        return SokobanTrialEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


@lru_cache(maxsize=8)
def _make_bank(size: int, num_boxes: tuple[int, int], split: str, num_levels: int) -> LevelSet:
    return generate_sokoban(num_levels, size=size, num_boxes=num_boxes, seed=LEVEL_SEEDS[split], split=split)


def all_permutations() -> Tensor:
    """The move that each action makes under each permutation, (24, 4) int64, in lexicographic order."""
    return torch.tensor(list(itertools.permutations(range(NUM_MOVES))))


def keep_target(cells: Tensor, rank: Tensor) -> Tensor:
    """Take away all targets but the `rank`-th (B,) in reading order from cells (B, H*W) uint8; ALL_PAY leaves them."""
    is_target = (cells & TARGET) != 0
    kept = (is_target.cumsum(1) == rank[:, None] + 1) | (rank[:, None] == ALL_PAY)
    return torch.where(is_target & ~kept, cells - TARGET, cells)


class SokobanTrialEnv(TrialEnv):
    """B Sokoban boards. View: planes wall, target, box, player (B, 4, H, W); every target is shown, paying or not.

    latents: permutation (B, 4) int64, the move (up, down, left, right) each action makes; permutation_id (B,) of
    `all_permutations`; paying (B,) int64, rank of the target that pays, ALL_PAY = -1 where all do.
    """

    spatial = True
    num_actions = NUM_MOVES
    num_planes = len(Sokoban.planes)

    def __init__(self, num_boards: int, task: SokobanTrialTask, **options) -> None:
        super().__init__(num_boards, num_episodes=task.num_episodes, episode_steps=task.episode_steps, **options)
        self.task = task
        self.room = Sokoban(task.levels(), num_boards, device=self.device, autoreset=False)
        self.height, self.width = self.room.height, self.room.width
        self._permutations = all_permutations().to(self.device)
        self.permutation_ids = torch.zeros(num_boards, dtype=torch.int64, device=self.device)
        self.paying = torch.full_like(self.permutation_ids, ALL_PAY)
        self.targets = torch.zeros_like(self.room.cells)  # as shown

    @property
    def players(self) -> Tensor:
        """Flat squares of the players, (B,) int64."""
        return self.room.players

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {f"room.{name}": value for name, value in self.room.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict({name: value for name, value in state.items() if not name.startswith("room.")})
        self.room.load_state_dict(
            {name.removeprefix("room."): value for name, value in state.items() if name.startswith("room.")}
        )

    def _begin_trial(self, ids: Tensor) -> None:
        counters = (ids, self.trials[ids])
        if self.task.permutation_id is None:
            drawn = draw_below(self.task.num_permutations, self.seed, DRAW_TASK, *counters, _PERMUTATION)
            self.permutation_ids[ids] = drawn
        else:
            self.permutation_ids[ids] = self.task.permutation_id
        if self.task.one_pays:
            self.paying[ids] = draw_below(self.task.num_boxes[0], self.seed, DRAW_TASK, *counters, _PAYING)

    def _begin_episode(self, ids: Tensor) -> None:
        episode = torch.zeros_like(ids) if self.task.same_level else self.episode[ids]
        level_ids = draw_below(len(self.room.levels), self.seed, DRAW_EPISODE, ids, self.trials[ids], episode)
        self.room.begin(ids, level_ids)
        cells = self.room.cells[ids]
        self.targets[ids] = cells & TARGET
        self.room.cells[ids] = keep_target(cells, self.paying[ids])

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        self.room.finished = ~active  # the room has no say in when an episode is over
        moves = self._permutations[self.permutation_ids].gather(1, actions[:, None]).squeeze(1)
        result = self.room.step(moves)
        return result.reward, result.solved, {"moved": result.extras["moved"], "pushed": result.extras["pushed"]}

    def _view(self) -> Tensor:
        view = self.room.observe().to(torch.float32)
        view[:, _TARGET_PLANE] = (self.targets != 0).view(-1, self.height, self.width).to(torch.float32)
        return view

    def latents(self) -> dict[str, Tensor]:
        return {
            "permutation": self._permutations[self.permutation_ids], "permutation_id": self.permutation_ids.clone(),
            "paying": self.paying.clone(),
        }  # fmt: skip
