"""Policies of somebody else's making that count, so that every effect of a hook can be foretold."""

import torch
from torch import nn

BOARDS, CHANNELS, SIDE = 3, 2, 2


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.hook_h = nn.Identity()


class Counter(nn.Module):
    """Adds the observation to its memory once a tick. Tapped by hand, and follows the protocol and nothing else."""

    def __init__(self, ticks=2):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))
        self.plain = nn.Identity()  # no tap: not called hook_*
        self.hook_out = nn.Identity()
        self.set_num_ticks(ticks)

    def set_num_ticks(self, ticks):
        self.num_ticks = ticks
        self.ticks = nn.ModuleList(nn.ModuleList([Layer()]) for _ in range(ticks))

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, CHANNELS, SIDE, SIDE),)

    def step(self, observation, state):
        (h,) = state
        for tick in self.ticks:
            h = tick[0].hook_h(h + self.scale * observation.float() + self.offset)
        logits = self.hook_out(self.plain(h.flatten(2).sum(2)))
        return logits, logits[:, 0], (h,)


class InPlace(Counter):
    """Overwrites what it has just shown to its tap."""

    def step(self, observation, state):
        h = self.ticks[0][0].hook_h(state[0] + observation.float())
        h += 100
        return h.flatten(2).sum(2), h.sum((1, 2, 3)), (h,)


class Twice(Counter):
    """Shows every tick to the same tap."""

    def step(self, observation, state):
        h = state[0]
        for _ in range(2):
            h = self.ticks[0][0].hook_h(h + observation.float())
        return h.flatten(2).sum(2), h.sum((1, 2, 3)), (h,)


class OnlyFirst(Counter):
    """Shows its tap only the first step of a run."""

    def step(self, observation, state):
        h = state[0] + observation.float()
        if not state[0].any():
            h = self.ticks[0][0].hook_h(h)
        return self.hook_out(h.flatten(2).sum(2)), h.sum((1, 2, 3)), (h,)


ONES = torch.ones(BOARDS, CHANNELS, SIDE, SIDE, dtype=torch.uint8)
H0, H1 = "ticks.0.0.hook_h", "ticks.1.0.hook_h"


@torch.no_grad()
def run(policy, steps=3, boards=BOARDS):
    """Logits (T, B, C)."""
    state, logits = policy.initial_state(boards), []
    for _ in range(steps):
        logit, _, state = policy.step(ONES[:1].expand(boards, -1, -1, -1), state)
        logits.append(logit)
    return torch.stack(logits)


def nothing_left(opened):
    return not opened.live and not any(point._forward_hooks for point in opened.hook_dict.values())
