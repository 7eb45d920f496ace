"""What a concept is, and the labels it gives: of every square of a board, or of the state as a whole.

A `Concept` is one function from futures to what happens on squares; a `StateConcept` one from futures to a class or a
number of each state. `concepts` lists those that planprobe knows, and shows how to write one's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.futures import Futures

NEVER, NO_ROW = 0, -1


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
    horizon (M, H, W) int16: steps until the event, 0 = this very action, -1 = never, or no event is asked for.
    pushes (M, H, W) int16: pushes before the event, 0 = the next push (or sooner), -1 likewise.
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
class StateLabels:
    """A class, or numbers, for each of M states.

    values: (M,) int64 classes, -1 = not a row; or (M, V) float32 numbers, nan = not a row (then no class_names).
    """

    values: Tensor
    class_names: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_row(self) -> Tensor:
        """(M,) bool."""
        return self.values != NO_ROW if self.class_names else ~self.values.isnan().any(1)


@dataclass(frozen=True)
class Concept:
    """Something that happens on squares: a name, its classes ('never' first), and the function that finds it.

    find_events(futures): `Events`, of which a square gets the first; or, where there is no event to wait for, the class
    of every square itself, (M, H, W) or (M, H * W) integers, -1 = not a row. needs: facts that it reads of the futures;
    a label source without them gives no labels.
    """

    name: str
    class_names: tuple[str, ...]
    find_events: Callable[[Futures], Events | Tensor]
    needs: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def label(self, futures: Futures, *, height: int, width: int, floor: Tensor) -> Labels:
        """The class of each square, M boards at once.

        Args: floor (M, H, W) bool, squares that are rows; see `states.floor_mask`.
        Raises: ShapeError (floor disagrees with the futures, an event off the board, a class without a name).
        """
        if floor.shape != (len(futures), height, width):
            raise ShapeError(
                f"floor is {tuple(floor.shape)}, but {len(futures)} futures on {height}x{width} boards were given."
            )
        events = self.find_events(futures)
        is_row = (floor & futures.known[:, None, None]).flatten(1)
        if isinstance(events, Tensor):
            return self._label_classes(events, is_row, floor.shape)
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
        return Labels(
            values.masked_fill(~is_row, NO_ROW).view(floor.shape), horizon.masked_fill(~is_row, -1).view(floor.shape),
            pushes.masked_fill(~is_row, -1).view(floor.shape), self.class_names,
        )  # fmt: skip

    def _label_classes(self, classes: Tensor, is_row: Tensor, shape: torch.Size) -> Labels:
        if classes.numel() != is_row.numel() or len(classes) != len(is_row):
            raise ShapeError(f"concept '{self.name}' gave classes {tuple(classes.shape)} for boards {tuple(shape)}.")
        values = classes.reshape(is_row.shape).to(torch.int8).masked_fill(~is_row, NO_ROW)
        _check_classes(self.name, values, self.class_names, lowest=NO_ROW)
        no_event = torch.full(shape, -1, dtype=torch.int16, device=values.device)
        return Labels(values.view(shape), no_event, no_event, self.class_names)

    def _check(self, events: Events, num_squares: int) -> None:
        squares = events.squares[events.happens]
        # a negative index would wrap around to another square
        if len(squares) and not (int(squares.min()) >= 0 and int(squares.max()) < num_squares):
            raise ShapeError(
                f"concept '{self.name}': events on squares {int(squares.min())}..{int(squares.max())} of boards with "
                f"{num_squares}. Are height and width those of the rollout?"
            )
        _check_classes(self.name, events.classes[events.happens], self.class_names, lowest=1)


@dataclass(frozen=True)
class StateConcept:
    """Something about a state as a whole: a name, its classes (none: a number), and the function that reads it.

    read(futures): (M,) integer classes, -1 = not a row; or numbers (M,) or (M, V), nan = not a row.
    needs: facts that it reads of the futures, and 'before' where it reads what came before.
    """

    name: str
    class_names: tuple[str, ...]
    read: Callable[[Futures], Tensor]
    needs: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def label(self, futures: Futures) -> StateLabels:
        """Raises: ShapeError (not one row a state, or a class without a name)."""
        values = self.read(futures)
        if len(values) != len(futures) or values.ndim > (1 if self.class_names else 2):
            raise ShapeError(f"concept '{self.name}' gave {tuple(values.shape)} values for {len(futures)} states.")
        if not self.class_names:
            values = values.float().view(len(values), -1)
            return StateLabels(values.masked_fill(~futures.known[:, None], torch.nan))
        values = values.to(torch.int64).masked_fill(~futures.known, NO_ROW)
        _check_classes(self.name, values, self.class_names, lowest=NO_ROW)
        return StateLabels(values, self.class_names)


def can_label(concept: Concept | StateConcept, futures: Futures) -> bool:
    """Whether these futures hold every fact that the concept needs."""
    return all(futures.before is not None if need == "before" else need in futures.facts for need in concept.needs)


def _check_classes(name: str, classes: Tensor, class_names: tuple[str, ...], *, lowest: int) -> None:
    # class 0 of an event would read as 'never', and one too high as another square's class
    if classes.numel() and not (int(classes.min()) >= lowest and int(classes.max()) < len(class_names)):
        raise ShapeError(
            f"concept '{name}': events of class {int(classes.min())}..{int(classes.max())}, but its names are "
            f"{', '.join(f'{number} {name}' for number, name in enumerate(class_names))}."
        )
