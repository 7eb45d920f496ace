"""Exact belief over which way each action moves in Sokoban trials: the 24 permutations, enumerated.

A move tells its action apart from every other; a blocked one says only that the action's direction is one of those that
were blocked. Where an episode ends its last board is not shown any more, and the reward has to speak for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.envs.sokoban_trial import (
    ALL_PAY,
    NUM_PERMUTATIONS,
    SokobanTrialTask,
    all_permutations,
    keep_target,
)

_SAME_REWARD = 1e-4  # rewards of different outcomes differ by 1, those of the same only by rounding


def prior_permutations(task: SokobanTrialTask, num_boards: int, device: torch.device | str = "cpu") -> Tensor:
    """Belief before the first step over (permutation, which target pays), (B, 24, K) float64; K = 1 where all pay."""
    belief = torch.ones(num_boards, NUM_PERMUTATIONS, len(paying_ranks(task)), dtype=torch.float64, device=device)
    ids = torch.arange(NUM_PERMUTATIONS, device=device)
    may_be = ids < task.num_permutations if task.permutation_id is None else ids == task.permutation_id
    belief[:, ~may_be] = 0
    return belief / belief.sum((1, 2), keepdim=True)


def paying_ranks(task: SokobanTrialTask) -> list[int]:
    """What the rank of the paying target may be, in the order of the belief's last axis."""
    return list(range(task.num_boxes[0])) if task.one_pays else [ALL_PAY]


def update_permutation_belief(
    belief: Tensor, before: Tensor, actions: Tensor, result: StepResult, after: Tensor, task: SokobanTrialTask
) -> Tensor:
    """Posterior after one step, of boards that were active.

    Args: belief (B, 24, K); before, after (B, 4, H, W): the views around the step; result: of that step.
    Raises: ShapeError (a step that cannot have come of any permutation).
    """
    seen = (before, actions, result.reward, result.solved, result.episode_done, after)
    joint = belief * permutation_likelihood(*seen, task)
    total = joint.sum((1, 2), keepdim=True)
    if not bool((total > 0).all()):
        raise ShapeError(
            f"update_permutation_belief: on {int((total == 0).sum())} of {len(belief)} boards nothing explains it.\n"
            "  Hand in views of one and the same step, of boards that were active."
        )
    return joint / total


def permutation_likelihood(
    before: Tensor,
    actions: Tensor,
    reward: Tensor,
    solved: Tensor,
    ended: Tensor,
    after: Tensor,
    task: SokobanTrialTask,
) -> Tensor:
    """Which (permutation, paying target) would have shown the same, (B, 24, K) bool.

    before, after (B, 4, H, W): views around a step; actions, reward, solved, ended (B,) of it, `ended` of the episode.
    """
    permutations = all_permutations().to(actions.device)
    cells, players = read_view(before)
    seen_player = read_view(after)[1]
    likelihoods = []
    for rank in paying_ranks(task):
        kept = keep_target(cells, torch.full_like(players, rank))
        foreseen, solves, landed = foresee_moves(kept, players, before.shape[2:])
        fits = (foreseen - reward[:, None]).abs() < _SAME_REWARD
        fits &= solves == solved[:, None]
        fits &= ended[:, None] | (landed == seen_player[:, None])
        likelihoods.append(fits.gather(1, permutations[:, actions].T))  # direction under each permutation
    return torch.stack(likelihoods, dim=2)


def read_view(view: Tensor) -> tuple[Tensor, Tensor]:
    """Board codes (B, H*W) uint8 and the player's square (B,) of views (B, 4, H, W)."""
    planes = dict(zip(Sokoban.planes, view.flatten(2).to(torch.uint8).unbind(1), strict=True))
    cells = planes["wall"] * WALL + planes["target"] * TARGET + planes["box"] * BOX
    return cells, planes["player"].argmax(1)


def foresee_moves(cells: Tensor, players: Tensor, board: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """What each of the four moves would do: reward, solved and the player's square after it, (B, 4) each.

    The game itself is asked, so that foresight and rules cannot differ.
    """
    num_boards = len(cells)
    blank = LevelSet(cells[:1].view(1, *board), players[:1])
    rooms = Sokoban(blank, num_boards * NUM_MOVES, device=cells.device, autoreset=False)
    rooms.reset()
    rooms.cells = cells.repeat_interleave(NUM_MOVES, dim=0)
    rooms.players = players.repeat_interleave(NUM_MOVES)
    result = rooms.step(torch.arange(NUM_MOVES, device=cells.device).repeat(num_boards))
    return (
        result.reward.view(num_boards, NUM_MOVES), result.solved.view(num_boards, NUM_MOVES),
        rooms.players.view(num_boards, NUM_MOVES),
    )  # fmt: skip
