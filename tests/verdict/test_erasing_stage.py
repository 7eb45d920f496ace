"""D9 in a study: asked where a plan was read, at the last tick of the step, by what first moves come to."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from verdict_sample import evidence

from planprobe.instruments.hooks import open_policy
from planprobe.subjects.envs.catalog import named_levels
from planprobe.subjects.envs.first_moves import optimal_first_moves
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.organisms.families import named_task
from planprobe.subjects.training.evaluate import env_maker
from planprobe.verdict.budgets import get_budget
from planprobe.verdict.stages import erase_plan

BUDGET = replace(get_budget("smoke"), judged_steps=6)
READ, NOT_READ = evidence("D4", "supported"), evidence("D4", "refuted")


def material_of(task) -> Any:
    levels = named_levels(task, "far", BUDGET.num_erased_levels)
    return SimpleNamespace(
        make_env=env_maker(task), make_first_step_env=env_maker(replace(task, eval_time_limit=1)),
        probe_levels=named_levels(task, "valid", 20), first_move_levels=levels,
        first_moves=optimal_first_moves(levels, task.kind), levels=levels,
    )  # fmt: skip


def test_a_wavefront_loses_its_first_moves():
    organism = make_organism("wavefront", named_task("maze", 9), 0)
    opened, material = open_policy(organism.policy), material_of(organism.task)
    found = erase_plan(opened, material, BUDGET, READ)
    assert found is not None
    assert found.notes[0] == "Judged by fraction of first moves that are optimal after thinking."
    last = organism.policy.num_ticks - 1
    assert f"Erased at ticks.{last}.0.hook_c, ticks.{last}.0.hook_h" in found.notes[1]
    rates = {
        row["condition"]: row["rate"]
        for row in found.rows
        if row["measure"] == "first_move_thought" and row["levels"] == "all"
    }
    assert rates["nothing erased"] == 1.0  # six steps are enough for the wave to arrive
    assert rates["plan erased"] < 0.9
    assert found.effect.value > 0.1
    assert found.outcome == "inconclusive"  # two random subspaces show nothing


def test_nothing_is_erased_where_no_plan_was_read_or_nothing_can_be_scored():
    opened = open_policy(make_organism("reflex", named_task("maze", 9), 0).policy)
    boards: Any = SimpleNamespace(first_moves=None)
    assert erase_plan(opened, boards, BUDGET, NOT_READ) is None
    assert erase_plan(opened, boards, BUDGET, READ) is None  # whole episodes, for which this budget has no room
