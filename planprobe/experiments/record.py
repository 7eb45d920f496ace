"""What an experiment hands back: tables, evidence, and sentences that say what they show and what they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from planprobe.core.errors import unknown_name
from planprobe.core.records import Evidence, Row

ProgressCallback = Callable[[float, str], None]
"""Called with the share of the experiment that is done, and with what is going on."""

BUDGETS = ("smoke", "quick", "full")
"""smoke shows that it runs, in seconds; quick takes minutes on one core; full is what a claim should rest on."""

Size = TypeVar("Size")


@dataclass(frozen=True)
class Findings:
    """One experiment's result.

    name, question: as in `catalog.EXPERIMENTS`. tables: rows by name; a number of a table has its 95 % interval beside
    it, in columns `value`, `low`, `high` and `n`, the independent units that the interval is over.
    evidence: of detectors, where the experiment is one; its rows say 'agent'. notes: sentences with numbers in them,
    what the tables show and what they cannot show. provenance: what else decided the numbers (recipes of nets that it
    trained, number of trials); agents, hashes, budget, seed and versions are added by `catalog.run_experiment`.
    """

    name: str
    question: str
    tables: dict[str, list[Row]]
    evidence: list[Evidence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)


def lead_rows(evidence: Sequence[Evidence]) -> list[Row]:
    """What each detector measured, and its lead over the best control: two rows for each evidence, whose rows say whose
    it is ('agent') and, where it is of one change alone, of which ('change')."""
    rows: list[Row] = []
    for found in evidence:
        whose = {key: found.rows[0][key] for key in ("agent", "change") if found.rows and key in found.rows[0]}
        label = whose | {"measure": found.name.replace("_", " ")}
        for part, effect in (("measured", found.effect), ("beyond the best control", found.beyond_controls)):
            rows.append(
                label | {"part": part, "value": effect.value, "low": effect.low, "high": effect.high, "n": effect.n,
                         "unit": effect.unit}
            )  # fmt: skip
    return rows


def pick_budget(sizes: Mapping[str, Size], budget: str) -> Size:
    """An experiment's sizes at a budget. Raises: UnknownNameError (no such budget)."""
    if budget not in sizes:
        raise unknown_name("budget", budget, sizes, next_move="smoke shows that it runs, quick takes minutes.")
    return sizes[budget]


def silent(share: float, text: str) -> None:
    """A progress callback that says nothing."""


def between(start: float, end: float, tell: ProgressCallback) -> ProgressCallback:
    """A callback for one part of an experiment: its shares from 0 to 1 lie between `start` and `end` of the whole."""
    return lambda share, text: tell(start + (end - start) * share, text)
