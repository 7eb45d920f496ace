"""One instrument's results on disk: FOLDER/VERB.json with everything that decided the numbers, a parquet file a table.

FOLDER/erase.json            agent, options, seeds, hashes of levels, weights and rows, versions, evidence
FOLDER/erase/rows.parquet    ...
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planprobe.core.records import Evidence, Row
from planprobe.core.store import write_json

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from planprobe.core.levels import LevelSet
    from planprobe.subjects.agent import Agent

SCHEMA = 1
Draw = Callable[[list[Row]], "dict[str, Figure]"]
"""Rows of a saved table -> figures by name."""


def save_run(folder: Path, verb: str, record: dict[str, Any], tables: dict[str, list[Row]]) -> Path:
    """Write the tables, then the record; returns the record's path. Raises: OutputError (cannot be written)."""
    from planprobe.verdict.results import finite, save_tables

    hashes = save_tables(folder / verb, tables)
    return write_json(folder / f"{verb}.json", finite({"schema": SCHEMA, "verb": verb, **record, "row_hashes": hashes}))


def save_figures(folder: Path, verb: str, table: str, draw: Draw) -> None:
    """Draw a table as it was saved, and put the figures beside it. Raises: OutputError (cannot be written)."""
    from planprobe.verdict.figures import save_figure
    from planprobe.verdict.results import read_table

    for name, figure in draw(read_table(folder / verb / f"{table}.parquet")).items():
        save_figure(figure, folder / verb / f"{name}.json")


def evidence_record(evidence: Evidence) -> dict[str, Any]:
    """A detector's answer without its rows, which are a table."""
    return {key: value for key, value in evidence.to_dict().items() if key != "rows"}


def describe_run(agent: Agent, options: Any, sets: dict[str, LevelSet], *, seconds: float) -> dict[str, Any]:
    """The agent and its hashes, the options (a dataclass), level sets by the part they play, versions."""
    from planprobe.verdict.provenance import agent_facts, level_facts, run_facts
    from planprobe.verdict.results import versions

    plain = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    return {
        "agent": agent_facts(agent), "options": plain, "levels": level_facts(sets), "versions": versions(),
        "run": run_facts(seconds),
    }  # fmt: skip
