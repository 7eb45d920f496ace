"""Organisms: hand-built agents whose answer is known by construction, with the interface of trained ones.

    organism = make_organism("wavefront", TaskRecipe(size=9), seed=3)
    organism.policy, organism.answer, organism.kind

Any of them can be named like a factory of one's own, `planprobe.subjects.organisms:wavefront_maze9_s3`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from planprobe.subjects.organisms.families import FAMILIES, TRAINED, Family, Organism, known_levels, make_organism
from planprobe.subjects.organisms.untrained import untrained_like

__all__ = ["FAMILIES", "TRAINED", "Family", "Organism", "known_levels", "make_organism", "untrained_like"]

_NAME = re.compile(
    r"(?P<family>[a-z_]+?)_(?P<kind>maze_trial|hidden_goal|doors|maze|sokoban)(?P<size>\d*)_s(?P<seed>\d+)"
)


def __getattr__(name: str) -> Callable[[], Any]:
    """A factory for names like `one_shot_maze11_s0`: of (policy, task), or of an agent where it was trained."""
    match = _NAME.fullmatch(name)
    if match is None or match["family"].replace("_", "-") not in FAMILIES | TRAINED:
        families = ", ".join(FAMILIES | TRAINED)
        raise AttributeError(
            f"there is no organism '{name}'. Names are like 'wavefront_maze9_s3'; families: {families}."
        )

    def make() -> Any:
        from planprobe.subjects.organisms.families import named_task

        task = named_task(match["kind"].replace("_", "-"), int(match["size"] or 0))
        organism = make_organism(match["family"].replace("_", "-"), task, int(match["seed"]))
        return organism.agent or (organism.policy, organism.task)

    return make
