"""A policy of maze trials in full view, that replays its first way or plans one, quick enough for tests."""

import torch

from planprobe.core.grid import NUM_MOVES, move_offsets
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask


class Walker:
    """Walks at random until it has found the goal; then repeats the last move that it made on each square, or `plans`.

    Memory: that move (B, S) or -1, the square it stood on or -1, the goal or -1.
    """

    def __init__(self, plans, size=7):
        self.plans, self.size, self.offsets = plans, size, move_offsets(size)[:NUM_MOVES]

    def initial_state(self, num_boards, board=None):
        return tuple(torch.full((num_boards, width), -1) for width in (self.size**2, 1, 1))

    def step(self, observation, state):
        exits, (before, goal) = state[0].clone(), (part.squeeze(1) for part in state[1:])
        walls, player = observation[:, 0].flatten(1) > 0.5, observation[:, 1].flatten(1).argmax(1)
        inputs, rows = observation[:, 2:].mean((2, 3)), torch.arange(len(player))
        last, paid, ended = inputs[:, :NUM_MOVES].argmax(1), inputs[:, -2] > 0.5, inputs[:, -1] > 0.5
        ahead = (before + self.offsets[last]).clamp(min=0)
        learns = (before >= 0) & ~walls.gather(1, ahead[:, None]).squeeze(1) & (goal < 0)
        exits[rows[learns], before[learns]] = last[learns]
        goal = torch.where(learns & paid, ahead, goal)
        exits[ended & (goal < 0)] = -1
        open_ahead = ~walls.gather(1, player[:, None] + self.offsets)
        if self.plans:
            maps = distance_maps(walls.unflatten(1, (self.size, self.size)), goal.clamp(min=0))
            best = optimal_action_mask(maps).flatten(2)[rows, :, player]
        else:
            best = torch.nn.functional.one_hot(exits[rows, player].clamp(min=0), NUM_MOVES)
        scores = torch.where((goal >= 0)[:, None], 30.0 * best, 30.0 * open_ahead)
        return scores, scores.amax(1), (exits, player[:, None], goal[:, None])
