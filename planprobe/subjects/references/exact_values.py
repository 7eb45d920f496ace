"""Known answers of the tasks with a hidden variable, as lines to draw and numbers to test against."""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib import resources

from planprobe.core.errors import unknown_name


@lru_cache(maxsize=1)
def load_exact_values() -> dict[tuple[str, str], float]:
    """Every known value by (task, quantity), as the file names them; the file says where each comes from."""
    text = resources.files("planprobe.subjects.references").joinpath("exact_values.csv").read_text()
    return {(row["task"], row["quantity"]): float(row["value"]) for row in csv.DictReader(text.splitlines())}


def exact_value(task: str, quantity: str) -> float:
    """One known value. Raises: UnknownNameError (no such task or quantity)."""
    values = load_exact_values()
    if (task, quantity) not in values:
        raise unknown_name("value", f"{task}: {quantity}", [": ".join(key) for key in values])
    return values[task, quantity]
