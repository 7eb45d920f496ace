"""Boards and organisms that the tests of organisms share."""

from functools import cache

import torch

from planprobe.core.grid import TARGET, WALL
from planprobe.core.play import play
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.organisms import FAMILIES, make_organism
from planprobe.subjects.organisms.families import named_task

BOARDS = 6
CASES = [(family, kind) for family, about in FAMILIES.items() for kind in about.tasks if kind in ("maze", "sokoban")]


@cache
def levels_of(kind, num_levels=2 * BOARDS, split="test"):
    if kind == "maze":
        return generate_mazes(num_levels, size=9, seed=5, split=split)
    return generate_sokoban(num_levels, size=7, num_boxes=(1, 1), seed=5, split=split)


@cache
def organism(family, kind="maze", seed=0):
    return make_organism(family, named_task(kind, 9 if kind == "maze" else 7), seed, levels=[levels_of(kind)])


def make_env(kind, levels, num_boards, time_limit=60):
    return (Maze if kind == "maze" else Sokoban)(levels, num_boards, autoreset=False, time_limit=time_limit)


def run_all(policy, kind, levels=None, **options):
    levels = levels_of(kind) if levels is None else levels
    return play(policy, make_env(kind, levels, len(levels)), torch.arange(len(levels)), **options)


def true_distances(levels):
    goals = ((levels.boards & TARGET) != 0).flatten(1).to(torch.uint8).argmax(1)
    return distance_maps((levels.boards & WALL) != 0, goals)


def ticks_on(policy, observation, num_steps):
    """Memory (h, c) after some steps on one frozen observation."""
    state = policy.initial_state(len(observation), tuple(observation.shape[2:]))
    for _ in range(num_steps):
        state = policy.step(observation, state)[2]
    return state
