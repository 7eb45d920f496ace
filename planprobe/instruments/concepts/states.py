"""Moments of a rollout, what was done from them on, and the board as it stood."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.futures import Futures
from planprobe.core.grid import BOX, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.play import Rollout
from planprobe.core.rng import draw_bits


@dataclass(frozen=True)
class States:
    """Moments of a rollout. board_ids (M,) int64: rows of the rollout, not levels; steps (M,) int64 since the start."""

    board_ids: Tensor
    steps: Tensor

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, rows) -> States:
        return States(self.board_ids[rows], self.steps[rows])


def sample_states(rollout: Rollout, *, per_level: int, seed: int, keep: Tensor | None = None) -> States:
    """Up to `per_level` different steps of every episode, uniform over its steps, in order of board and step.

    The draw depends on (seed, level, step) alone, so a level gives the same states in whatever rollout it occurs.

    Args: keep (B,) bool, boards to draw from (say, the solved ones); all by default.
    Raises: TooFewLevelsError (nothing to draw from).
    """
    active = rollout.active if keep is None else rollout.active & keep[:, None]
    num_steps = active.shape[1]
    keys = draw_bits(seed, rollout.level_ids[:, None], torch.arange(num_steps, device=active.device))
    keys = keys.masked_fill(~active, torch.iinfo(torch.int64).max)
    steps = keys.argsort(dim=1, stable=True)[:, :per_level]
    chosen = torch.zeros_like(active).scatter_(1, steps, True) & active
    if not chosen.any():
        raise TooFewLevelsError(
            f"sample_states: none of {len(active)} episodes is kept, or per_level={per_level} asks for no state."
        )
    board_ids, steps = chosen.nonzero(as_tuple=True)
    return States(board_ids, steps)


def behaviour_futures(rollout: Rollout, states: States, *, levels: LevelSet | None = None) -> Futures:
    """What the agent went on to do from each state, to the end of the episode or to where the rollout was cut.

    What a time limit kept the agent from doing counts as never: read scores on truncated episodes with that in mind.
    `finished` is false there, so that concepts that ask for the end of an episode can leave them out.

    Args: levels: those that were played; with them the futures know the 'board' of each state. They always know
        'rewards', and 'value' where the policy said one.
    """
    rows, last = states.board_ids[:, None], rollout.lengths[states.board_ids][:, None]
    num_steps = max(1, int((last.squeeze(1) - states.steps).max())) if len(states) else 1
    steps = states.steps[:, None] + torch.arange(num_steps + 1, device=last.device)
    positions = rollout.positions[rows, torch.minimum(steps, last)]
    running = steps[:, :-1] < last
    steps = steps[:, :-1].clamp(max=rollout.actions.shape[1] - 1)
    facts = {"rewards": rollout.rewards[rows, steps] * running}
    if rollout.values is not None:
        facts["value"] = rollout.values[states.board_ids, states.steps].float().reshape(len(states))
    if levels is not None:
        facts["board"] = boards_of(levels, rollout, states)
    return Futures(
        positions, rollout.actions[rows, steps], rollout.moved[rows, steps] & running,
        rollout.pushed[rows, steps] & running, lengths=running.sum(1), finished=rollout.solved[states.board_ids],
        before=_pasts(rollout, states), facts=facts,
    )  # fmt: skip


def _pasts(rollout: Rollout, states: States) -> Futures:
    """The steps before each state."""
    rows, num_steps = states.board_ids[:, None], max(1, int(states.steps.max())) if len(states) else 1
    steps = states.steps[:, None] + torch.arange(-num_steps, 1, device=states.steps.device)
    positions = rollout.positions[rows, steps.clamp(min=0)]
    happened, steps = steps[:, :-1] >= 0, steps[:, :-1].clamp(min=0)
    return Futures(
        positions, rollout.actions[rows, steps], rollout.moved[rows, steps] & happened,
        rollout.pushed[rows, steps] & happened,
    )  # fmt: skip


def boards_of(levels: LevelSet, rollout: Rollout, states: States) -> Tensor:
    """Board codes as they stood at each state, boxes where they had been pushed to, (M, H, W) uint8."""
    cells = levels.boards[rollout.level_ids.to(levels.boards.device)].to(rollout.positions.device).flatten(1)
    found = cells[states.board_ids]
    for step in range(int(states.steps.max()) if len(states) else 0):
        rows = rollout.pushed[:, step].nonzero().squeeze(1)
        box = rollout.positions[rows, step + 1]
        cells[rows, box] &= ~BOX & 0xFF
        cells[rows, 2 * box - rollout.positions[rows, step]] |= BOX
        now = states.steps == step + 1
        found[now] = cells[states.board_ids[now]]
    return found.view(len(states), levels.height, levels.width)


def floor_mask(levels: LevelSet, rollout: Rollout, states: States) -> Tensor:
    """Squares that are not walls on the board of each state, (M, H, W) bool."""
    level_ids = rollout.level_ids[states.board_ids]
    return (levels.boards[level_ids.to(levels.boards.device)] & WALL) == 0


def branch_squares(floor: Tensor) -> Tensor:
    """Floor with three or more floor neighbours, (M, H, W) bool: squares where one could go on in several ways.

    In a corridor the geometry alone leaves two directions to choose from; a plan is tested where there are more.
    """
    around = torch.nn.functional.pad(floor, (1, 1, 1, 1)).to(torch.uint8)
    options = around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]
    return floor & (options >= 3)
