"""Concepts of squares: where the agent and the boxes go, when and which way.

Blocked moves and no-ops move nothing, so they are no event, but they take a step: a horizon counts environment steps.
'Position h' asks where things stand after h more steps; states with fewer steps left are no rows.

Sources: agent approach and box push direction after Bush et al. 2025; next box and next target after Taufeeque et al.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.futures import Futures
from planprobe.core.grid import ACTION_NAMES, BOX, NUM_MOVES, TARGET
from planprobe.instruments.concepts.labels import NO_ROW, Concept, Events

DIRECTIONS = ("never", *ACTION_NAMES[:NUM_MOVES])
HORIZONS = tuple(range(1, 11))


def find_entries(futures: Futures) -> Events:
    """The agent enters a square; class = direction of that move."""
    return Events(futures.moved, futures.positions[:, 1:], futures.actions + 1)


def find_exits(futures: Futures) -> Events:
    """The agent leaves a square; class = direction of that move. The other convention for the same route."""
    return Events(futures.moved, futures.positions[:, :-1], futures.actions + 1)


def find_pushes(futures: Futures) -> Events:
    """A box that stands on the square is pushed off it; class = direction. The agent ends where the box stood."""
    return Events(futures.moved & futures.pushed, futures.positions[:, 1:], futures.actions + 1)


def find_box_arrivals(futures: Futures) -> Events:
    """A box is pushed onto the square; class = direction."""
    return Events(futures.moved & futures.pushed, landing_squares(futures), futures.actions + 1)


def find_next_box(futures: Futures) -> Events:
    """The box on the square is the one that is pushed next."""
    pushed = futures.moved & futures.pushed
    return Events(pushed & (pushed.cumsum(1) == 1), futures.positions[:, 1:], torch.ones_like(futures.actions))


def find_next_target(futures: Futures) -> Events:
    """The target on the square is the one that a box is pushed onto next."""
    targets = (futures.fact("board").flatten(1) & TARGET) != 0
    landing = landing_squares(futures)
    pushed = futures.moved & futures.pushed
    filled = pushed & targets.gather(1, landing.where(pushed, 0))
    return Events(filled & (filled.cumsum(1) == 1), landing, torch.ones_like(futures.actions))


def landing_squares(futures: Futures) -> Tensor:
    """Where a box ends that is pushed in each step, (M, P); means nothing where none is pushed."""
    return 2 * futures.positions[:, 1:] - futures.positions[:, :-1]


def agent_position(futures: Futures, steps: int) -> Tensor:
    """1 on the square where the agent stands `steps` from now, (M, H * W)."""
    board = futures.fact("board").flatten(1)
    stands = torch.zeros(board.shape, dtype=torch.int8, device=board.device)
    stands.scatter_(1, futures.positions[:, min(steps, futures.actions.shape[1])][:, None], 1)
    return _left_out_when_over(stands, futures, steps)


def box_position(futures: Futures, steps: int) -> Tensor:
    """1 on the squares where boxes stand `steps` from now, (M, H * W)."""
    boxes = ((futures.fact("board").flatten(1) & BOX) != 0).to(torch.int8)
    landing = landing_squares(futures)
    for step in range(min(steps, futures.actions.shape[1])):
        rows = (futures.moved & futures.pushed)[:, step].nonzero().squeeze(1)
        boxes[rows, futures.positions[rows, step + 1]] = 0
        boxes[rows, landing[rows, step]] = 1
    return _left_out_when_over(boxes, futures, steps)


def _left_out_when_over(classes: Tensor, futures: Futures, steps: int) -> Tensor:
    return classes.masked_fill((futures.lengths < steps)[:, None], NO_ROW)


def as_binary(concept: Concept, name: str, happened: str) -> Concept:
    """The same events, whatever the direction. Raises: ShapeError (a concept without events)."""

    def find(futures: Futures) -> Events:
        events = concept.find_events(futures)
        if isinstance(events, Tensor):
            raise ShapeError(f"concept '{concept.name}' gives classes, not events; it has no binary version.")
        return Events(events.happens, events.squares, torch.ones_like(events.classes))

    return replace(concept, name=name, class_names=("never", happened), find_events=find)


def _ahead(find: Callable[[Futures, int], Tensor], name: str) -> list[Concept]:
    return [
        Concept(f"{name}-{steps}", ("elsewhere", "here"), lambda futures, steps=steps: find(futures, steps), ("board",))
        for steps in HORIZONS
    ]


_ENTRY = Concept("agent-approach-direction", DIRECTIONS, find_entries)
_EXIT = Concept("agent-exit-direction", DIRECTIONS, find_exits)
_PUSH = Concept("box-push-direction", DIRECTIONS, find_pushes)
_ARRIVAL = Concept("box-approach-direction", DIRECTIONS, find_box_arrivals)

SQUARE_CONCEPTS = (
    _ENTRY, _EXIT, _PUSH, _ARRIVAL,
    as_binary(_ENTRY, "agent-visit", "visited"),
    as_binary(_EXIT, "agent-departure", "left"),
    as_binary(_PUSH, "box-push", "pushed"),
    as_binary(_ARRIVAL, "box-visit", "visited"),
    Concept("next-box", ("other", "next"), find_next_box),
    Concept("next-target", ("other", "next"), find_next_target, ("board",)),
    *_ahead(agent_position, "agent-position"),
    *_ahead(box_position, "box-position"),
)  # fmt: skip
