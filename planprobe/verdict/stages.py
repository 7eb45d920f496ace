"""The stages of a study: each detector, with the criteria it is given and the levels it is asked on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Env, Policy
from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors import (
    candidate_law,
    decodable_plan,
    decoding_order,
    distance_law,
    necessity,
    plan_refinement,
    plan_steering,
    revaluation,
    thinking_gain,
)
from planprobe.instruments.erasure.erased_play import Trial
from planprobe.instruments.erasure.erasure import fit_erasure
from planprobe.instruments.erasure.targets import concept_target
from planprobe.instruments.hooks import OpenedPolicy, open_policy, select_sites
from planprobe.instruments.probes.table import ProbeTable, probe_table
from planprobe.instruments.probes.tick_reads import read_ticks, record_thinking
from planprobe.instruments.steering.directions import PlanDirections, probe_directions, wall_directions
from planprobe.verdict.budgets import Budget
from planprobe.verdict.criteria import (
    CANDIDATE_LAW,
    DECODABLE_PLAN,
    DECODING_ORDER,
    DISTANCE_LAW,
    NECESSITY,
    PLAN_REFINEMENT,
    PLAN_STEERING,
    REVALUATION,
    THINKING_GAIN,
)
from planprobe.verdict.material import CANDIDATES, Material

PLAN_CONCEPT, CONVENTION = "agent-approach-direction", "entry"  # what D4 reads of a square is what D7 writes on it
ProgressCallback = Callable[[float, str], None]
"""(share that is done, what is going on)"""

HIDDEN, CELLS = "ticks.*.*.hook_h", "ticks.*.*.hook_c"


def measure_thinking(
    policy: Policy, material: Material, budget: Budget, *, on_progress: ProgressCallback | None = None
) -> Evidence:
    """D1, judged by first moves, which come when thinking ends, with solve rates beside it; in mazes on far goals.

    By the solve rate where optimal first moves are not known. It leaves no room above an agent that solves nearly all:
    one that only begins to move while it still plans solves most levels too.
    The two are two runs because they cost differently: a first move is one step, so many more levels can be had.
    """
    tell = on_progress or (lambda share, text: None)
    options = {
        "thinking_steps": budget.thinking_steps, "judged_steps": budget.judged_steps, "min_effect": THINKING_GAIN.value,
        "tick_factors": budget.tick_factors, "seed": budget.seed,
    }  # fmt: skip
    tell(0.0, "D1 thinking gain, by solve rate")
    by_solving = thinking_gain.run(policy, material.make_env, material.hard_levels, **options)
    if material.first_move_levels is None:
        return by_solving
    tell(0.7, "D1 thinking gain, by first moves")
    judged = thinking_gain.run(
        policy, material.make_first_step_env, material.first_move_levels, measure="first_move",
        optimal_first_moves=material.first_moves, **options,
    )  # fmt: skip
    gain = by_solving.effect
    note = (
        f"Solve rate on {gain.n} of these levels, not judged: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] "
        f"with {budget.judged_steps} thinking steps."
    )
    rows = [*_without(by_solving.rows, "first_move"), *_without(judged.rows, "solved")]
    return replace(judged, rows=rows, notes=[*judged.notes, note])


def measure_laws(
    policy: Policy, material: Material, budget: Budget, *, on_progress: ProgressCallback | None = None
) -> list[Evidence]:
    """D2 and D3, where the task has ladders of levels."""
    tell = on_progress or (lambda share, text: None)
    options = {"thinking_steps": budget.law_steps, "seed": budget.seed}
    make_env, found = material.make_first_step_env, []
    if (far := material.far_ladder) is not None and material.far_moves is not None:
        tell(0.0, "D2 distance law")
        found.append(
            distance_law.run(
                policy, make_env, far, material.far_moves, far.distance.unique().tolist(),
                min_effect=DISTANCE_LAW.value, **options,
            )
        )  # fmt: skip
    if (wide := material.wide_ladder) is not None and material.wide_moves is not None:
        tell(0.6, "D3 candidate law")
        found.append(
            candidate_law.run(
                policy, make_env, wide, material.wide_moves, CANDIDATES, heading=wide.heading,
                min_effect=CANDIDATE_LAW.value, **options,
            )
        )  # fmt: skip
    return found


def change_the_world(policy: Policy, material: Material, budget: Budget) -> Evidence:
    """D10, by a wall that opens or closes; judged after as long a look at the new board as at the old one."""
    return revaluation.run(
        policy, material.make_first_step_env, material.changes, steps_before=budget.judged_steps,
        steps_after=(budget.judged_steps, 0, 1, 2, 4), min_effect=REVALUATION.value, seed=budget.seed,
    )  # fmt: skip


def read_plan(
    opened: OpenedPolicy,
    material: Material,
    budget: Budget,
    *,
    random_policies: list[Policy],
    twin: Policy | None,
    clone: Policy | None = None,
    on_progress: ProgressCallback | None = None,
) -> tuple[Evidence, PlanDirections]:
    """D4 on hidden states and, where the net has them, cells; and the directions that its read-out gives to D7."""
    table = probe_table(
        opened, material.make_env, material.probe_levels, PLAN_CONCEPT, sites=_sites(opened), kernels=budget.kernels,
        random_policies=random_policies, twin=twin, clone=clone, planner=material.planner,
        geometry=material.geometry, per_level=budget.states_per_level,
        seed=budget.seed, on_progress=on_progress and (lambda share, text: on_progress(share, f"D4 {text}")),
    )  # fmt: skip
    return decodable_plan.judge_table(table, min_effect=DECODABLE_PLAN.value), choose_directions(table)


def choose_directions(table: ProbeTable) -> PlanDirections:
    """Where and how to write a plan: the layer whose one-square read-out did best on the valid levels.

    Cells, where they were probed: what is added to a cell lasts until the gates let go of it, what is added to a hidden
    state is computed anew in the next tick. The site is that layer at every tick.
    """
    rows = [row for row in table.rows if row["labels"] == "behaviour" and row["kernel"] == 1]
    cells = [row for row in rows if str(row["site"]).endswith("hook_c")]
    best = max(cells or rows, key=lambda row: row["valid_macro_f1"] or 0.0)
    probe = table.probe(best)
    return probe_directions(probe.weights, probe.biases, site=_at_every_tick(str(best["site"])), convention=CONVENTION)


def follow_ticks(
    opened: OpenedPolicy,
    directions: PlanDirections,
    material: Material,
    budget: Budget,
    *,
    random_policies: list[Policy],
) -> list[Evidence]:
    """D5 and D6, at every tick of the site that D4 chose, on the frozen first observation of hard levels.

    Whether ways take turns (D6) is counted where there are four or more of them, and where there was time for it.
    """
    levels = material.hard_levels[: budget.num_tick_levels]
    others = {f"random_weights_{number}": open_policy(policy) for number, policy in enumerate(random_policies)}
    thinking = record_thinking(
        opened, material.make_env, levels, PLAN_CONCEPT, directions.site, thinking_steps=budget.judged_steps,
        others=others,
    )  # fmt: skip
    reads = read_ticks(thinking, seed=budget.seed)
    ways = None
    if (wide := material.wide_ladder) is not None:
        num_ticks = len(select_sites(opened, directions.site))
        by_rung = torch.arange(len(wide)).view(len(CANDIDATES), -1)
        # the same rows of each rung but that of fewest candidates, far apart, so that they are of many layouts
        spread = torch.linspace(0, by_rung.shape[1] - 1, budget.num_layouts).round().to(torch.int64).unique()
        several = by_rung[1:, spread].flatten()
        thinking = record_thinking(
            opened, material.make_env, wide.levels[several], PLAN_CONCEPT, directions.site,
            thinking_steps=max(budget.judged_steps, math.ceil(budget.num_turn_ticks / num_ticks)), others={},
        )  # fmt: skip
        ways = read_ticks(thinking, groups=wide.layout_ids[several], seed=budget.seed)
    options = {"recurrent": bool(opened.initial_state(1, (levels.height, levels.width))), "seed": budget.seed}
    return [
        plan_refinement.run(reads, min_effect=PLAN_REFINEMENT.value, **options),
        decoding_order.run(reads, min_effect=DECODING_ORDER.value, ways=ways, **options),
    ]


def erase_plan(
    opened: OpenedPolicy,
    material: Material,
    budget: Budget,
    plan: Evidence,
    *,
    on_progress: ProgressCallback | None = None,
) -> Evidence | None:
    """D9, at the memory of the last tick of each step, which is what the policy reads and the next step goes on with.

    By first moves after thinking; where none are known by solving, if the budget has room for it, else None. Asked only
    where a plan was read (D4): what is erased elsewhere is whatever the labels go with, such as the goal's square,
    and missing that is no need of a plan.
    """
    first_moves = material.first_moves
    if plan.outcome != "supported" or (first_moves is None and not budget.erase_episodes):
        return None
    steps = 0 if first_moves is None else budget.judged_steps
    erasure = fit_erasure(
        opened, material.make_env, material.probe_levels, concept_target(PLAN_CONCEPT), sites=_last_tick(opened),
        sweeps=1, per_level=budget.states_per_level, seed=budget.seed, thinking_steps=steps,
    )  # fmt: skip
    number = budget.num_erased_levels
    if first_moves is not None and material.first_move_levels is not None:
        trial = Trial(
            material.make_first_step_env, material.first_move_levels[:number], first_moves[:number],
            thinking_steps=steps, max_steps=1,
        )  # fmt: skip
        measure = "first_move_thought"
    else:
        trial, measure = Trial(material.make_env, material.levels[:number]), "solved"
    return necessity.run(
        opened, trial, erasure, min_effect=NECESSITY.value, measure=measure, num_random=budget.num_erased_draws,
        seed=budget.seed, on_progress=on_progress and (lambda share: on_progress(share, "D9 necessity")),
    )  # fmt: skip


def steer_plan(
    opened: OpenedPolicy,
    directions: PlanDirections,
    material: Material,
    budget: Budget,
    *,
    on_progress: ProgressCallback | None = None,
) -> Evidence:
    """D7, judged on the arm 'both', once the agent has thought for as long as D1 judges it by.

    The concept that is no plan: on which side of a square a wall stands.
    """
    make_env = material.make_env
    battery = plan_steering.Battery(
        num_random=budget.num_random, num_random_choice=budget.num_random_choice, num_wrong=budget.num_wrong,
        num_shuffles=budget.num_shuffles,
    )  # fmt: skip
    if on_progress:
        expected = plan_steering.count_environments(len(material.routes.levels), len(budget.alphas), battery)
        make_env = count_batches(make_env, expected, lambda share: on_progress(share, "D7 plan steering"))
    walls = wall_directions(opened, material.make_env, material.probe_levels, site=directions.site)
    evidence = plan_steering.run(
        opened, make_env, material.routes, directions, min_effect=PLAN_STEERING.value, alphas=budget.alphas,
        battery=battery, other_concept=walls, settle_steps=budget.judged_steps, seed=budget.seed,
    )  # fmt: skip
    return replace(evidence, notes=[f"Written at {directions.site}.", *evidence.notes])


def between(low: float, high: float, tell: ProgressCallback) -> ProgressCallback:
    """Report a stage's share as that of the whole, of which the stage is the part from `low` to `high`."""
    return lambda share, text: tell(low + (high - low) * share, text)


