"""Results on stdout, as a table or as JSON; progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from planprobe.core.records import Effect, Evidence, Row

WIDTH_WITHOUT_TERMINAL = 160  # a pipe has no width, and rich would cut tables at 80


def show(value: Any, rows: Iterable[Row], *, as_json: bool, title: str = "") -> None:
    """Print `value` as JSON (NaN as null), or `rows` as a table."""
    if as_json:
        from planprobe.verdict.results import finite

        print(json.dumps(finite(value), indent=2, allow_nan=False))
    else:
        print_table(rows, title=title)


def print_table(rows: Iterable[Row], *, title: str = "") -> None:
    """One line a row; columns are the keys of all rows in order of appearance."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=Text(title) if title else None, title_justify="left")
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))  # Text: no markup from files
    Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL).print(table)


def with_interval(row: Row) -> Row:
    """A row for people: value, low and high become one column."""
    shown = {key: value for key, value in row.items() if key not in ("low", "high")}
    if "low" in row:
        shown["value"] = f"{_cell(row['value'])}  [{_cell(row['low'])}, {_cell(row['high'])}]"
    return shown


def interval_text(value: float | None, low: float | None, high: float | None, *, sign: str = "") -> str:
    """'0.052  [0.031, 0.073]'; a dash where there is no number. sign: '+' to show that of positive numbers too."""
    value_text, low_text, high_text = ("-" if x is None else f"{x:{sign}.3f}" for x in (value, low, high))
    return f"{value_text}  [{low_text}, {high_text}]"


def effect_text(effect: Effect, *, sign: str = "+") -> str:
    """`interval_text` of an effect."""
    return interval_text(effect.value, effect.low, effect.high, sign=sign)


def interval_column(row: Row, name: str, *, sign: str = "") -> str:
    """`interval_text` of the columns NAME, NAME_low and NAME_high of a row."""
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    return interval_text(value, low, high, sign=sign)


@contextmanager
def progress(label: str) -> Iterator[Callable[..., None]]:
    """A bar on stderr; yields on_progress(done, total, what is going on). Silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)

        def on_progress(done: float, total: float, text: str = "") -> None:
            bar.update(task, completed=done, total=total, description=f"{label}: {text}" if text else label)

        yield on_progress


def say_evidence(evidence: Evidence, *, effect: str) -> None:
    """A detector's answer and its notes. effect: what was measured, as in 'Lost'."""
    beyond = evidence.beyond_controls
    say(
        f"{evidence.detector} {evidence.name.replace('_', ' ')}: {evidence.outcome}. {effect} beyond the best control: "
        f"{effect_text(beyond)}, p = {beyond.p:.4f}, power {evidence.power:.2f}."
    )
    for note in evidence.notes:
        say(f"Note: {note}")


def say(message: str) -> None:
    """A remark on stderr, out of the way of results."""
    print(message, file=sys.stderr)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)
