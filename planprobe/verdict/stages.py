"""The stages of a study: each detector, with the criteria it is given and the levels it is asked on."""

from __future__ import annotations

from dataclasses import replace

from planprobe.core.protocols import Policy
from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors import plan_steering, thinking_gain
from planprobe.instruments.directions import PlanDirections
from planprobe.instruments.hooks import OpenedPolicy
from planprobe.verdict.budgets import Budget
from planprobe.verdict.criteria import PLAN_STEERING, THINKING_GAIN
from planprobe.verdict.material import Material


def measure_thinking(policy: Policy, material: Material, budget: Budget) -> Evidence:
    """D1. Mazes: judged by the first move on far goals, which is when thinking ends, with solve rates beside it.

    Other tasks: by the solve rate, since several first moves may be optimal and only one is known.

    The two are two runs because they cost differently: a first move is one step, so many more levels can be had.
    """
    options = {
        "thinking_steps": budget.thinking_steps, "judged_steps": budget.judged_steps, "min_effect": THINKING_GAIN.value,
        "tick_factors": budget.tick_factors, "seed": budget.seed,
    }  # fmt: skip
    by_solving = thinking_gain.run(policy, material.make_env, material.hard_levels, **options)
    if material.first_move_levels is None:
        return by_solving
    judged = thinking_gain.run(
        policy, material.make_first_step_env, material.first_move_levels, measure="first_move",
        optimal_first_moves=material.first_moves, **options,
    )  # fmt: skip
    gain = by_solving.effect
    note = (
        f"Solve rate on {gain.n} far levels, not judged: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] with "
        f"{budget.judged_steps} thinking steps."
    )
    rows = [*_without(by_solving.rows, "first_move"), *_without(judged.rows, "solved")]
    return replace(judged, rows=rows, notes=[*judged.notes, note])


def steer_plan(opened: OpenedPolicy, directions: PlanDirections, material: Material, budget: Budget) -> Evidence:
    """D7, judged on the arm 'both'."""
    battery = plan_steering.Battery(
        num_random=budget.num_random, num_random_choice=budget.num_random_choice, num_wrong=budget.num_wrong,
        num_shuffles=budget.num_shuffles,
    )  # fmt: skip
    return plan_steering.run(
        opened, material.make_env, material.routes, directions, min_effect=PLAN_STEERING.value, alphas=budget.alphas,
        battery=battery, seed=budget.seed,
    )  # fmt: skip


def _without(rows: list[Row], measure: str) -> list[Row]:
    """Rows less the columns of a measure: those of an episode cut after one step say nothing about solving."""
    kept = [{key: value for key, value in row.items() if not key.startswith(f"{measure}_")} for row in rows]
    return [{**row, "measure": "solved" if measure == "first_move" else "first_move"} for row in kept]
