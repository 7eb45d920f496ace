"""One agent acts, any net watches: activations of a net along trajectories that another one walked.

A control net left to itself would walk elsewhere and see other things. In a replay it is stepped in lock-step on the
recorded observations, so that its activations stand beside the agent's on the very same states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.instruments.concepts.states import States
from planprobe.instruments.hooks import OpenedPolicy, capture, select_sites


@torch.no_grad()
def replay(
    opened: OpenedPolicy,
    observations: Tensor,
    states: States,
    sites: str | Sequence[str],
    *,
    dtype: torch.dtype = torch.float16,
    need_squares: bool = True,
) -> dict[str, Tensor]:
    """Activations of a net on chosen states of recorded episodes.

    Memory starts anew in each episode and runs through every observation, chosen or not; a board leaves the batch after
    its last chosen state. One step is held at a time, so memory is that of the result.

    Args:
        observations: (B, T, C, H, W) as kept by `core.play.play`. states: board and step of M states.
        sites: patterns of `select_sites`. dtype of the result; float16 keeps three digits.
        need_squares: refuse sites without squares, which square probes cannot read.
    Returns: site -> (M, C, H, W), or (M, ...) as the site is.
    Raises: UnknownSiteError; ShapeError (a chosen site has no squares).
    """
    names = select_sites(opened, sites)
    last_steps = torch.full((len(observations),), -1, dtype=torch.int64, device=observations.device)
    last_steps.scatter_reduce_(0, states.board_ids, states.steps, "amax")
    order = last_steps.argsort(descending=True, stable=True)  # boards that are needed longest come first
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    last_steps = last_steps[order]
    height, width = observations.shape[-2:]
    memory = opened.initial_state(len(order), (height, width))
    values: dict[str, Tensor] = {}
    for step in range(int(last_steps[0]) + 1):
        rows = (states.steps == step).nonzero().squeeze(1)
        boards = order[: int((last_steps >= step).sum())] if memory else states.board_ids[rows]
        memory = tuple(part[: len(boards)] for part in memory)
        if len(rows) == 0:
            if memory:
                _, _, memory = opened.step(observations[boards, step], memory)
            continue
        with capture(opened, names) as cache:
            _, _, memory = opened.step(observations[boards, step], memory)
        chosen = place[states.board_ids[rows]] if memory else torch.arange(len(rows), device=rows.device)
        for name in names:
            value = cache[name][chosen, 0]
            if need_squares and value.ndim != 4:
                raise ShapeError(
                    f"site '{name}' has no squares, {tuple(value.shape[1:])} on one board, and a concept of squares is "
                    "read off squares.\n  Next: a concept of states (action-ahead-1, steps-left), or sites of shape "
                    "(C, H, W)."
                )
            if name not in values:
                values[name] = torch.empty(len(states), *value.shape[1:], dtype=dtype, device=value.device)
            values[name][rows] = value.to(dtype)
    return values
