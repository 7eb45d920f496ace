"""Mazes with a second goal, for asking whether an agent goes by the goal that it holds: pairs that differ in the goal
alone, a third goal, another start, and the observation of the same moment with any goal in it.

Kept are those on which the donor's goal lies round a corner: every shortest way there leaves a square by a move away
from the goal, as the crow flies, where one towards it is open. So nobody takes a shortest way who walks straight on,
whatever his taste among the moves that come nearer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, ShapeError, TooFewLevelsError
from planprobe.core.grid import NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.pairs import LevelPairs
from planprobe.core.rng import draw_uniform
from planprobe.subjects.envs.distance import UNREACHABLE, distance_maps, optimal_action_mask
from planprobe.subjects.envs.pairs import task_pairs
from planprobe.subjects.recipe import TaskRecipe

MIN_DISTANCE = 5  # rows plus columns from the start to either goal: out of two squares around them, whichever way
TARGET_PLANE = 1  # of observations by planes
MOST_DRAWS = 32  # pairs looked at for one that lies round a corner
_DRAW_WRONG, _DRAW_START = 331, 332


@dataclass(frozen=True)
class GoalSwaps:
    """N mazes of the test split with their own goal and a donor's.

    levels: with their own goals. donor_levels: the same with the donor's. own_goals, donor_goals, wrong_goals: (N,)
    int64 flat squares; the wrong ones are nobody's. other_starts: (N,) int64, squares elsewhere. lengths: (N,) int64
    moves of the shortest way from the start to the donor's goal. first_moves: (N,) int64, its only first one.
    level_ids: (N,) int64.
    """

    levels: LevelSet
    donor_levels: LevelSet
    own_goals: Tensor
    donor_goals: Tensor
    wrong_goals: Tensor
    other_starts: Tensor
    lengths: Tensor
    first_moves: Tensor
    level_ids: Tensor

    def __len__(self) -> int:
        return len(self.level_ids)


def goal_swaps(task: TaskRecipe, num_levels: int, *, seed: int = 0) -> GoalSwaps:
    """`num_levels` of them; more begin with the fewer.

    Raises: RecipeError (no maze seen by planes); TooFewLevelsError.
    """
    if task.kind != "maze" or task.observation != "planes":
        raise RecipeError(
            f"goals are swapped in mazes that are seen by planes, got {task.kind!r} seen by {task.observation!r}."
        )
    asked = 4 * num_levels
    while True:
        pairs = task_pairs(task, "move-goal", asked, seed=seed, min_distance=MIN_DISTANCE)
        bent = is_round_a_corner(pairs.corrupted)
        if int(bent.sum()) >= num_levels:
            return _with_controls(pairs[bent][:num_levels], seed)
        if asked >= MOST_DRAWS * num_levels:
            raise TooFewLevelsError(
                f"{num_levels} mazes with a second goal round a corner were asked for: {asked} pairs of size "
                f"{task.size} give {int(bent.sum())}.\n  Ask for fewer, or take bigger mazes."
            )
        asked *= 2


def show_goal(observation: Tensor, goals: Tensor) -> Tensor:
    """The same moment with the goal on another square.

    Args: observation (B, 3, H, W) by planes; goals (B,) flat squares. Raises: ShapeError (other planes).
    """
    if observation.ndim != 4 or observation.shape[1] != 3 or len(goals) != len(observation):
        raise ShapeError(
            f"observation {tuple(observation.shape)} with {len(goals)} goals: needs (B, 3, H, W), planes wall, target "
            "and player, and one goal each."
        )
    shown = observation.clone()
    targets = torch.zeros_like(shown[:, TARGET_PLANE].flatten(1)).scatter_(1, goals[:, None], 1)
    shown[:, TARGET_PLANE] = targets.view_as(shown[:, TARGET_PLANE])
    return shown


def is_round_a_corner(levels: LevelSet) -> Tensor:
    """Whether no shortest way from the start is one that takes a step towards the goal wherever one is open, (N,) bool.

    Towards: nearer by rows plus columns. Where no such step is open, any is as good.
    """
    goals, offsets = goal_squares_of(levels), move_offsets(levels.width)[:NUM_MOVES]
    walls = levels.boards == WALL
    squares = torch.arange(levels.height * levels.width)
    ahead = (squares + offsets[:, None]).clamp(0, len(squares) - 1)  # out of range only from the outer wall
    away = straight_distance(squares, goals[:, None], levels.width)
    towards = (away[:, ahead] < away[:, None]) & ~walls.flatten(1)[:, ahead]
    optimal = optimal_action_mask(distance_maps(walls, goals)).flatten(2)
    straight_on = optimal & (towards | ~towards.any(1, keepdim=True))
    reached = torch.zeros(len(goals), len(squares), dtype=torch.bool).scatter_(1, levels.players[:, None], True)
    for _ in range(len(squares)):
        wave = reached.clone()
        for move in range(NUM_MOVES):
            stepped = reached & straight_on[:, move]
            wave[:, ahead[move]] |= stepped  # each square is ahead of one other
        if torch.equal(wave, reached):
            break
        reached = wave
    return ~reached.gather(1, goals[:, None]).squeeze(1)


def straight_distance(first: Tensor, second: Tensor, width: int) -> Tensor:
    """Rows plus columns between squares (..., ) of boards of that width."""
    return (first // width - second // width).abs() + (first % width - second % width).abs()


def goal_squares_of(levels: LevelSet) -> Tensor:
    """Flat square of the target of each level, (N,) int64."""
    return ((levels.boards & TARGET) != 0).flatten(1).to(torch.uint8).argmax(1)


def _with_controls(pairs: LevelPairs, seed: int) -> GoalSwaps:
    """Draw a wrong goal and another start on each level, both far from start and goals where the maze has room."""
    own, donor, starts = goal_squares_of(pairs.clean), goal_squares_of(pairs.corrupted), pairs.clean.players
    reach = distance_maps(pairs.clean.boards == WALL, starts).flatten(1)
    wrong = _draw_far(reach > 0, [starts, own, donor], pairs.level_ids, pairs.clean.width, seed, _DRAW_WRONG)
    other = _draw_far(reach > 0, [starts, own, donor, wrong], pairs.level_ids, pairs.clean.width, seed, _DRAW_START)
    lengths = reach.gather(1, donor[:, None]).squeeze(1).to(torch.int64)
    assert UNREACHABLE not in lengths.tolist()
    return GoalSwaps(
        pairs.clean, pairs.corrupted, own, donor, wrong, other, lengths, pairs.corrupted_actions, pairs.level_ids
    )


def _draw_far(options: Tensor, taken: list[Tensor], ids: Tensor, width: int, seed: int, stream: int) -> Tensor:
    """A square of `options` (N, H*W) as far from the `taken` ones as chance and room allow: the best of all squares by
    its distance to the nearest taken one, counted up to MIN_DISTANCE, ties by a draw."""
    squares = torch.arange(options.shape[1])
    away = torch.stack([straight_distance(squares, each[:, None], width) for each in taken]).amin(0)
    luck = draw_uniform(seed, stream, ids[:, None], squares)
    scores = (away.clamp(max=MIN_DISTANCE) + luck).masked_fill(~options | (away == 0), -1.0)
    return scores.argmax(1)
