"""Concepts: what a probe reads off a square or a whole state, as labels made from the future of each state.

A plan shows up as something that *will* happen on a square: the agent will enter it by going left, the box on it will
be pushed up. A concept of squares is one function that lists such events step by step; the label of a square is its
first event from the state on, and 0 if there is none. A concept of states is one function that gives each state a class
or a number. Labels come from the agent's own future behaviour, from an optimal plan, or from the second-best way; the
concept does not know which.

    def find_vertical_visits(futures: Futures) -> Events:            # a concept of one's own
        return Events(futures.moved & (futures.actions < 2), futures.positions[:, 1:], futures.actions + 1)

    vertical = Concept("vertical-visit", ("never", "up", "down"), find_vertical_visits)

    def will_wait(futures: Futures) -> Tensor:                       # and one of states: (M,) classes
        return (~futures.moved[:, 0]).long()

    waits = StateConcept("waits", ("no", "yes"), will_wait)          # no names: numbers, read by ridge regression

Either goes wherever a name of `CONCEPTS` goes: probe_table(opened, make_env, levels, vertical).
"""

from __future__ import annotations

from collections.abc import Sequence

from planprobe.core.errors import UnknownConceptError, unknown_name
from planprobe.core.futures import Futures
from planprobe.instruments.concepts.labels import (
    NEVER,
    NO_ROW,
    Concept,
    Events,
    Labels,
    StateConcept,
    StateLabels,
    can_label,
)
from planprobe.instruments.concepts.square_concepts import DIRECTIONS, SQUARE_CONCEPTS, as_binary
from planprobe.instruments.concepts.state_concepts import STATE_CONCEPTS
from planprobe.instruments.concepts.states import (
    States,
    behaviour_futures,
    boards_of,
    branch_squares,
    floor_mask,
    sample_states,
)

__all__ = [
    "BATTERY", "CONCEPTS", "DIRECTIONS", "NEVER", "NO_ROW", "Concept", "Events", "Futures", "Labels", "StateConcept",
    "StateLabels", "States", "as_binary", "behaviour_futures", "boards_of", "branch_squares", "can_label",
    "expand_concepts", "floor_mask", "get_concept", "sample_states",
]  # fmt: skip

CONCEPTS: dict[str, Concept | StateConcept] = {concept.name: concept for concept in (*SQUARE_CONCEPTS, *STATE_CONCEPTS)}

BATTERY = (
    "agent-approach-direction", "box-push-direction", "next-box", "next-target",
    *(f"agent-position-{steps}" for steps in (1, 2, 4, 8)), *(f"action-ahead-{steps}" for steps in range(1, 11)),
    "steps-left", "predicted-value",
)  # fmt: skip
"""What `all` stands for."""


def get_concept(concept: str | Concept | StateConcept) -> Concept | StateConcept:
    """A concept by name; one of your own is handed through. Raises: UnknownConceptError, with the nearest name."""
    if isinstance(concept, Concept | StateConcept):
        return concept
    if concept not in CONCEPTS:
        raise unknown_name(
            "concept", concept, CONCEPTS, error=UnknownConceptError,
            next_move="One of your own: Concept(name, class_names, find_events), in place of the name.",
        )  # fmt: skip
    return CONCEPTS[concept]


def expand_concepts(
    concepts: str | Concept | StateConcept | Sequence[str | Concept | StateConcept],
) -> list[Concept | StateConcept]:
    """Concepts by name or as they are, each once; 'all' is `BATTERY`. Raises: UnknownConceptError."""
    given = [concepts] if isinstance(concepts, str | Concept | StateConcept) else list(concepts)
    named = [each for one in given for each in (BATTERY if one == "all" else (one,))]
    found = [get_concept(each) for each in named]
    return list({concept.name: concept for concept in found}.values())
