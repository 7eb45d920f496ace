"""Goal patching (D8): where an agent in a maze keeps its goal, and for how long it must be told another one.

Three places are patched at the squares around both goals, by a donor that runs beside: the encoding, where the goal
enters the net; memory; and both. Each gives evidence of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planprobe.core.records import Evidence, Row
from planprobe.experiments import figures
from planprobe.experiments.record import Findings, ProgressCallback, between, pick_budget, silent
from planprobe.instruments.detectors import goal_patching as detector
from planprobe.instruments.hooks import open_policy
from planprobe.subjects.envs.goal_swaps import goal_swaps, show_goal
from planprobe.verdict.criteria import REVALUATION

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

QUESTION = "is the way worked out from a goal that can be told the agent inside, and where does it keep that goal?"


@dataclass(frozen=True)
class _Size:
    num_levels: int
    held_steps: tuple[int, ...]
    radii: tuple[int, ...]


SIZES = {
    "smoke": _Size(12, (2,), ()),
    "quick": _Size(100, (2, 8), (0, 1)),
    "full": _Size(400, (1, 2, 4, 8, 16), (0, 1, 3)),
}


def run_goal_patching(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """D8 of each agent; see `catalog.run_experiment` for the arguments.

    Raises: UnknownNameError (budget); RecipeError (an agent of another task than mazes in full view).
    """
    tell, size = progress or silent, pick_budget(SIZES, budget)
    evidence: list[Evidence] = []
    for number, agent in enumerate(agents):
        part = between(number / len(agents), (number + 1) / len(agents), tell)
        swaps = goal_swaps(agent.task, size.num_levels, seed=seed)
        found = detector.run_everywhere(
            open_policy(agent.net, name=agent.name), agent.make_env, swaps, show_goal, min_effect=REVALUATION.value,
            held_steps=size.held_steps, radii=size.radii, seed=seed,
            on_progress=lambda share, part=part, name=agent.name: part(share, f"patching goals into {name}"),
        )  # fmt: skip
        evidence += [
            replace(item, rows=[{"agent": agent.name, "judged": place, **row} for row in item.rows])
            for place, item in found.items()
        ]
    first_of_each = [item for item in evidence if item.rows[0]["judged"] == "encoding"]
    tables = {"walks": [row for item in first_of_each for row in _walk_rows(item)]}
    tell(1.0, "done")
    return Findings(
        name="goal-patching", question=QUESTION, tables=tables, evidence=evidence,
        notes=[_note(item) for item in evidence] + GENERAL,
        provenance={"num_levels": size.num_levels, "look_steps": detector.LOOK_STEPS, "radius": detector.RADIUS},
    )  # fmt: skip


GENERAL = [
    "The goal is in sight at every step. A patch of the encoding is the goal moved on the board as the net sees it: it "
    "asks for a right way to a goal that the agent did not plan for, and a net without memory may pass.",
    detector.SIGHT,
    "Every donor's goal lies round a corner, so that walking straight towards a goal is no way to it.",
]


def _note(item: Evidence) -> str:
    beyond, row = item.beyond_controls, item.rows[0]
    lead = f"{beyond.value:+.2f} [{beyond.low:+.2f}, {beyond.high:+.2f}]"
    return (
        f"{row['agent']}, {row['judged']}: {item.outcome}; a shortest way to the donor's goal on "
        f"{item.effect.value:.2f} of {item.effect.n} levels, {lead} beyond the best control."
    )


def _walk_rows(item: Evidence) -> list[Row]:
    """One row a way of patching, named so that it can stand on an axis."""
    rows: list[Row] = []
    for row in item.rows:
        rows.append(
            {
                "agent": row["agent"], "donor": row["donor"], "where": row["where"], "radius": row["radius"],
                "held": "to the end" if row["held_steps"] is None else f"{row['held_steps']} steps",
                "patched": _name(row), "value": row["shortest_to_donor"], "low": row["shortest_to_donor_low"],
                "high": row["shortest_to_donor_high"], "n": row["num_levels"],
                "first_move": row["first_move_to_donor"], "reached_donor": row["reached_donor"],
                "reached_own": row["reached_own"],
            }
        )  # fmt: skip
    return rows


def _name(row: Row) -> str:
    if row["radius"] is None:
        return "goal moved on the board" if row["where"] == "board" else "nothing"
    held = "" if row["held_steps"] is None else f", {row['held_steps']} steps"
    donor = "" if row["donor"] == "donor" else f", {row['donor']}"
    return f"{row['where']}, radius {row['radius']}{held}{donor}"


FIGURES = {
    "walks": figures.points(
        "walks", label="patched", series="agent", x_title="walked a shortest way to the donor's goal (fraction)"
    )
}
