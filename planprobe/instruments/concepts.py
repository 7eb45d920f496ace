"""Concepts: what a probe reads off a square, as labels made from the future of each state.

A plan shows up as something that *will* happen on a square: the agent will enter it by going left, the box on it will
be pushed up. A concept is one function that lists such events step by step; the label of a square is its first event
from the state on, and 0 if there is none. Labels come from the agent's own future behaviour, or from an optimal plan;
the concept does not know which.

    def find_vertical_visits(futures: Futures) -> Events:            # a concept of one's own
        return Events(futures.moved & (futures.actions < 2), futures.positions[:, 1:], futures.actions + 1)

    vertical = Concept("vertical-visit", ("never", "up", "down"), find_vertical_visits)

Blocked moves and no-ops move nothing, so they are no event, but they take a step: a horizon counts environment steps.
Source: agent approach and box push direction after Bush et al. 2025.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, TooFewLevelsError, UnknownConceptError, unknown_name
from planprobe.core.futures import Futures
from planprobe.core.grid import ACTION_NAMES, NUM_MOVES, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.play import Rollout
from planprobe.core.rng import draw_bits

NEVER, NO_ROW = 0, -1
DIRECTIONS = ("never", *ACTION_NAMES[:NUM_MOVES])


@dataclass(frozen=True)
class States:
    """Moments of a rollout. board_ids (M,) int64: rows of the rollout, not levels; steps (M,) int64 since the start."""

    board_ids: Tensor
    steps: Tensor

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, rows) -> States:
        return States(self.board_ids[rows], self.steps[rows])


@dataclass(frozen=True)
class Events:
    """What happens where, in M futures of P steps: at most one event a step.

    happens (M, P) bool; squares (M, P) flat index and classes (M, P) in 1..num_classes - 1, read where `happens`.
    """

    happens: Tensor
    squares: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Labels:
    """A class for every square of M boards.

    values (M, H, W) int8: the class; 0 = never, -1 = not a row (a wall, or a future that is not known).
    horizon (M, H, W) int16: steps until the event, 0 = this very action, -1 = never.
    pushes (M, H, W) int16: pushes before the event, 0 = the next push (or sooner), -1 = never.
    """

    values: Tensor
    horizon: Tensor
    pushes: Tensor
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_row(self) -> Tensor:
        """(M, H, W) bool: squares that a probe is fitted and scored on."""
        return self.values != NO_ROW


@dataclass(frozen=True)
class Concept:
    """A name, its classes ('never' first), and the function that lists the events of M futures."""

    name: str
    class_names: tuple[str, ...]
    find_events: Callable[[Futures], Events]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def label(self, futures: Futures, *, height: int, width: int, floor: Tensor) -> Labels:
        """The first event of each square, M boards at once.

        Args: floor (M, H, W) bool, squares that are rows; see `floor_mask`.
        Raises: ShapeError (floor disagrees with the futures, an event off the board, a class without a name).
        """
        if floor.shape != (len(futures), height, width):
            raise ShapeError(
                f"floor is {tuple(floor.shape)}, but {len(futures)} futures on {height}x{width} boards were given."
            )
        events = self.find_events(futures)
        self._check(events, height * width)
        num_steps, device = futures.actions.shape[1], futures.actions.device
        steps = torch.arange(num_steps, dtype=torch.int16, device=device).where(events.happens, num_steps)
        squares = events.squares.where(events.happens, 0)
        first = torch.full((len(futures), height * width), num_steps, dtype=torch.int16, device=device)
        first.scatter_reduce_(1, squares, steps.to(torch.int16), "amin")
        ever = first < num_steps
        at = first.clamp(max=num_steps - 1).to(torch.int64)
        pushes_before = futures.pushed.cumsum(1) - futures.pushed.to(torch.int64)
        values = events.classes.gather(1, at).to(torch.int8).where(ever, NEVER)
        horizon = first.where(ever, -1)
        pushes = pushes_before.gather(1, at).to(torch.int16).where(ever, -1)
        is_row = (floor & futures.known[:, None, None]).flatten(1)
        return Labels(
            values.masked_fill(~is_row, NO_ROW).view(floor.shape), horizon.masked_fill(~is_row, -1).view(floor.shape),
            pushes.masked_fill(~is_row, -1).view(floor.shape), self.class_names,
        )  # fmt: skip

    def _check(self, events: Events, num_squares: int) -> None:
        squares, classes = events.squares[events.happens], events.classes[events.happens]
        # a negative index would wrap around to another square, and class 0 would read as 'never'
        if len(squares) and not (int(squares.min()) >= 0 and int(squares.max()) < num_squares):
            raise ShapeError(
                f"concept '{self.name}': events on squares {int(squares.min())}..{int(squares.max())} of boards with "
                f"{num_squares}. Are height and width those of the rollout?"
            )
        if len(classes) and not (int(classes.min()) >= 1 and int(classes.max()) < self.num_classes):
            raise ShapeError(
                f"concept '{self.name}': events of class {int(classes.min())}..{int(classes.max())}, but its names are "
                f"{', '.join(f'{number} {name}' for number, name in enumerate(self.class_names))}."
            )


# the concepts --------------------------------------------------------------------------------------------------------
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
    landing = 2 * futures.positions[:, 1:] - futures.positions[:, :-1]
    return Events(futures.moved & futures.pushed, landing, futures.actions + 1)


def find_next_box(futures: Futures) -> Events:
    """The box on the square is the one that is pushed next."""
    pushed = futures.moved & futures.pushed
    return _whether(Events(pushed & (pushed.cumsum(1) == 1), futures.positions[:, 1:], futures.actions))


def _whether(events: Events) -> Events:
    """The binary version: class 1 whatever the direction."""
    return Events(events.happens, events.squares, torch.ones_like(events.classes))


CONCEPTS: dict[str, Concept] = {
    concept.name: concept
    for concept in (
        Concept("agent-approach-direction", DIRECTIONS, find_entries),
        Concept("agent-exit-direction", DIRECTIONS, find_exits),
        Concept("box-push-direction", DIRECTIONS, find_pushes),
        Concept("box-approach-direction", DIRECTIONS, find_box_arrivals),
        Concept("agent-visit", ("never", "visited"), lambda futures: _whether(find_entries(futures))),
        Concept("box-visit", ("never", "visited"), lambda futures: _whether(find_box_arrivals(futures))),
        Concept("next-box", ("other", "next"), find_next_box),
    )
}


def get_concept(concept: str | Concept) -> Concept:
    """A concept by name; one of your own is handed through. Raises: UnknownConceptError, with the nearest name."""
    if isinstance(concept, Concept):
        return concept
    if concept not in CONCEPTS:
        raise unknown_name(
            "concept", concept, CONCEPTS, error=UnknownConceptError,
            next_move="One of your own: Concept(name, class_names, find_events), in place of the name.",
        )  # fmt: skip
    return CONCEPTS[concept]


# states, futures and boards of a rollout -----------------------------------------------------------------------------
def sample_states(rollout: Rollout, *, per_level: int, seed: int, keep: Tensor | None = None) -> States:
    """Up to `per_level` different steps of every episode, uniform over its steps, in order of board and step.

    The draw depends on (seed, level, step) alone, so a level gives the same states in whatever rollout it occurs.

    Args: keep (B,) bool, boards to draw from (say, the solved ones); all by default.
    Raises: TooFewLevelsError (nothing to draw from).
    """
    active = rollout.active if keep is None else rollout.active & keep[:, None]
    num_steps = active.shape[1]
    keys = draw_bits(seed, rollout.level_ids[:, None], torch.arange(num_steps, device=active.device))
    keys = keys.masked_fill(~active, torch.iinfo(torch.int64).max)
    steps = keys.argsort(dim=1, stable=True)[:, :per_level]
    chosen = torch.zeros_like(active).scatter_(1, steps, True) & active
    if not chosen.any():
        raise TooFewLevelsError(
            f"sample_states: none of {len(active)} episodes is kept, or per_level={per_level} asks for no state."
        )
    board_ids, steps = chosen.nonzero(as_tuple=True)
    return States(board_ids, steps)


def behaviour_futures(rollout: Rollout, states: States) -> Futures:
    """What the agent went on to do from each state, to the end of the episode or to where the rollout was cut.

    What a time limit kept the agent from doing counts as never: read scores on truncated episodes with that in mind.
    """
    rows, last = states.board_ids[:, None], rollout.lengths[states.board_ids][:, None]
    num_steps = max(1, int((last.squeeze(1) - states.steps).max())) if len(states) else 1
    steps = states.steps[:, None] + torch.arange(num_steps + 1, device=last.device)
    positions = rollout.positions[rows, torch.minimum(steps, last)]
    running = steps[:, :-1] < last
    steps = steps[:, :-1].clamp(max=rollout.actions.shape[1] - 1)
    return Futures(
        positions, rollout.actions[rows, steps], rollout.moved[rows, steps] & running,
        rollout.pushed[rows, steps] & running,
    )  # fmt: skip


def floor_mask(levels: LevelSet, rollout: Rollout, states: States) -> Tensor:
    """Squares that are not walls on the board of each state, (M, H, W) bool."""
    level_ids = rollout.level_ids[states.board_ids]
    return (levels.boards[level_ids.to(levels.boards.device)] & WALL) == 0


def branch_squares(floor: Tensor) -> Tensor:
    """Floor with three or more floor neighbours, (M, H, W) bool: squares where one could go on in several ways.

    In a corridor the geometry alone leaves two directions to choose from; a plan is tested where there are more.
    """
    around = torch.nn.functional.pad(floor, (1, 1, 1, 1)).to(torch.uint8)
    options = around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]
    return floor & (options >= 3)
