"""Pairs that differ in psi, for tasks where the agent walks: where the goal is, which door is open.

Hidden goal: the first episode walks the grid row by row, over both goals; only what is paid differs. Then the agent is
walked, over neither of them, to a square from which no move is best for both.
Doors: the first episode walks past every door and sees which is open. The pair is read in the second, before the wall.
Maze trials: a goal ends its episode, so each run is walked a shortest way to its own, after as many blocked moves that
both arrive at once. The pair is read at the start of the second episode, after a blocked move, so that the last action
is the same in both.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError
from planprobe.core.grid import NUM_MOVES, move_offsets
from planprobe.subjects.envs.cell_world import walls_around
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.doors import WALL_COLUMN, WIDTH, DoorsTask, door_maps
from planprobe.subjects.envs.hidden_goal import CORNER, HiddenGoalTask, goal_squares
from planprobe.subjects.envs.maze_trial import MazeTrialTask, cell_squares
from planprobe.subjects.envs.routes import draw_square
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.psi_pairs.histories import PsiCandidates, lead

UP, DOWN, LEFT, RIGHT, STAY = range(5)
MAX_WALK = 3  # moves from the corner to where a pair of hidden goals is read
NEAREST, FARTHEST = 4, 8  # moves from the start of a maze to both of its goals
_GOAL, _WALK = 341, 342


# hidden goal ---------------------------------------------------------------------------------------------------------
def draw_goals(task: HiddenGoalTask, inputs: Inputs, num_trials: int, seed: int) -> PsiCandidates:
    """Pay that is left to chance, or starts that move, would make histories differ in more than psi.

    Pairs differ in length of the last walk; the shorter ones stay in the corner first.
    Raises: RecipeError (noisy pay, a start that moves, one episode).
    """
    if (task.hit_rate, task.false_rate) != (1.0, 0.0) or task.start != "corner" or task.num_episodes < 2:
        raise RecipeError("pairs that differ in the goal alone need sure pay, the corner as start and two episodes.")
    sweep, numbers = _sweep(task), torch.arange(num_trials)
    walked = torch.zeros(task.size**2, dtype=torch.bool)
    walked[CORNER + move_offsets(task.size)[sweep].cumsum(0)] = True
    may = (walked & goal_squares(task.size)).expand(num_trials, -1)
    clean = draw_square(may, seed, _GOAL, numbers, 0)
    corrupted = draw_square(may.scatter(1, clean[:, None], False), seed, _GOAL, numbers, 1)
    best = [_best_moves(goals, task.size) for goals in (clean, corrupted)]
    squares = torch.arange(task.size**2)
    near = squares // task.size + squares % task.size <= MAX_WALK
    here = draw_square(~(best[0] & best[1]).any(1) & near, seed, _WALK, numbers)
    forced = torch.cat([sweep.expand(num_trials, -1), _walk_to(here, task.size)], dim=1)
    drawn = replace(task, goal=None)
    led = [lead(drawn, inputs, forced, _set_goals(goals), seed=seed) for goals in (clean, corrupted)]
    first, second = (run.rewards[:, -MAX_WALK:] for run in led)
    told = (may.sum(1) >= 2) & (first == second).all(1)  # the last walk leads over neither goal
    return PsiCandidates(*(run.observations for run in led), *(mask[numbers, :, here] for mask in best), told=told)


def serpentine(size: int) -> Tensor:
    """Moves that walk over every square of a grid, row by row, from the corner, (size**2 - 1,) int64."""
    moves: list[int] = []
    for row in range(size):
        moves += [RIGHT if row % 2 == 0 else LEFT] * (size - 1) + [DOWN]
    return torch.tensor(moves[:-1])


def _sweep(task: HiddenGoalTask) -> Tensor:
    """The moves of the first episode, (episode_steps,): row by row, and staying where that is done."""
    moves = serpentine(task.size)[: task.episode_steps]
    return torch.cat([moves, torch.full((task.episode_steps - len(moves),), STAY)])


def _best_moves(goals: Tensor, size: int) -> Tensor:
    """Best moves on every square, (N, 5, S) bool; on the goal itself, to stay."""
    away = distance_maps(torch.zeros(len(goals), size, size, dtype=torch.bool), goals)
    return torch.cat([optimal_action_mask(away).flatten(2), (away == 0).flatten(1)[:, None]], dim=1)


def _walk_to(squares: Tensor, size: int) -> Tensor:
    """Moves (N, MAX_WALK) from the corner to squares (N,): staying first, then down, then right."""
    down, right = (squares // size)[:, None], (squares % size)[:, None]
    place = torch.arange(MAX_WALK) - (MAX_WALK - down - right)
    return torch.where(place < 0, STAY, torch.where(place < down, DOWN, RIGHT))


def _set_goals(goals: Tensor):
    def set_psi(env) -> None:
        env.goals = goals.clone()

    return set_psi


# doors ---------------------------------------------------------------------------------------------------------------
def draw_doors(task: DoorsTask, inputs: Inputs, num_trials: int, seed: int) -> PsiCandidates:
    """Raises: RecipeError (doors that are felt and not seen, a start that moves, one episode, or too short a one)."""
    past_doors = [RIGHT] + [UP] * (task.num_doors - 1) + [DOWN] * (2 * task.num_doors - 2)
    if task.view != "neighbours" or task.start != "fixed" or task.num_episodes < 2:
        raise RecipeError(
            "pairs that differ in the open door alone need view = 'neighbours', a fixed start and two episodes: with "
            "'bump' one walks on where a door is open."
        )
    if task.episode_steps < len(past_doors):
        raise RecipeError(f"walking past {task.num_doors} doors takes {len(past_doors)} steps of an episode.")
    numbers, doors = torch.arange(num_trials), torch.ones(num_trials, task.num_doors, dtype=torch.bool)
    clean = draw_square(doors, seed, _GOAL, numbers, 0)
    corrupted = draw_square(doors.scatter(1, clean[:, None], False), seed, _GOAL, numbers, 1)
    down = [DOWN] * (task.episode_steps - len(past_doors))  # into the outer wall, until the time is up
    forced = torch.tensor([*past_doors, *down, RIGHT]).expand(num_trials, -1)
    here = task.num_doors * WIDTH + WALL_COLUMN - 1
    away = distance_maps(door_maps(task.num_doors), torch.full((task.num_doors,), task.goal))
    best = optimal_action_mask(away).flatten(2)[:, :, here]
    runs = []
    for opened in (clean, corrupted):

        def set_psi(env, opened=opened) -> None:
            env.doors = opened.clone()

        runs.append(lead(task, inputs, forced, set_psi, seed=seed).observations)
    return PsiCandidates(runs[0], runs[1], best[clean], best[corrupted], told=clean != corrupted)


# mazes ---------------------------------------------------------------------------------------------------------------
def draw_maze_goals(task: MazeTrialTask, inputs: Inputs, num_trials: int, seed: int) -> PsiCandidates:
    """Two goals in one maze, each NEAREST to FARTHEST moves from the start.

    Raises: RecipeError (a start that moves, one goal for ever, one episode, or too short a one).
    """
    if task.start != "fixed" or task.one_goal or task.num_episodes < 2 or task.episode_steps <= FARTHEST:
        raise RecipeError(
            "pairs that differ in the goal alone need a fixed start, goals that are drawn, two episodes, and more than "
            f"{FARTHEST} steps in each."
        )
    env, numbers = task.make_env(num_trials, seed=seed, autoreset=False), torch.arange(num_trials)
    env.reset()
    walls, starts = env.walls, env.players
    away = distance_maps(walls, starts).flatten(1)
    may = cell_squares(task.size) & (away >= NEAREST) & (away <= FARTHEST)
    clean = draw_square(may, seed, _GOAL, numbers, 0)
    corrupted = draw_square(may.scatter(1, clean[:, None], False), seed, _GOAL, numbers, 1)
    blocked = walls_around(walls)[numbers, starts]
    bump = blocked.to(torch.uint8).argmax(1)
    told = (may.sum(1) >= 2) & blocked.any(1)
    runs, best = [], []
    for goals in (clean, corrupted):
        moves = optimal_action_mask(distance_maps(walls, goals)).flatten(2)
        forced = torch.cat([_walk_maze(moves, starts, away[numbers, goals], bump), bump[:, None]], dim=1)
        led = lead(task, inputs, forced, _set_goals(goals), seed=seed)
        told &= led.ended[:, FARTHEST - 1] & (led.ended.sum(1) == 1)
        runs.append(led.observations)
        best.append(moves[numbers, :, starts])
    return PsiCandidates(*runs, *best, told=told)


def _walk_maze(best: Tensor, starts: Tensor, lengths: Tensor, bump: Tensor) -> Tensor:
    """Moves (N, FARTHEST) from starts along best moves (N, 4, H*W), `lengths` (N,) of them, after blocked ones (N,)."""
    rows, here, actions = torch.arange(len(starts)), starts, []
    offsets = move_offsets(int(best.shape[2] ** 0.5))[:NUM_MOVES]
    for step in range(FARTHEST):
        goes = step >= FARTHEST - lengths
        move = best[rows, :, here].to(torch.uint8).argmax(1)
        actions.append(torch.where(goes, move, bump))
        here = torch.where(goes, here + offsets[move], here)
    return torch.stack(actions, dim=1)
