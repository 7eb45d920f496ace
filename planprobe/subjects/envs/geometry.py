"""Static geometry: what walls and targets alone say about the way, for the control that a probe has to beat.

A full-view board gives away, on every square, which moves come closer to a target. An agent whose memory said no more
than that would look as if it planned.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from planprobe.core.grid import TARGET, WALL
from planprobe.subjects.envs.distance import UNREACHABLE, distance_maps, optimal_action_mask
from planprobe.subjects.envs.plans import boards_from_observations


def target_distances(boards: Tensor) -> Tensor:
    """Steps from every square to the nearest target, boxes and agent ignored, (M, H, W) int16; -1 where there is none.

    Args: boards (M, H, W) uint8 codes.
    """
    targets, walls = ((boards & TARGET) != 0).flatten(1), (boards & WALL) != 0
    far = torch.iinfo(torch.int16).max
    nearest = torch.full(boards.shape, far, dtype=torch.int16, device=boards.device)
    for number in range(int(targets.sum(1).max()) if len(boards) else 0):
        goals = (targets & (targets.cumsum(1) == number + 1)).to(torch.uint8).argmax(1)
        distance = distance_maps(walls, goals)
        has_one = targets.sum(1)[:, None, None] > number
        nearest = torch.where(has_one & (distance >= 0), torch.minimum(nearest, distance), nearest)
    return nearest.masked_fill(nearest == far, UNREACHABLE)


def static_geometry(boards: Tensor) -> Tensor:
    """Arrows and distance of every square, (M, 5, H, W) float32.

    Planes: the moves up, down, left, right that come closer to the nearest target, then the distance to it in board
    sides (0 where there is no way).
    """
    distance = target_distances(boards)
    arrows = optimal_action_mask(distance).float()
    side = max(boards.shape[1:])
    return torch.cat([arrows, (distance.clamp(min=0).float() / side)[:, None]], dim=1)


def observation_geometry(*, observation: str = "planes") -> Callable[[Tensor], Tensor]:
    """The function from observations (M, C, H, W) to geometry planes that instruments are given."""

    def draw(observations: Tensor) -> Tensor:
        return static_geometry(boards_from_observations(observations, observation=observation)[0])

    return draw
