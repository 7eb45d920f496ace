"""What instruments and the verdict hand on: effects with intervals, evidence, verdicts. Records, never prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Row = dict[str, Any]
"""One row of a table: a number, text, bool or None by column. Who reads a column knows what it holds."""

Outcome = Literal["supported", "refuted", "inconclusive"]


@dataclass(frozen=True)
class Effect:
    """A number with its 95 % interval.

    value, low, high: in the unit that `unit` names ('fraction solved', 'macro-F1', ...). n: independent units (levels).
    p: two-sided, where a null was tested.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str
    p: float | None = None


@dataclass(frozen=True)
class Evidence:
    """One detector's result on one agent.

    detector: 'D1'; name: 'thinking_gain'; claim: one sentence, what a positive result would mean.
    effect: the measurement; controls: the same measurement where the answer should be no, by name.
    beyond_controls: effect minus the best control, paired by level: what the outcome rests on.
    min_effect: smallest effect of interest, fixed beforehand; power: chance to see it with this many levels.
    falsifies: what a negative result rules out. rows: the full table behind the numbers. notes: remarks for a reader.
    """

    detector: str
    name: str
    claim: str
    effect: Effect
    controls: dict[str, Effect]
    beyond_controls: Effect
    min_effect: float
    power: float
    outcome: Outcome
    falsifies: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What a study concludes.

    reading: 'plans', 'plan present but unused', 'adapts without planning', 'does not plan' or 'cannot say'.
    calibrated: whether error rates of the criteria were measured on organisms; else the reading is provisional.
    reasons: in the order of weight. missing: what would be needed to say more. provenance: agent, hashes, versions.
    planning_type: 'parallel sweep', 'serial rollout', 'sampled worlds', 'serial or sampled', or 'not determined', with
    ', once' where it does not plan again; it says how, if the agent plans. selection: does it choose among candidate
    plans by an objective, or does the world alone correct it; sentences. accounts: a row for each account of what goes
    on inside, with what was found as it predicts, what speaks against it, and whether it stands.
    """

    agent: str
    reading: str
    calibrated: bool
    reasons: list[str]
    missing: list[str]
    evidence: list[Evidence]
    provenance: dict[str, Any]
    planning_type: str = "not determined"
    selection: str = ""
    accounts: list[Row] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
