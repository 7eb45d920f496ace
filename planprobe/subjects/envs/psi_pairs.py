"""Clean / corrupted pairs of histories that differ in psi alone: two hidden goals, the same forced walk.

The first episode walks the grid row by row, over both goals; only what is paid differs. Then the agent is walked to a
square from which no move is best for both goals, and the pair is read there: what differs can only have come by memory.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, TooFewLevelsError
from planprobe.core.pairs import HistoryPairs
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.hidden_goal import CORNER, HiddenGoalTask, goal_squares
from planprobe.subjects.envs.routes import draw_square
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs

UP, DOWN, LEFT, RIGHT, STAY = range(5)
MAX_WALK = 3  # moves from the corner to where a pair is read
_GOAL, _WALK = 341, 342


def psi_pairs(task: HiddenGoalTask, num_pairs: int, *, inputs: Inputs | None = None, seed: int = 0) -> HistoryPairs:
    """`num_pairs` pairs (change 'psi') of histories (N, T, F, 1, 1), read in the second episode.

    Pairs differ in length of the last walk; the shorter ones stay in the corner first. Pay that is left to chance, or
    starts that move, would make histories differ in more than psi.
    Args: inputs: what the agent is told, all of it by default.
    Raises: RecipeError (noisy pay, a start that moves, one episode); TooFewLevelsError (a grid with too few goals).
    """
    if (task.hit_rate, task.false_rate) != (1.0, 0.0) or task.start != "corner" or task.num_episodes < 2:
        raise RecipeError("pairs that differ in the goal alone need sure pay, the corner as start and two episodes.")
    if num_pairs < 1:
        raise RecipeError(f"{num_pairs} pairs were asked for: needs at least one.")
    sweep, numbers = _sweep(task), torch.arange(3 * num_pairs)
    walked = torch.zeros(task.size**2, dtype=torch.bool)
    walked[_squares_of(sweep[None], task.size).flatten()] = True
    may = (walked & goal_squares(task.size)).expand(len(numbers), -1)
    clean = draw_square(may, seed, _GOAL, numbers, 0)
    corrupted = draw_square(may.scatter(1, clean[:, None], False), seed, _GOAL, numbers, 1)
    best = [_best_moves(goals, task.size) for goals in (clean, corrupted)]
    squares = torch.arange(task.size**2)
    near = squares // task.size + squares % task.size <= MAX_WALK
    here = draw_square(~(best[0] & best[1]).any(1) & near, seed, _WALK, numbers)
    apart = ~(best[0] & best[1])[numbers, :, here].any(1)
    kept = apart.nonzero().squeeze(1)[:num_pairs]
    if len(kept) < num_pairs:
        raise TooFewLevelsError(
            f"{num_pairs} pairs of goals were asked for: the {task.size} x {task.size} grid gives {len(kept)}. Take a "
            "bigger one, or longer episodes."
        )
    forced = torch.cat([sweep.expand(num_pairs, -1), _walk_to(here[kept], task.size)], dim=1)
    first, second = (_observe(task, inputs or Inputs(), goals[kept], forced, seed) for goals in (clean, corrupted))
    action, other = (mask[kept, :, here[kept]].to(torch.uint8).argmax(1) for mask in best)
    legal = torch.ones(num_pairs, 5, dtype=torch.bool)
    return HistoryPairs(first, second, action, other, legal, torch.arange(num_pairs), "psi")


def _sweep(task: HiddenGoalTask) -> Tensor:
    """The moves of the first episode, (episode_steps,): row by row, and staying where that is done."""
    moves = serpentine(task.size)[: task.episode_steps]
    return torch.cat([moves, torch.full((task.episode_steps - len(moves),), STAY)])


def serpentine(size: int) -> Tensor:
    """Moves that walk over every square of a grid, row by row, from the corner, (size**2 - 1,) int64."""
    moves: list[int] = []
    for row in range(size):
        moves += [RIGHT if row % 2 == 0 else LEFT] * (size - 1) + [DOWN]
    return torch.tensor(moves[:-1])


def _squares_of(moves: Tensor, size: int) -> Tensor:
    """Squares after each of the moves (N, T) from the corner; none may lead off the grid."""
    offsets = torch.tensor([-size, size, -1, 1, 0])
    return CORNER + offsets[moves].cumsum(1)


def _best_moves(goals: Tensor, size: int) -> Tensor:
    """Best moves on every square, (N, 5, S) bool; on the goal itself, to stay."""
    away = distance_maps(torch.zeros(len(goals), size, size, dtype=torch.bool), goals)
    return torch.cat([optimal_action_mask(away).flatten(2), (away == 0).flatten(1)[:, None]], dim=1)


def _walk_to(squares: Tensor, size: int) -> Tensor:
    """Moves (N, MAX_WALK) from the corner to squares (N,): staying first, then down, then right."""
    down, right = (squares // size)[:, None], (squares % size)[:, None]
    place = torch.arange(MAX_WALK) - (MAX_WALK - down - right)
    return torch.where(place < 0, STAY, torch.where(place < down, DOWN, RIGHT))


def _observe(task: HiddenGoalTask, inputs: Inputs, goals: Tensor, forced: Tensor, seed: int) -> Tensor:
    """What is seen on the way and after it, (N, T + 1, F, 1, 1)."""
    env = make_trial_env(replace(task, goal=None), inputs, len(goals), seed=seed)
    observations = [env.reset()]
    env.env.goals = goals.clone()  # pyright: ignore[reportAttributeAccessIssue] - psi is what the pair is about
    observations += [env.step(actions).observation for actions in forced.T]
    return torch.stack(observations, dim=1)
