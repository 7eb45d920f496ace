"""What an erasure takes out: a concept vector for every square, or one for the whole state.

A target is a function (rollout, states, levels) -> z: (M, H, W, K), one vector a square, or (M, K), one a state; nan
where there is no row. Classes are one-hot, numbers are columns. One of your own is any function of that kind.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from planprobe.core.errors import ShapeError
from planprobe.core.futures import Futures
from planprobe.core.levels import LevelSet
from planprobe.core.play import Rollout
from planprobe.instruments.concepts.catalog import (
    NEVER,
    Concept,
    StateConcept,
    States,
    behaviour_futures,
    can_label,
    floor_mask,
    get_concept,
)

Target = Callable[[Rollout, States, LevelSet], Tensor]
Planner = Callable[[Tensor], Futures]
"""Observations (M, C, H, W) -> optimal futures."""


def concept_target(
    concept: str | Concept | StateConcept, *, planner: Planner | None = None, horizon: tuple[int, int] | None = None
) -> Target:
    """The class of each floor square, or the class or numbers of each state.

    Args:
        planner: label the optimal future in place of the agent's own.
        horizon: only events on squares so many steps ahead, first and last, 0 = this very action; others count as
            never. None = all of them.
    Raises: UnknownConceptError; ShapeError (an empty horizon, or one of a concept that is no event on a square; when
    called: a planner and no observations, or a future that does not tell what the concept needs).
    """
    known = get_concept(concept)
    if horizon is not None and (isinstance(known, StateConcept) or not 0 <= horizon[0] <= horizon[1]):
        raise ShapeError(
            f"horizon {horizon} of '{known.name}': needs the first and the last step ahead, 0 or more, and a concept "
            "of squares."
        )

    def label(rollout: Rollout, states: States, levels: LevelSet) -> Tensor:
        futures = behaviour_futures(rollout, states, levels=levels)
        if planner is not None:
            if rollout.observations is None:
                raise ShapeError("optimal labels need the observations: play with keep_observations=True.")
            futures = planner(rollout.observations[states.board_ids, states.steps])
        if not can_label(known, futures):
            raise ShapeError(f"concept '{known.name}' needs {', '.join(known.needs)}, which these futures do not tell.")
        if isinstance(known, StateConcept):
            labels = known.label(futures)
            return _one_hot(labels.values, known.num_classes) if labels.class_names else labels.values
        floor = floor_mask(levels, rollout, states)
        squares = known.label(futures, height=levels.height, width=levels.width, floor=floor)
        values = squares.values.to(torch.int64)
        if horizon is not None:
            outside = (squares.horizon < horizon[0]) | (squares.horizon > horizon[1])
            values = torch.where(outside & (values > NEVER), NEVER, values)
        return _one_hot(values, known.num_classes)

    return label


def _one_hot(classes: Tensor, num_classes: int) -> Tensor:
    """(...) with -1 = no row -> (..., num_classes) float32."""
    hot = one_hot(classes.clamp(min=0), num_classes).float()
    return hot.masked_fill((classes < 0)[..., None], float("nan"))
