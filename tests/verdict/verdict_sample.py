"""Evidence made up by hand, for tests of what is done with evidence."""

from __future__ import annotations

from planprobe.core.records import Effect, Evidence

NAMES = {"D1": "thinking_gain", "D4": "decodable_plan", "D7": "plan_steering"}
DRAWS = {"D7": [{"half": "report", "judged": True, "source": "random directions", "num_tables": 100}]}


def effect(value: float, half: float = 0.01, unit: str = "fraction solved", n: int = 1000) -> Effect:
    return Effect(value, value - half, value + half, n, unit, p=0.01)


def evidence(detector: str, outcome: str, *, beyond: float | None = None, power: float = 0.9, rows=None) -> Evidence:
    beyond = {"supported": 0.1, "refuted": 0.0, "inconclusive": 0.01}[outcome] if beyond is None else beyond
    return Evidence(
        detector=detector, name=NAMES.get(detector, "other"), claim="It does <b>this</b>.", effect=effect(0.2 + beyond),
        controls={"memory_reset": effect(0.2), "noise state": effect(0.1)}, beyond_controls=effect(beyond, 0.015),
        min_effect=0.02, power=power, outcome=outcome, falsifies="that it does this",
        rows=rows or DRAWS.get(detector, []),
        notes=["a <script>alert(1)</script> note"],
    )  # fmt: skip


SOLVES = effect(0.9)
