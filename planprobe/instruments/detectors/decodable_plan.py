"""D4, decodable plan: can what the agent will do be read off single squares of its memory, beyond what the board shows?

The read-out is linear and sees one square (1x1), so it cannot plan by itself. Which layer and tick to read is chosen on
the valid levels. A positive result says that a plan is *there*; a bystander that carries one and never looks at it
gives the same. Whether it is used is the question of D7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Effect, Evidence, Row
from planprobe.instruments.concepts.catalog import Concept
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.hooks import OpenedPolicy
from planprobe.instruments.probes.controls import CONTROL_TASK
from planprobe.instruments.probes.table import MIN_RANDOM_NETS, ProbeTable, probe_table
from planprobe.instruments.statistics.proportions import power_of_interval

CLAIM = "Each square of the agent's memory says what the agent will do there, better than anything it has seen says it."
NEEDS = ("opened policy with spatial sites", "ten or more levels", "untrained nets of its architecture")
CONTROLS = (
    "majority", "observation_1x1", "observation_3x3", "observation_full", "history_1x1", "history_3x3", "history_full",
    "geometry_1x1", "geometry_3x3", "random_weights", "twin", "clone", "shuffled_labels", "control_task",
)  # fmt: skip
FALSIFIES = "that a plan is written square by square in the memory that was probed, in a form one matrix can read"

KERNEL = 1  # one square: the read-out itself cannot follow a path
UNIT = "macro-F1"
PREFIX = "control_"


def run(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    *,
    min_effect: float,
    concept: str | Concept = "agent-approach-direction",
    labels: str = "behaviour",
    kernel: int = KERNEL,
    random_policies: Sequence[Policy] = (),
    twin: Policy | None = None,
    **options,
) -> Evidence:
    """Probe every site and judge the best one; options of `probe_table` (sites, kernels, planner, seeds, ...).

    Args:
        min_effect: smallest lead over the best control that counts, in macro-F1; fixed beforehand.
        labels: 'behaviour', or 'optimal' with a planner; kernel: side of the window. Both say what is judged, and are
            fixed beforehand; rows report the others too.
    Returns: as `judge_table`.
    Raises: as `probe_table`.
    """
    table = probe_table(opened, make_env, levels, concept, random_policies=random_policies, twin=twin, **options)
    return judge_table(table, min_effect=min_effect, labels=labels, kernel=kernel)


def judge_table(table: ProbeTable, *, min_effect: float, labels: str = "behaviour", kernel: int = KERNEL) -> Evidence:
    """Evidence from a probe table that is already there.

    Returns: effect = test macro-F1 of the probe (by default 1x1) that did best on the valid levels; controls = theirs
    beside it; beyond_controls = its lead over the control that did best on the valid levels; rows = the whole table,
    by `table`: 'cells', 'horizon', 'subsets'.
    Raises: ShapeError (the table holds no such probes).
    """
    row = table.best(labels=labels, kernel=kernel)
    beyond = _effect(
        row, "delta", f"{UNIT} beyond {row['best_control']}", p=None if row["p"] is None else float(row["p"])
    )
    power = power_of_interval(beyond, min_effect=min_effect)
    power = 0.0 if math.isnan(power) else power
    outcome = decide(beyond, min_effect=min_effect, power=power)
    notes = [*_remarks(row, table), *table.notes]
    if outcome == "supported" and table.num_random_nets < MIN_RANDOM_NETS:
        outcome = "inconclusive"
        notes.append("The lead is large enough, but nothing is supported without nets with random weights beside it.")
    names = [key.removeprefix(PREFIX) for key in row if key.startswith(PREFIX) and f"{key}_low" in row]
    return Evidence(
        detector="D4",
        name="decodable_plan",
        claim=CLAIM,
        effect=_effect(row, "macro_f1", UNIT),
        controls={name: _effect(row, f"{PREFIX}{name}", UNIT) for name in names},
        beyond_controls=beyond,
        min_effect=min_effect,
        power=power,
        outcome=outcome,
        falsifies=FALSIFIES,
        rows=_all_rows(table),
        notes=notes,
    )


def _remarks(row: Row, table: ProbeTable) -> list[str]:
    remarks = [
        f"Judged at {row['site']}, {row['kernel']}x{row['kernel']}, chosen on the valid levels; best control there: "
        f"{row['best_control']}. Solve rate on the {table.num_levels} levels: {table.solve_rate:.2f}."
    ]
    ahead = [other for other in table.by_horizon if _same_cell(other, row) and other["unit"] == "steps"]
    ahead = [other for other in ahead if other["bin"] != "never" and other["num_events"]]
    if ahead:
        last = ahead[-1]
        remarks.append(
            f"Events {last['bin']} steps ahead: recall {last['recall']:.2f}, control {last['control_recall']:.2f} "
            f"({last['num_events']} squares)."
        )
    if not float(row["selectivity_low"] or 0.0) > 0:
        remarks.append(
            f"Selectivity {row['selectivity']:+.2f}: the same read-out learns random classes of squares about as well "
            f"({CONTROL_TASK}), so it may know squares rather than plans. See its lead over the observation controls."
        )
    return remarks


def _same_cell(first: Row, second: Row) -> bool:
    return all(first[key] == second[key] for key in ("labels", "site", "kernel"))


def _effect(row: Row, name: str, unit: str, p: float | None = None) -> Effect:
    value, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    value, low, high = (math.nan if number is None else float(number) for number in (value, low, high))
    return Effect(value, low, high, int(row["num_test_levels"] or 0), unit, p)


def _all_rows(table: ProbeTable) -> list[Row]:
    parts = {"cells": table.rows, "horizon": table.by_horizon, "subsets": table.subsets}
    return [{"table": name, **row} for name, rows in parts.items() for row in rows]
