"""A study on disk: verdict.json, evidence.parquet and one table a detector, everything a figure or a report is made of.

    OUT/verdict.json        the verdict with its provenance; no table
    OUT/evidence.parquet    one row a measurement: the effect, what is beyond the controls, each control
    OUT/rows/D1.parquet ... the full table behind each detector, and 'behaviour' for plain play
    OUT/figures/            NAME.json, NAME.html       (verdict.figures)
    OUT/report.html                                    (verdict.report)

Figures and report read these files and nothing else, so that what is drawn is what was saved.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import planprobe
from planprobe.core.errors import OutputError
from planprobe.core.records import Effect, Evidence, Row, Verdict
from planprobe.core.store import write_atomic, write_json

SCHEMA = 1
VERDICT_FILE, EVIDENCE_FILE, ROWS_FOLDER = "verdict.json", "evidence.parquet", "rows"
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "transformer-lens", "plotly", "pyarrow")


@dataclass(frozen=True)
class Results:
    """What was saved: the verdict (each Evidence with its rows again) and tables that belong to no detector."""

    verdict: Verdict
    tables: dict[str, list[Row]]

    def rows(self, name: str) -> list[Row]:
        """A table by name: of a detector ('D1') or of the study ('behaviour'); empty where there is none."""
        for item in self.verdict.evidence:
            if item.detector == name:
                return item.rows
        return self.tables.get(name, [])


def write_results(folder: str | Path, verdict: Verdict, tables: dict[str, list[Row]] | None = None) -> Path:
    """Write all but figures and report; verdict.json comes last. Raises: OutputError (cannot be written)."""
    folder = Path(folder)
    named_rows = {item.detector: item.rows for item in verdict.evidence} | (tables or {})
    hashes = save_tables(folder / ROWS_FOLDER, named_rows)
    write_table(folder / EVIDENCE_FILE, evidence_rows(verdict.evidence))
    document = replace(verdict, evidence=[replace(item, rows=[]) for item in verdict.evidence]).to_dict()
    write_json(folder / VERDICT_FILE, finite({"schema": SCHEMA, **document, "row_hashes": hashes}))
    return folder


def load_results(folder: str | Path) -> Results:
    """Read what `write_results` wrote. Raises: OutputError (no study there, or one of another schema)."""
    folder = Path(folder)
    document = load_record(folder / VERDICT_FILE, SCHEMA, remedy=f"planprobe study AGENT --out {folder}")
    tables = load_tables(folder / ROWS_FOLDER)
    evidence = [evidence_from(item, tables.pop(item["detector"], [])) for item in document["evidence"]]
    keys = ("agent", "reading", "calibrated", "reasons", "missing", "provenance", "planning_type")
    optional = {"selection": document.get("selection", ""), "accounts": document.get("accounts", [])}
    return Results(Verdict(**{key: document[key] for key in keys}, **optional, evidence=evidence), tables)


def save_tables(folder: Path, tables: dict[str, list[Row]]) -> dict[str, str]:
    """Write FOLDER/NAME.parquet for each table, and remove those of an older run; returns their hashes.

    Raises: OutputError (cannot be written).
    """
    for stale in set(folder.glob("*.parquet")) - {folder / f"{name}.parquet" for name in tables}:
        stale.unlink()
    plain = {name: [plain_row(row) for row in rows] for name, rows in tables.items()}
    for name, rows in plain.items():
        write_table(folder / f"{name}.parquet", rows)
    return {name: data_hash(rows) for name, rows in plain.items()}


def load_tables(folder: Path) -> dict[str, list[Row]]:
    """Read what `save_tables` wrote, by name."""
    return {path.stem: read_table(path) for path in sorted(folder.glob("*.parquet"))}


def load_record(path: Path, schema: int, *, remedy: str) -> dict[str, Any]:
    """Read a record in JSON. remedy: the command that makes one. Raises: OutputError (none, or of another schema)."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise OutputError(
            f"'{path.parent}' holds no readable {path.name}: {error}.\n  Make one with: {remedy}"
        ) from None
    if record.get("schema") != schema:
        raise OutputError(
            f"'{path}' has schema {record.get('schema')}, this version reads {schema}.\n  Make it anew with: {remedy}"
        )
    return record


def evidence_rows(evidence: Sequence[Evidence]) -> list[Row]:
    """One row a number: role 'effect', 'beyond_controls' or 'control'."""
    rows: list[Row] = []
    for item in evidence:
        numbers = [("effect", item.name, item.effect), ("beyond_controls", item.name, item.beyond_controls)]
        numbers += [("control", name, effect) for name, effect in item.controls.items()]
        for role, name, effect in numbers:
            key: Row = {"detector": item.detector, "outcome": item.outcome, "role": role, "name": name}
            rows.append(key | asdict(effect))
    return rows


def data_hash(value: Any) -> str:
    """sha256 over JSON with floats to nine significant digits: alike on machines that round the tenth differently."""
    return hashlib.sha256(json.dumps(_rounded(value), sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of planprobe, Python and the packages that numbers depend on."""
    # the code's own: an editable install keeps the metadata of the day on which it was made
    found = {"planprobe": planprobe.__version__, "python": platform.python_version()}
    return found | {package: _version(package) for package in PACKAGES}


def file_hash(path: str | Path) -> str | None:
    """sha256 of a file's bytes; None where there is none."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def write_table(path: Path, rows: list[Row]) -> None:
    """Rows as parquet, columns in order of appearance. Raises: OutputError (cannot be written)."""
    import pyarrow
    from pyarrow import parquet

    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = pyarrow.table({key: _column([row.get(key) for row in rows]) for key in columns})
    write_atomic(path, lambda temporary: parquet.write_table(table, temporary))


def read_table(path: Path) -> list[Row]:
    """Rows of a parquet file, as `write_table` wrote them."""
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()


def plain_row(row: Row) -> Row:
    """numpy's numbers as Python's."""
    return {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}


def _column(values: list[Any]) -> list[Any]:
    """One type a column: whole numbers beside fractions become fractions, anything beside text becomes text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and len(kinds) == 2:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1:
        return [None if value is None else str(value) for value in values]
    return values


def evidence_from(item: dict[str, Any], rows: list[Row]) -> Evidence:
    """Evidence as JSON holds it, with its rows again."""
    effects = {key: _effect_from(item[key]) for key in ("effect", "beyond_controls")}
    controls = {name: _effect_from(effect) for name, effect in item["controls"].items()}
    return Evidence(**{**item, **effects, "controls": controls, "rows": rows})


def _effect_from(fields: dict[str, Any]) -> Effect:
    numbers = {key: math.nan if fields[key] is None else fields[key] for key in ("value", "low", "high")}
    return Effect(**{**fields, **numbers})


def finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    return _map_floats(value, lambda number: number if math.isfinite(number) else None)


def _rounded(value: Any) -> Any:
    return _map_floats(value, lambda number: float(f"{number:.9g}") if math.isfinite(number) else repr(number))


def _map_floats(value: Any, change) -> Any:
    if isinstance(value, float):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_floats(part, change) for key, part in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [_map_floats(part, change) for part in value]
    return value
