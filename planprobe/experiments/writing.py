"""An experiment on disk. Figures and text are made of the saved tables and nothing else.

OUT/findings.json        question, notes, evidence without its tables, provenance, a hash of every table
OUT/findings.md          the same for people
OUT/evidence.parquet     one row a measurement of a detector, where there is one
OUT/rows/NAME.parquet    every table, those behind the evidence included
OUT/figures/             NAME.json, NAME.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from planprobe.core.errors import unknown_name
from planprobe.core.records import Evidence, Row
from planprobe.core.store import write_atomic, write_json
from planprobe.experiments.catalog import load_figures
from planprobe.experiments.record import Findings
from planprobe.verdict.figures import FOLDER, FigureCheck, figure_hash, save_figure, stored_hash
from planprobe.verdict.results import (
    EVIDENCE_FILE,
    ROWS_FOLDER,
    evidence_from,
    evidence_rows,
    finite,
    load_record,
    load_tables,
    plain_row,
    save_tables,
    write_table,
)

SCHEMA = 1
FINDINGS_FILE, TEXT_FILE = "findings.json", "findings.md"
SHOWN_ROWS = 40  # of a table in the text; the rest is in the parquet file


def write_findings(folder: str | Path, findings: Findings) -> Path:
    """Write tables, text and record, then figures from what was written; the record's path. Raises: OutputError."""
    folder = Path(folder)
    tables = {name: [plain_row(row) for row in rows] for name, rows in _all_tables(findings).items()}
    for stale in _of_an_older_run(folder):
        stale.unlink()
    hashes = save_tables(folder / ROWS_FOLDER, tables)
    if findings.evidence:
        write_table(folder / EVIDENCE_FILE, evidence_rows(findings.evidence))
    write_atomic(folder / TEXT_FILE, findings_text(replace(findings, tables=tables)))
    record = {
        "schema": SCHEMA, "name": findings.name, "question": findings.question, "notes": findings.notes,
        "evidence": [replace(item, rows=[]).to_dict() | {"agent": agent_of(item)} for item in findings.evidence],
        "provenance": findings.provenance, "row_hashes": hashes,
    }  # fmt: skip
    path = write_json(folder / FINDINGS_FILE, finite(record))
    rebuild_experiment_figures(folder)
    return path


def load_findings(folder: str | Path) -> Findings:
    """Read what `write_findings` wrote; rows of evidence are among the tables. Raises: OutputError."""
    folder = Path(folder)
    record = load_record(folder / FINDINGS_FILE, SCHEMA, remedy=f"planprobe run NAME --out {folder}")
    tables = load_tables(folder / ROWS_FOLDER)
    evidence = [
        evidence_from({key: value for key, value in item.items() if key != "agent"}, []) for item in record["evidence"]
    ]
    return Findings(record["name"], record["question"], tables, evidence, record["notes"], record["provenance"])


def rebuild_experiment_figures(
    folder: str | Path, names: Iterable[str] | None = None, *, check: bool = False
) -> list[FigureCheck]:
    """Draw an experiment's figures anew from its saved tables; as `verdict.figures.rebuild_figures` for studies.

    Raises: UnknownNameError (no such figure); OutputError (no findings in the folder, or it cannot be written).
    """
    folder = Path(folder)
    findings = load_findings(folder)
    known, checks = load_figures(findings.name), []
    for name in known if names is None else names:
        if name not in known:
            raise unknown_name("figure", name, known, where=f"experiment '{findings.name}'")
        for label, figure in _by_label(name, known[name](findings.tables)).items():
            path = folder / FOLDER / f"{label}.json"
            stored = stored_hash(path) if check else save_figure(figure, path)
            checks.append(FigureCheck(label, path, figure_hash(figure), stored))
    return checks


def _by_label(name: str, drawn: Any) -> dict[str, Any]:
    """Figures by the names of their files: one, several ('stages-AGENT'), or none."""
    if isinstance(drawn, dict):
        return {f"{name}-{re.sub(r'[^A-Za-z0-9._-]+', '.', key)}": figure for key, figure in drawn.items()}
    return {} if drawn is None else {name: drawn}


def findings_text(findings: Findings) -> str:
    """The findings as Markdown: question, what was found, evidence, tables."""
    parts = [f"# {findings.name}", findings.question[0].upper() + findings.question[1:]]
    if findings.notes:
        parts.append("\n".join(f"- {note}" for note in findings.notes))
    if findings.evidence:
        parts += ["## Evidence", markdown_table([_evidence_row(item) for item in findings.evidence])]
    for name, rows in findings.tables.items():
        parts += [f"## {name}", markdown_table(rows[:SHOWN_ROWS])]
        if len(rows) > SHOWN_ROWS:
            parts.append(f"{len(rows) - SHOWN_ROWS} more rows in `{ROWS_FOLDER}/{name}.parquet`.")
    return "\n\n".join(parts) + "\n"


def markdown_table(rows: list[Row]) -> str:
    """One line a row; value, low and high become one column."""
    if not rows:
        return "(no rows)"
    shown = [_with_interval(row) for row in rows]
    columns = list(dict.fromkeys(key for row in shown for key in row))
    lines = [columns, ["---"] * len(columns), *([row.get(column, "") for column in columns] for row in shown)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def agent_of(item: Evidence) -> str:
    """Whose evidence it is: the agent that all of its rows name; empty where they name none, or several."""
    names = {str(row["agent"]) for row in item.rows if "agent" in row}
    return names.pop() if len(names) == 1 else ""


def _of_an_older_run(folder: Path) -> list[Path]:
    """What this run may not write over: figures under other names, evidence where there is none now."""
    evidence = [folder / EVIDENCE_FILE] if (folder / EVIDENCE_FILE).exists() else []
    return [*(folder / FOLDER).glob("*.*"), *evidence]


def _all_tables(findings: Findings) -> dict[str, list[Row]]:
    """The experiment's tables, and one a detector with the rows behind all of its evidence."""
    tables = dict(findings.tables)
    for item in findings.evidence:
        if item.rows and item.detector not in findings.tables:
            tables[item.detector] = [*tables.get(item.detector, []), *item.rows]
    return tables


def _evidence_row(item: Evidence) -> Row:
    effect, beyond = item.effect, item.beyond_controls
    return {
        "agent": agent_of(item), "detector": f"{item.detector} {item.name.replace('_', ' ')}",
        "effect": f"{effect.value:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}]", "unit": effect.unit,
        "beyond controls": f"{beyond.value:+.3f} [{beyond.low:+.3f}, {beyond.high:+.3f}]",
        "power": item.power, "outcome": item.outcome,
    }  # fmt: skip


def _with_interval(row: Row) -> dict[str, str]:
    shown = {key: _cell(value) for key, value in row.items() if key not in ("low", "high")}
    if "value" in row and row.get("low") is not None:
        shown["value"] = f"{_cell(row['value'])} [{_cell(row['low'])}, {_cell(row['high'])}]"
    return shown


def _cell(value: float | int | str | bool | None) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
