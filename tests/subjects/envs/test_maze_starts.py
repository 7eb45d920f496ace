"""Starts of training mazes, against a scalar twin that walks square by square with the same counted draws."""

import pytest
import torch

from planprobe.core.grid import TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.subjects.envs.board_env import DRAW_GOAL, DRAW_START, DRAW_WALK, MOST_AHEAD, ROWS_AHEAD
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze

LEVELS, SEED, BOARDS = generate_mazes(30, size=7, braid=0.3, seed=0, distinct_layouts=False), 5, 40
OFFSETS = (-7, 7, -1, 1)


def scalar_start(walls, board, episode, *, near_fraction, max_walk):
    """Goal and start of one board, drawn as `Maze` says it draws them."""

    def draw(bound, *counters):
        return int(draw_below(bound, SEED, *counters))

    free = [square for square, wall in enumerate(walls) if not wall]
    goal = free[draw(len(free), DRAW_GOAL, board, episode)]
    others = [square for square in free if square != goal]
    if float(draw_uniform(SEED, DRAW_WALK, board, episode)) >= near_fraction:
        return goal, others[draw(len(others), DRAW_START, board, episode)]
    length = 1 + draw(max_walk, DRAW_WALK, board, episode, 0)
    here = goal
    for step in range(1, max_walk + 1):
        ways = [here + offset for offset in OFFSETS if not walls[here + offset]]
        here = ways[draw(len(ways), DRAW_WALK, board, episode, step)]
        if step >= length and here != goal:
            return goal, here
    return goal, next(goal + offset for offset in OFFSETS if not walls[goal + offset])


@pytest.mark.parametrize(("near_fraction", "max_walk"), [(1.0, 6), (1.0, 1), (0.5, 20)])
def test_starts_are_those_of_a_scalar_walk(near_fraction, max_walk):
    env = Maze(LEVELS, BOARDS, redraw=True, near_fraction=near_fraction, max_walk=max_walk, seed=SEED, autoreset=False)
    for episode in range(2):
        env.reset()
        walls = (env.cells & WALL).tolist()
        expected = [
            scalar_start(walls[board], board, episode, near_fraction=near_fraction, max_walk=max_walk)
            for board in range(BOARDS)
        ]
        goals = ((env.cells & TARGET) != 0).to(torch.uint8).argmax(1)
        assert list(zip(goals.tolist(), env.players.tolist(), strict=True)) == expected


def test_a_walk_that_ends_on_its_goal_goes_one_square_on():
    """After two steps from the end of a corridor the walk stands where it began; nobody starts on the goal."""
    board = torch.full((5, 5), WALL, dtype=torch.uint8)
    board[2, 1:4] = 0
    levels = LevelSet(board[None], torch.tensor([11]))
    env = Maze(levels, 200, redraw=True, near_fraction=1.0, max_walk=2, seed=0, autoreset=False)
    env.reset()
    goals = ((env.cells & TARGET) != 0).to(torch.uint8).argmax(1)
    assert not (env.players == goals).any()
    away = (env.players - goals).abs()
    assert set(away.tolist()) == {1, 2}  # 2: two steps along the corridor, from one of its ends


def test_episodes_drawn_ahead_are_those_drawn_one_by_one():
    """In a batch too large to draw ahead, past the end of what was drawn, and after a jump in the count of episodes."""
    few, many = (Maze(LEVELS, number, redraw=True, near_fraction=0.5, seed=SEED) for number in (3, ROWS_AHEAD + 1))
    assert (few.num_ahead, many.num_ahead) == (MOST_AHEAD, 1)
    ids = torch.arange(3)
    for episode in range(2 * MOST_AHEAD + 3):
        if episode == MOST_AHEAD + 2:
            few.episodes[1] = many.episodes[1] = 10**12
        played = ids[: 1 + episode % 3]  # boards end their episodes at different times
        few.begin(played)
        many.begin(played)
        for name in ("level_ids", "players", "limits", "cells"):
            assert torch.equal(getattr(few, name)[played], getattr(many, name)[played])
