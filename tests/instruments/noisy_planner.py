"""A one-shot planner whose code shares its channels with things that mean nothing, so that random subspaces exist."""

import torch
from hand_built_policies import CHANNELS, OneShotPlanner

NUM_CODES = 5


class NoisyPlanner(OneShotPlanner):
    """The code of `OneShotPlanner`, with noise of `spread` in the eleven directions that it leaves free.

    Plans anew in every step, so that its code is always what it will do. The noise differs from square to square and
    with the square the agent stands on; it never changes a move.
    """

    def __init__(self, obeys=True, board=(11, 11), spread=1.0):
        super().__init__(obeys, board)
        free = CHANNELS - NUM_CODES
        generator = torch.Generator().manual_seed(5)
        noise = spread * torch.randn(2, free, *board, generator=generator)
        self.register_buffer("noise", torch.einsum("dc,nchw->ndhw", self.mix[:, NUM_CODES:], noise))

    def plan(self, observation):
        parity = observation[:, 2].flatten(1).argmax(1) % 2  # where the agent stands
        return super().plan(observation) + self.noise[parity]

    def step(self, observation, state):
        code, planned = state
        return super().step(observation, (code, torch.zeros_like(planned)))
