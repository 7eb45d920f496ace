"""Plans as futures: what a perfect player would do from a state, and what it would do if its first move were barred.

They give labels that owe nothing to the agent: where it goes, and by the rewards of the task what that is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, ShapeError, unknown_name
from planprobe.core.futures import Futures
from planprobe.core.grid import BOX, NUM_MOVES, TARGET, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.board_env import RGB
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.maze import GOAL_REWARD, STEP_REWARD
from planprobe.subjects.envs.routes import find_two_routes, trace_routes
from planprobe.subjects.envs.signpost import SIGNPOST, without_signs
from planprobe.subjects.envs.sokoban import ON_TARGET_REWARD, SOLVED_REWARD
from planprobe.subjects.envs.sokoban import STEP_REWARD as SOKOBAN_STEP_REWARD
from planprobe.subjects.envs.solver import MAX_NODES, solve_levels

KINDS = ("maze", "sokoban", "boxoban")
PLANS = ("optimal", "alternative")
PLANE_FLAGS = {3: (WALL, TARGET), 4: (WALL, TARGET, BOX)}  # by number of planes; the player's plane is last


def optimal_futures(
    boards: Tensor, players: Tensor, kind: str, *, max_nodes: int = MAX_NODES, executor: Executor | None = None
) -> Futures:
    """A shortest plan from each state, to the goal.

    Maze: a shortest path, of several the one that takes the lower action number first. Sokoban: the solver's plan with
    the fewest moves. Plans are rarely unique; one is chosen, always the same for the same board.

    Args:
        boards: (M, H, W) uint8 as the state stands (boxes where they are now); players (M,) int64.
        kind: the task's: 'maze', 'sokoban' or 'boxoban'. max_nodes, executor: as `solver.solve_levels`.
    Returns: futures of the longest plan's length; `known` is false where there is no plan (the state cannot be solved
        any more) or none was found within max_nodes.
    Raises: RecipeError (unknown kind); ShapeError (a maze without exactly one target).
    """
    if kind not in KINDS:
        raise unknown_name("kind of task", kind, KINDS, error=RecipeError)
    if kind == "maze":
        return _shortest_paths(boards, players)
    # an agent that is stuck comes back to the same few states, and those take the solver longest
    keys, inverse = torch.cat([boards.flatten(1).to(torch.int64), players[:, None]], dim=1).unique(
        dim=0, return_inverse=True
    )
    levels = LevelSet(keys[:, :-1].to(torch.uint8).view(-1, *boards.shape[1:]), keys[:, -1], "states")
    solutions = solve_levels(levels, metric="moves", max_nodes=max_nodes, executor=executor)
    lengths = torch.tensor([len(solution.actions) for solution in solutions], dtype=torch.int64)
    actions = torch.zeros(len(levels), max(lengths.tolist(), default=1) or 1, dtype=torch.int64)
    for row, solution in enumerate(solutions):
        actions[row, : len(solution.actions)] = torch.tensor(solution.actions, dtype=torch.int64)
    known = torch.tensor([solution.status == "solved" for solution in solutions], dtype=torch.bool)
    return replay_actions(levels.boards, levels.players, actions, lengths, known=known)[inverse]


def replay_actions(
    boards: Tensor, players: Tensor, actions: Tensor, lengths: Tensor, *, known: Tensor | None = None
) -> Futures:
    """Play given actions, by the rules of Sokoban (and of the maze, which is Sokoban without boxes).

    Args: boards (M, H, W); players (M,); actions (M, P); lengths (M,): actions beyond are not taken.
    Returns: futures that know 'board' and 'rewards', those of Sokoban, of which the last action may solve the board.
    """
    cells = boards.flatten(1).clone()
    offsets = move_offsets(boards.shape[2], boards.device)
    here, positions, moved, pushed, rewards = players, [players], [], [], []
    for step in range(actions.shape[1]):
        offset = torch.where(step < lengths, offsets[actions[:, step]], 0)
        ahead = here + offset
        beyond = (ahead + offset).clamp(0, cells.shape[1] - 1)  # out of range only where `ahead` is border wall
        cell_ahead, cell_beyond = (cells.gather(1, square[:, None]).squeeze(1) for square in (ahead, beyond))
        has_box = (cell_ahead & BOX) != 0
        moves = (offset != 0) & ((cell_ahead & WALL) == 0) & (~has_box | ((cell_beyond & (WALL | BOX)) == 0))
        pushes = moves & has_box
        gained = ((cell_beyond & TARGET).float() - (cell_ahead & TARGET).float()) / TARGET * pushes
        rewards.append(SOKOBAN_STEP_REWARD * (step < lengths) + ON_TARGET_REWARD * gained)
        rows = pushes.nonzero().squeeze(1)
        cells[rows, ahead[rows]] ^= BOX
        cells[rows, beyond[rows]] |= BOX
        here = torch.where(moves, ahead, here)
        for part, value in zip((positions, moved, pushed), (here, moves, pushes), strict=True):
            part.append(value)
    placed = cells & (TARGET | BOX)
    solved = ~((placed == TARGET).any(1) & (placed == BOX).any(1)) & (lengths > 0)
    earned = _add_at_end(torch.stack(rewards, 1), lengths, SOLVED_REWARD * solved)
    return Futures(
        torch.stack(positions, 1), actions, torch.stack(moved, 1), torch.stack(pushed, 1),
        *(() if known is None else (known,)), lengths=lengths, facts={"board": boards, "rewards": earned},
    )  # fmt: skip


def _add_at_end(rewards: Tensor, lengths: Tensor, last: Tensor) -> Tensor:
    """Rewards (M, P) with `last` (M,) added to that of the last of `lengths` (M,) steps."""
    return rewards.scatter_add(1, (lengths - 1).clamp(min=0)[:, None], last[:, None].to(rewards))


def alternative_futures(boards: Tensor, players: Tensor) -> Futures:
    """The second-best way through a maze: the shortest one that never enters the square of the best first move.

    Args: as `optimal_futures`. Returns: `known` is false where there is no second way.
    Raises: ShapeError (a maze without exactly one target).
    """
    goals = _only_target(boards)
    pair = find_two_routes((boards & WALL) != 0, players, goals)
    return _follow_routes(boards, players, pair.long_route, known=pair.long_length > 0)


def boards_from_observations(observations: Tensor, *, observation: str = "planes") -> tuple[Tensor, Tensor]:
    """Boards (M, H, W) uint8 and players (M,) int64 that were seen as observations (M, C, H, W) uint8.

    Args: observation: the preset of the task, 'planes', 'rgb' or 'signpost'.
    Raises: ShapeError (not an observation of that preset).
    """
    if observations.ndim != 4:
        raise ShapeError(f"observations must be (M, C, H, W), got {tuple(observations.shape)}.")
    if observation == SIGNPOST:
        observations = without_signs(observations)
    if observation == "rgb":
        boards, is_player = _read_colours(observations)
    else:
        flags = PLANE_FLAGS.get(observations.shape[1])
        if flags is None or int(observations.max()) > 1:
            raise ShapeError(
                f"observations {tuple(observations.shape)} with values up to {int(observations.max())} are not planes "
                "of 0 and 1: wall, target, (box,) player.\n  Colours? Say observation='rgb'."
            )
        boards = torch.stack([flag * observations[:, plane] for plane, flag in enumerate(flags)]).sum(0)
        is_player = observations[:, -1] != 0
    is_player = is_player.flatten(1)
    if not (is_player.sum(1) == 1).all():
        raise ShapeError("some observations do not show exactly one player; are they really of this preset?")
    return boards.to(torch.uint8), is_player.to(torch.uint8).argmax(1)


def observation_planner(
    kind: str,
    *,
    plan: str = "optimal",
    observation: str = "planes",
    max_nodes: int = MAX_NODES,
    executor: Executor | None = None,
) -> Callable[[Tensor], Futures]:
    """The function from observations (M, C, H, W) to futures that instruments are given.

    Args: plan: 'optimal', or 'alternative' for the second-best way through a maze.
    Raises: RecipeError (unknown plan, or an alternative plan of another task than a maze).
    """
    if plan not in PLANS:
        raise unknown_name("plan", plan, PLANS, error=RecipeError)
    if plan == "alternative" and kind != "maze":
        raise RecipeError(f"second-best ways are known of mazes, not of a {kind} task.")

    def find_plans(observations: Tensor) -> Futures:
        boards, players = boards_from_observations(observations, observation=observation)
        if plan == "alternative":
            return alternative_futures(boards, players)
        return optimal_futures(boards, players, kind, max_nodes=max_nodes, executor=executor)

    return find_plans


def _only_target(boards: Tensor) -> Tensor:
    """The target's square on each board, (M,) int64."""
    is_target = (boards & TARGET).flatten(1) != 0
    if not (is_target.sum(1) == 1).all():
        raise ShapeError("a maze has exactly one target on every board; some of these have none or several.")
    return is_target.to(torch.uint8).argmax(1)


