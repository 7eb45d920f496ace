"""Rows as the detectors write them, made up: figures read nothing else."""

from __future__ import annotations

import itertools

from planprobe.core.records import Row


def limits(value: float, half: float = 0.03) -> tuple[float, float, float]:
    return value, max(0.0, value - half), min(1.0, value + half)


def thinking_rows(measure: str = "solved", level: float = 0.6) -> list[Row]:
    table = [("thinking", count, level + 0.02 * index) for index, count in enumerate((0, 1, 2, 4, 8, 16))]
    table += [("memory reset", 0, level - 0.3), ("memory reset", 8, level - 0.3)]
    table += [("blank frame", 8, level - 0.05), ("noise state", 8, level - 0.12), ("another level", 8, level - 0.06)]
    table += [("4 ticks a step", 0, level + 0.01)]
    rows = []
    for variant, count, value in table:
        rate, low, high = limits(value)
        rows.append(
            {
                "variant": variant, "thinking_steps": count, "levels": "all", "num_levels": 500, "measure": measure,
                f"{measure}_rate": rate, f"{measure}_rate_low": low, f"{measure}_rate_high": high,
            }
        )  # fmt: skip
    return rows


def lag_rows(rung: str, rungs: tuple[int, ...], slope: float) -> list[Row]:
    rows = []
    for variant, factor in (("thinking", 1.0), ("blank frame", 0.1), ("another level", -0.1)):
        for value in rungs:
            lag = factor * slope * value
            rows.append(
                {"variant": variant, rung: float(value), "lag": lag, "lag_low": lag - 0.2, "lag_high": lag + 0.2}
            )
    return rows


def revaluation_rows() -> list[Row]:
    rows = []
    conditions = {"new board": 0.6, "old board": 0.1, "new board, no memory": 0.5, "memory reset, old board": 0.12}
    for condition, share in conditions.items():
        for count in (0, 2, 8):
            value, low, high = limits(share + (0.02 * count if condition.startswith("new") else 0))
            names = {"condition": condition, "thinking_steps_after": count}
            rows.append({**names, "new_move": value, "new_move_low": low, "new_move_high": high})
    return rows


def refinement_rows() -> list[Row]:
    nets = {"agent": (1, 2, 3), "labels of another level": (1, 3)}
    rows: list[Row] = []
    for net, ticks in nets.items():
        for tick in ticks:
            level = 0.2 * tick if net == "agent" else 0.2
            scores = {kind: limits(value) for kind, value in (("fixed", level), ("own", level + 0.1))}
            parts = {
                f"{kind}{ending}": value
                for kind, each in scores.items()
                for ending, value in zip(("", "_low", "_high"), each, strict=True)
            }
            rows.append({"net": net, "tick": tick, "num_levels": 60, **parts})
    return rows


def order_rows() -> list[Row]:
    squares: list[Row] = [
        {"table": "order", "square": place, "lag": 2.0 * place, "lag_low": 2.0 * place - 1, "lag_high": 2.0 * place + 1}
        for place in (1, 2, 3)
    ]
    return [
        *squares,
        {"table": "order found", "order": "forward from the agent", "switches_low": 0.0, "several_ways": True},
    ]


def steering_rows() -> list[Row]:
    strength = {"trained": 0.09, "random directions": 0.02, "wrong class": 0.03, "shuffled square": 0.01}
    rows = [_steered("choice", "none", "no edit", 0.0, 0.05, 1)]
    for alpha in (0.5, 1, 2, 4, 8):
        for source, slope in strength.items():
            rows.append(
                _steered("choice", "both", source, alpha, 0.05 + slope * alpha, 1 if source == "trained" else 4)
            )
    rows.append(_steered("report", "none", "no edit", 0.0, 0.05, 1))
    for arm, factor in (("block", 0.8), ("direct", 0.3), ("both", 1.0)):
        for source, slope in strength.items():
            tables = {"trained": 1, "random directions": 100}.get(source, 8)
            rows.append(_steered("report", arm, source, 8, 0.05 + factor * slope * 8, tables))
    return rows


def probe_rows() -> list[Row]:
    """As `ProbeTable.rows` and `.by_horizon` of a net with one layer and two ticks."""
    rows, scores = [], {"observation_3x3": 0.45, "random_weights": 0.4, "majority": 0.2, "twin": 0.6}
    for labels, tick, kernel in itertools.product(("behaviour", "optimal"), (0, 1), (1, 3)):
        own = 0.6 + 0.1 * tick + 0.04 * kernel - (0.05 if labels == "optimal" else 0)
        row = {"labels": labels, "site": f"ticks.{tick}.0.hook_h", "tick": tick, "layer": 0, "kernel": kernel}
        row |= {"valid_macro_f1": own, "best_control": "twin", **_named("macro_f1", own)}
        row |= _named("delta", own - 0.6) | {"p_holm": 0.01}
        for name, score in scores.items():
            row |= _named(f"control_{name}", score)
        rows.append(row)
    best = {"labels": "behaviour", "site": "ticks.1.0.hook_h", "tick": 1, "layer": 0, "kernel": 1, "unit": "steps"}
    for number, name in enumerate(("0-1", "2-4", "5-9", "10+", "never")):
        recalls = _named("recall", 0.9 - 0.1 * number) | _named("control_recall", 0.7 - 0.1 * number)
        rows.append({**best, "bin": name, **recalls})
    return rows


def behaviour_rows() -> list[Row]:
    rows = []
    for arm, slope in (("the agent", 0.003), ("memory reset each step", 0.025)):
        for moves in range(2, 30, 5):
            value, low, high = limits(0.97 - slope * moves)
            rows.append({"arm": arm, "moves": float(moves), "value": value, "low": low, "high": high, "n": 50})
    return rows


def _named(name: str, value: float) -> Row:
    return dict(zip((name, f"{name}_low", f"{name}_high"), limits(value), strict=True))


def _steered(half: str, arm: str, source: str, alpha: float, success: float, num_tables: int) -> Row:
    value, low, high = limits(success, 0.05)
    return {
        "half": half, "judged": half == "report" and arm == "both", "arm": arm, "source": source, "alpha": float(alpha),
        "num_levels": 120, "num_tables": num_tables,
        "success": value, "success_low": low, "success_high": high, "success_p95_of_tables": min(1.0, value + 0.1),
    }  # fmt: skip
