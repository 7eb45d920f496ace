"""Policies whose logits are sums of what their taps show, so that every patch has an answer worked by hand."""

import torch
from counting_policies import CHANNELS, SIDE, Counter

from planprobe.core.pairs import HistoryPairs


class TickWeights(Counter):
    """Each tick shows the same values and weighs differently: logits = sum over steps of sum over ticks a_k h_k.

    An activation paired with the gradient of another tick, or step, gives another number.
    """

    weights, decay = (1.0, 10.0), 2.0

    def step(self, observation, state):
        total = self.decay * state[0]
        for weight, tick in zip(self.weights, self.ticks, strict=True):
            total = total + weight * tick[0].hook_h(self.scale * observation.float())
        logits = self.hook_out(total.flatten(2).sum(2))
        return logits, logits[:, 0], (total,)


def make_histories(num_pairs=4, num_steps=1):
    """Clean runs show channel 0, corrupted ones channel 1, 1 + (pair mod 3) strong; the best move is the channel."""
    strength = (1 + torch.arange(num_pairs) % 3).to(torch.uint8).view(-1, 1, 1, 1, 1)
    clean = torch.zeros(num_pairs, num_steps, CHANNELS, SIDE, SIDE, dtype=torch.uint8)
    corrupted = clean.clone()
    clean[:, :, 0:1], corrupted[:, :, 1:2] = strength, strength
    first = torch.zeros(num_pairs, dtype=torch.int64)
    legal = torch.ones(num_pairs, CHANNELS, dtype=torch.bool)
    return HistoryPairs(clean, corrupted, first, first + 1, legal, torch.arange(num_pairs), "psi")