def _shortest_paths(boards: Tensor, players: Tensor) -> Futures:
    distance = distance_maps((boards & WALL) != 0, _only_target(boards))
    routes, _, _ = trace_routes(distance, players)
    return _follow_routes(boards, players, routes, known=routes[:, 0] >= 0)


def _follow_routes(boards: Tensor, players: Tensor, routes: Tensor, *, known: Tensor) -> Futures:
    """Futures along routes (M, R) of squares of a maze, the start first, the goal last, padded with -1."""
    positions = [players]
    for squares in routes[:, 1:].unbind(1):
        positions.append(torch.where(squares >= 0, squares, positions[-1]))
    if len(positions) == 1:  # no board has a move to make: one step in which nothing happens
        positions.append(players)
    positions = torch.stack(positions, dim=1)
    step = positions.diff(dim=1)
    offsets = move_offsets(boards.shape[2], boards.device)[:NUM_MOVES]
    actions = (step[:, :, None] == offsets).to(torch.uint8).argmax(2)
    lengths = (routes[:, 1:] >= 0).sum(1)
    rewards = _add_at_end(STEP_REWARD * (step != 0), lengths, GOAL_REWARD * (lengths > 0))
    return Futures(
        positions, actions, step != 0, torch.zeros_like(step, dtype=torch.bool), known, lengths,
        facts={"board": boards, "rewards": rewards},
    )  # fmt: skip


def _read_colours(observations: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and player of RGB boards (M, 3, H, W)."""
    codes = torch.full_like(observations[:, 0], 255)
    for code, colour in RGB.items():
        shown = observations == torch.tensor(colour, dtype=torch.uint8, device=observations.device)[:, None, None]
        codes = torch.where(shown.all(1), code, codes)
    if (codes == 255).any():
        raise ShapeError("some squares have a colour that no board has.")
    return codes & (WALL | TARGET | BOX), (codes & 8) != 0
