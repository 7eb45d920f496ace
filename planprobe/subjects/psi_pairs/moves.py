"""Pairs that differ in psi, for Sokoban trials: which way each action moves.

The first level is spent on random actions, the same in both runs, so that boards differ as the moves do. The pair is
read at the start of the second level, which is the same board: what the best move is can be seen, which action makes it
has to be remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.grid import NUM_MOVES
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.first_moves import find_first_moves
from planprobe.subjects.envs.sokoban_trial import NUM_PERMUTATIONS, SokobanTrialTask, all_permutations
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.psi_pairs.histories import PsiCandidates, lead

FEWEST_TRIED = NUM_MOVES - 1  # actions that were seen to move: the last one follows
_PERMUTATION, _ACTION = 344, 345


def draw_permutations(task: SokobanTrialTask, inputs: Inputs, num_trials: int, seed: int) -> PsiCandidates:
    """Trials whose first level is solved by chance in either run are not told: the runs would differ in length.

    Raises: RecipeError (one permutation for ever, a single level, or targets that do not all pay).
    """
    if task.permutation_id is not None or task.num_permutations < 2 or task.num_episodes < 2 or task.one_pays:
        raise RecipeError(
            "pairs that differ in what actions do need permutations that are drawn, two levels, and all targets paying."
        )
    numbers, count = torch.arange(num_trials), min(task.num_permutations, NUM_PERMUTATIONS)
    clean = draw_below(count, seed, _PERMUTATION, numbers, 0)
    corrupted = (clean + 1 + draw_below(count - 1, seed, _PERMUTATION, numbers, 1)) % count
    forced = draw_below(NUM_MOVES, seed, _ACTION, numbers[:, None], torch.arange(task.episode_steps))
    told, runs, rooms = clean != corrupted, [], []
    for permutation_ids in (clean, corrupted):

        def set_psi(env, permutation_ids=permutation_ids) -> None:
            env.permutation_ids = permutation_ids.clone()
            rooms.append(env.room)

        led = lead(task, inputs, forced, set_psi, seed=seed)
        told &= led.ended[:, -1] & (led.ended.sum(1) == 1)
        told &= _tried(forced, led.extras["moved"]) >= FEWEST_TRIED
        runs.append(led.observations)
    room = rooms[0]
    board = LevelSet(room.cells.view(num_trials, room.height, room.width), room.players)
    told &= (room.cells == rooms[1].cells).all(1) & (room.players == rooms[1].players)
    moves = torch.zeros(num_trials, NUM_MOVES, dtype=torch.bool)
    asked = told.nonzero().squeeze(1)
    if len(asked):  # the solver is the dear part
        optimal = find_first_moves(board[asked], "sokoban").optimal
        moves[asked] = optimal.gather(2, board.players[asked, None, None].expand(-1, NUM_MOVES, 1)).squeeze(2)
    permutations = all_permutations()
    best = [moves.gather(1, permutations[permutation_ids]) for permutation_ids in (clean, corrupted)]
    return PsiCandidates(*runs, *best, told=told)


def _tried(actions: Tensor, moved: Tensor) -> Tensor:
    """How many actions moved the player at least once, (N,) int64; actions, moved (N, T)."""
    counts = torch.zeros(len(actions), NUM_MOVES, dtype=torch.int64)
    return (counts.scatter_add_(1, actions, moved.to(torch.int64)) > 0).sum(1)
