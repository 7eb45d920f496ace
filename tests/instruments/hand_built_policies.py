"""Tiny maze policies whose answer is known by construction; observations are the planes wall, target, player."""

from functools import lru_cache

import numpy as np
import torch
from torch import nn

from planprobe.core.grid import COLUMN_OFFSETS, NUM_MOVES, ROW_OFFSETS
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.routes import trace_routes

CHANNELS = 16
BLOCKED = -50.0


def ahead(planes):
    """What lies one move ahead, (B, C, H, W) -> (B, 4, C, H, W)."""
    moves = [planes.roll((-ROW_OFFSETS[a], -COLUMN_OFFSETS[a]), (2, 3)) for a in range(NUM_MOVES)]
    return torch.stack(moves, dim=1)


def at_player(observation, planes):
    """(B, ..., H, W) -> (B, ...) on the player's square."""
    square = observation[:, 2].flatten(1).argmax(1)
    flat = planes.flatten(-2)
    return flat.gather(-1, square.view(-1, *[1] * (flat.ndim - 1)).expand(*flat.shape[:-1], 1)).squeeze(-1)


def optimal_moves(observation):
    """(B, 4, H, W) bool."""
    return _solve(tuple(observation.shape), observation[:, :2].numpy().tobytes())


@lru_cache(maxsize=64)
def _solve(shape, cells):
    """Every step of an episode asks for the same answer."""
    walls, goals = np.frombuffer(cells, dtype=np.uint8).reshape(shape[0], 2, *shape[2:]).swapaxes(0, 1)
    goals = torch.from_numpy(goals.copy()).flatten(1).argmax(1)
    return optimal_action_mask(distance_maps(torch.from_numpy(walls == 1), goals))


def mixing(seed=0):
    """A random rotation of the channels, so that single channels mean nothing."""
    noise = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(noise)[0]


class Taps(nn.Module):
    def __init__(self):
        super().__init__()
        self.hook_c = nn.Identity()


class OneShotPlanner(nn.Module):
    """Plans the shortest way in its first step, as entry codes in memory, and walks wherever the codes lead.

    obeys=False: keeps the same code and never reads it; it goes by the observation.
    """

    planes, num_ticks, num_layers = 3, 2, 1

    def __init__(self, obeys=True, board=(11, 11)):
        super().__init__()
        self.obeys, self.board = obeys, board
        self.register_buffer("mix", mixing())
        self.ticks = nn.ModuleList(nn.ModuleList([Taps()]) for _ in range(self.num_ticks))

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, CHANNELS, *(board or self.board)), torch.zeros(num_boards, 1))

    def step(self, observation, state):
        code, planned = state
        if not planned.all():
            code = torch.where(planned.view(-1, 1, 1, 1) > 0, code, self.plan(observation))
        for tick in self.ticks:
            code = tick[0].hook_c(code)
        plain = torch.einsum("cd,bdhw->bchw", self.mix.T, code)
        if self.obeys:
            entries = at_player(observation, ahead(plain))  # (B, 4, C)
            scores = torch.stack([entries[:, a, 1 + a] - entries[:, a, 0] for a in range(NUM_MOVES)], dim=1)
        else:
            scores = at_player(observation, optimal_moves(observation)).float()
        walls = at_player(observation, ahead(observation[:, :1]))[:, :, 0]
        return scores + BLOCKED * walls, scores[:, 0], (code, torch.ones_like(planned))

    def plan(self, observation):
        walls = observation[:, 0] == 1
        distance = distance_maps(walls, observation[:, 1].flatten(1).argmax(1))
        route, _, _ = trace_routes(distance, observation[:, 2].flatten(1).argmax(1))
        offsets = torch.tensor([-walls.shape[2], walls.shape[2], -1, 1])
        here, after = route[:, :-1], route[:, 1:]
        classes = 1 + ((after - here)[..., None] == offsets).int().argmax(-1)
        labels = torch.zeros(len(route), walls[0].numel() + 1, dtype=torch.int64)
        labels.scatter_(1, torch.where(after < 0, walls[0].numel(), after), classes)
        codes = nn.functional.one_hot(labels[:, :-1], CHANNELS).float().view(*walls.shape, CHANNELS)
        return torch.einsum("cd,bhwd->bchw", self.mix, codes)

    @property
    def code_vectors(self):
        """(5, C): what the planner writes on a square for never, up, down, left, right."""
        return self.mix.T[:5].clone()


class Wavefront(nn.Module):
    """One backup a step, from the goal outwards; moves up until the wave is beside it."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1, *(board or (11, 11))),)

    def step(self, observation, state):
        free, goal = (observation[:, :1] == 0).float(), observation[:, 1:2].float()
        value = torch.maximum(state[0], goal)
        value = torch.maximum(value, 0.9 * free * ahead(value).amax(1))
        scores = at_player(observation, ahead(value))[..., 0]
        scores = torch.where(scores.amax(1, keepdim=True) > 0, scores, torch.tensor([1.0, 0, 0, 0]))
        return scores, scores[:, 0], (value,)


class Reflex(nn.Module):
    """Always right, and has a memory that it does not read."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        scores = at_player(observation, optimal_moves(observation)).float()
        return scores, scores[:, 0], tuple(part + 1 for part in state)


class Memoryless(Reflex):
    def initial_state(self, num_boards, board=None):
        return ()


class NeedsWarmUp(nn.Module):
    """Right as soon as its memory is not empty, whatever is in it: gains from waiting without working anything out."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1, *(board or (11, 11))),)

    def step(self, observation, state):
        scores = at_player(observation, optimal_moves(observation)).float()
        warm = state[0].flatten(1).abs().sum(1, keepdim=True) > 0
        scores = torch.where(warm, scores, -scores)
        return scores, scores[:, 0], (state[0] + torch.linspace(0.5, 1.5, 11),)
