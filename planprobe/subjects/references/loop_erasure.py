"""Loop erasure: the walk that is left when every detour that came back to where it began is cut out.

Replaying it is what an agent can do that remembers its first episode and computes nothing: in a maze without loops it
is the shortest path, in one with loops it may be longer. A second episode shorter than it is no replay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.subjects.envs.routes import PAD


def erase_loops(squares: Tensor) -> Tensor:
    """Chronological loop erasure of many walks at once.

    Args: squares (B, T) int64, the squares of each walk in order, start included, padded at the end with -1.
    Returns: (B, R) int64, padded with -1; neighbouring squares were neighbours in time too.
    Source: Lawler 1980 (loop-erased walks).
    """
    num_walks, num_steps = squares.shape
    walks = torch.arange(num_walks, device=squares.device)
    kept = torch.full_like(squares, PAD)
    last = torch.full((num_walks,), -1, device=squares.device)  # index of the last square that is kept
    index_of = torch.full((num_walks, int(squares.max().clamp(min=0)) + 1), -1, device=squares.device)
    for step in range(num_steps):
        here = squares[:, step]
        walking = here != PAD
        found = index_of[walks, here.clamp(min=0)]
        # an index that was cut off, or belongs to another square by now, is no visit
        known = (found >= 0) & (found <= last) & (kept[walks, found.clamp(min=0)] == here)
        last = torch.where(walking, torch.where(known, found, last + 1), last)
        kept[walks[walking], last[walking]] = here[walking]
        index_of[walks[walking], here[walking]] = last[walking]
    kept[torch.arange(num_steps, device=squares.device) > last[:, None]] = PAD
    return kept[:, : int(last.max()) + 1] if num_walks else kept


def route_lengths(routes: Tensor) -> Tensor:
    """Moves of each padded route (B, R), (B,) int64; -1 for an empty one."""
    return (routes != PAD).sum(1) - 1