def count_batches(make_env: EnvMaker, expected: int, tell: Callable[[float], None]) -> EnvMaker:
    """The same environments; each one made tells the share of the `expected` number."""
    made = 0

    def make(levels: LevelSet, num_boards: int) -> Env:
        nonlocal made
        made += 1
        tell(min(made / expected, 1.0))
        return make_env(levels, num_boards)

    return make


def _sites(opened: OpenedPolicy) -> list[str]:
    has_cells = any(site.startswith("ticks.") and site.endswith("hook_c") for site in opened.sites())
    return [HIDDEN, CELLS] if has_cells else [HIDDEN]


def _last_tick(opened: OpenedPolicy) -> list[str]:
    """Cells and hidden states of every layer at the last tick of a step."""
    sites = [site for site in opened.sites() if site.startswith("ticks.") and site.endswith(("hook_c", "hook_h"))]
    last = max(int(site.split(".")[1]) for site in sites)
    return [site for site in sites if int(site.split(".")[1]) == last]


def _at_every_tick(site: str) -> str:
    ticks, _, layer, hook = site.split(".")
    return f"{ticks}.*.{layer}.{hook}"


def _without(rows: list[Row], measure: str) -> list[Row]:
    """Rows less the columns of a measure: those of an episode cut after one step say nothing about solving."""
    other = "solved" if measure == "first_move" else "first_move"
    return [
        {"measure": other, **{key: value for key, value in row.items() if not key.startswith(f"{measure}_")}}
        for row in rows
    ]
