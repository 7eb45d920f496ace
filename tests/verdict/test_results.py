"""What is written is what is read: verdict, tables, and hashes that do not depend on the last digits."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_sample import SOLVES, evidence

import planprobe
from planprobe.core.errors import OutputError
from planprobe.core.records import Verdict
from planprobe.verdict.judge import judge
from planprobe.verdict.results import (
    VERDICT_FILE,
    data_hash,
    evidence_rows,
    file_hash,
    load_results,
    versions,
    write_results,
)  # fmt: skip

ROWS = [
    {"arm": "both", "alpha": 1, "success": 0.5, "ok": True, "p": None},
    {"arm": "none", "alpha": 2.5, "success": 1, "p": 0.1},
]
BEHAVIOUR = [{"arm": "the agent", "moves": 4.0, "value": 0.9, "low": 0.8, "high": 0.95, "n": 20}]


@pytest.fixture
def verdict() -> Verdict:
    items = [evidence("D1", "supported", rows=ROWS), evidence("D7", "refuted")]
    return judge(items, agent="a", solve_rate=SOLVES, provenance={"seed": 0, "hash": "ab" * 32})


def test_round_trip(tmp_path: Path, verdict: Verdict):
    write_results(tmp_path, verdict, {"behaviour": BEHAVIOUR})
    found = load_results(tmp_path)
    assert found.rows("behaviour") == BEHAVIOUR
    assert found.rows("D1") == [
        {"arm": "both", "alpha": 1.0, "success": 0.5, "ok": True, "p": None},
        {"arm": "none", "alpha": 2.5, "success": 1.0, "ok": None, "p": 0.1},
    ]
    assert found.rows("D4") == []
    bare = [replace(item, rows=[]) for item in verdict.evidence]
    assert replace(found.verdict, evidence=[replace(item, rows=[]) for item in found.verdict.evidence]) == replace(
        verdict, evidence=bare
    )


def test_the_same_study_writes_the_same_bytes(tmp_path: Path, verdict: Verdict):
    for name in ("one", "two"):
        write_results(tmp_path / name, verdict, {"behaviour": BEHAVIOUR})
    for path in (tmp_path / "one").rglob("*.*"):
        assert file_hash(path) == file_hash(tmp_path / "two" / path.relative_to(tmp_path / "one"))


def test_evidence_parquet_holds_effect_and_every_control(verdict: Verdict):
    rows = evidence_rows(verdict.evidence)
    roles = [(row["detector"], row["role"]) for row in rows]
    expected = [(d, r) for d in ("D7", "D1") for r in ("effect", "beyond_controls", "control", "control")]
    assert roles == expected


def test_numbers_that_are_not_numbers_become_null(tmp_path: Path, verdict: Verdict):
    item = verdict.evidence[0]
    broken = replace(verdict, evidence=[replace(item, effect=replace(item.effect, low=math.nan))])
    write_results(tmp_path, broken)
    assert json.loads((tmp_path / VERDICT_FILE).read_text())["evidence"][0]["effect"]["low"] is None
    assert math.isnan(load_results(tmp_path).verdict.evidence[0].effect.low)


def test_numpy_numbers_in_rows(tmp_path: Path, verdict: Verdict):
    write_results(tmp_path, verdict, {"behaviour": [{"n": np.int64(3), "v": np.float64(0.5)}, {"n": 4, "v": 1}]})
    assert load_results(tmp_path).rows("behaviour") == [{"n": 3, "v": 0.5}, {"n": 4, "v": 1.0}]


def test_a_folder_without_a_study(tmp_path: Path, verdict: Verdict):
    with pytest.raises(OutputError, match="planprobe study"):
        load_results(tmp_path)
    write_results(tmp_path, verdict)
    document = json.loads((tmp_path / VERDICT_FILE).read_text())
    (tmp_path / VERDICT_FILE).write_text(json.dumps({**document, "schema": 99}))
    with pytest.raises(OutputError, match="schema 99"):
        load_results(tmp_path)


def test_an_unwritable_folder(tmp_path: Path, verdict: Verdict):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_results(tmp_path / "file" / "study", verdict)


@given(st.floats(min_value=-1e6, max_value=1e6, allow_nan=False), st.integers(-5, 5))
def test_a_hash_forgives_the_last_digits_only(value: float, ulps: int):
    moved = value
    for _ in range(abs(ulps)):
        moved = math.nextafter(moved, math.inf if ulps > 0 else -math.inf)
    if f"{value:.9g}" == f"{moved:.9g}":
        assert data_hash([{"x": value}]) == data_hash([{"x": moved}])
    assert data_hash([{"x": value}]) != data_hash([{"x": value + 1 + abs(value) / 1000}])


def test_versions_name_what_numbers_depend_on():
    assert {"planprobe", "python", "torch", "transformer-lens"} <= set(versions())
    assert versions()["planprobe"] == planprobe.__version__
