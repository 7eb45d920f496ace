"""One instrument's results on disk: FOLDER/VERB.json with everything that decided the numbers, a parquet file a table.

FOLDER/erase.json            agent, options, seeds, hashes of levels, weights and rows, versions, evidence
FOLDER/erase/rows.parquet    ...
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planprobe.core.records import Row
from planprobe.core.store import write_json

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from planprobe.core.levels import LevelSet
    from planprobe.subjects.agent import Agent

SCHEMA = 1


def save_run(folder: Path, verb: str, record: dict[str, Any], tables: dict[str, list[Row]]) -> Path:
    """Write the tables, then the record; returns the record's path. Raises: OutputError (cannot be written)."""
    from planprobe.verdict.results import data_hash, finite, write_table

    for name, rows in tables.items():
        write_table(folder / verb / f"{name}.parquet", rows)
    hashes = {name: data_hash(rows) for name, rows in tables.items()}
    return write_json(folder / f"{verb}.json", finite({"schema": SCHEMA, "verb": verb, **record, "row_hashes": hashes}))


def save_figures(folder: Path, verb: str, table: str, draw: Callable[[list[Row]], dict[str, Figure]]) -> None:
    """Draw a table as it was saved, and put the figures beside it. Raises: OutputError (cannot be written)."""
    from pyarrow import parquet

    from planprobe.verdict.figures import save_figure

    rows = parquet.read_table(folder / verb / f"{table}.parquet").to_pylist()
    for name, figure in draw(rows).items():
        save_figure(figure, folder / verb / f"{name}.json")


def describe_run(agent: Agent, options: Any, sets: dict[str, LevelSet], *, seconds: float) -> dict[str, Any]:
    """The agent and its hashes, the options (a dataclass), level sets by the part they play, versions."""
    from planprobe.subjects.agent import WEIGHTS_FILE
    from planprobe.verdict.results import file_hash, versions

    facts: dict[str, Any] = {"name": agent.name, "frames": agent.frames}
    if agent.folder is not None:
        facts |= {"recipe_hash": agent.recipe.hash(), "weights_hash": file_hash(agent.folder / WEIGHTS_FILE)}
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    return {
        "agent": facts,
        "options": plain if dataclasses.is_dataclass(options) else {},
        "levels": {
            part: {"name": levels.name, "number": len(levels), "hash": levels.hash()} for part, levels in sets.items()
        },
        "versions": versions(),
        "run": {"finished": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "seconds": round(seconds)},
    }
