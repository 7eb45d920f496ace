"""One call from an agent to plan steering: directions fitted on its own task, levels with two ways, every control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from planprobe.core.errors import RecipeError, UnknownSiteError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.records import Evidence
from planprobe.instruments.concepts.catalog import get_concept
from planprobe.instruments.detectors import plan_steering
from planprobe.instruments.detectors.plan_steering import Battery
from planprobe.instruments.hooks import OpenedPolicy, open_policy, select_sites
from planprobe.instruments.probes.bench import AGENT
from planprobe.instruments.probes.linear_probes import fit_probe
from planprobe.instruments.probes.recording import Watch, record_states
from planprobe.instruments.probes.splits import split_by_level
from planprobe.instruments.probes.square_rows import gather_windows, list_rows
from planprobe.instruments.steering.directions import (
    PlanDirections,
    mean_difference_directions,
    probe_directions,
    wall_directions,
)
from planprobe.instruments.steering.route_edits import Convention
from planprobe.instruments.steering.steering import SteeringPlan
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.stimuli import TwoRouteLevels
from planprobe.verdict.budgets import Budget
from planprobe.verdict.criteria import PLAN_STEERING
from planprobe.verdict.material import two_route_levels
from planprobe.verdict.stages import count_batches

Method = Literal["probe", "mean-difference"]
METHODS = ("probe", "mean-difference")
FIT_SPLIT = "valid"  # directions are fitted on other layouts than those that are steered on
CELLS, HIDDEN = "ticks.*.{-1}.hook_c", "ticks.*.{-1}.hook_h"
CONCEPT: dict[Convention, str] = {"entry": "agent-approach-direction", "exit": "agent-exit-direction"}
_FITTED = 0.1  # of the work


@dataclass(frozen=True)
class SteerTable:
    """Results of `steer_table`.

    evidence: of D7, its rows one an arm x source x strength on one half of the levels. directions: what was written.
    read_out: macro-F1 of the read-out behind them on held-out levels, or None where directions are mean differences.
    """

    agent: str
    evidence: Evidence
    directions: PlanDirections
    read_out: float | None
    routes: TwoRouteLevels
    fit_levels: LevelSet

    def level_sets(self) -> dict[str, LevelSet]:
        """By the part they play, for provenance."""
        return {"steered": self.routes.levels, "fitted": self.fit_levels}


def steer_table(
    agent: Agent,
    *,
    site: str | None = None,
    method: Method = "probe",
    convention: Convention = "entry",
    arm: str = "both",
    alphas: Sequence[float] = (0.5, 1, 2, 4, 8),
    plan: SteeringPlan | None = None,
    settle_steps: int = Budget.judged_steps,
    battery: Battery | None = None,
    min_effect: float = PLAN_STEERING.value,
    num_levels: int = 80,
    num_fit_levels: int = 150,
    per_level: int = 4,
    seed: int = 0,
    on_progress: Callable[[float, str], None] | None = None,
) -> SteerTable:
    """Steer an agent on two-route levels of its own task, beside every control.

    Args:
        site: pattern of the sites to write at, one layer's at every tick; by default the cells of the last layer where
            the net has cells, else its hidden states. Directions are fitted at the last of them.
        method: directions of a linear read-out, or mean differences of the classes.
        convention: a square's class is the move that enters it, or that leaves it.
        arm, alphas, plan, settle_steps, battery, min_effect: see `plan_steering.run`.
        num_levels: with two ways, half of them to choose strengths on. num_fit_levels, per_level: of the split 'valid'.
    Raises: RecipeError (method); UnknownSiteError; AddressError (arm); TooFewLevelsError; DirectionError.
    """
    if method not in METHODS:
        raise RecipeError(f"there is no method '{method}' of finding directions. Choose {' or '.join(METHODS)}.")
    report, battery = on_progress or (lambda share, text: None), battery or Battery()
    opened = open_policy(agent.net, name=agent.name)
    site = site or default_site(opened)
    select_sites(opened, site)
    report(0.0, "fitting directions")
    fit_levels = agent.levels(FIT_SPLIT, num_fit_levels)
    directions, read_out = fit_directions(
        opened, agent.make_env, fit_levels, site, method=method, convention=convention, per_level=per_level, seed=seed
    )
    routes = two_route_levels(agent.task, fit_levels.height, num_levels)
    expected = plan_steering.count_environments(num_levels, len(alphas), battery)
    make_env = count_batches(
        agent.make_env, expected, lambda share: report(_FITTED + (1 - _FITTED) * share, "steering")
    )
    evidence = plan_steering.run(
        opened, make_env, routes, directions, min_effect=min_effect, alphas=alphas, arm=arm, plan=plan, battery=battery,
        other_concept=wall_directions(opened, agent.make_env, fit_levels, site=site), settle_steps=settle_steps,
        seed=seed,
    )  # fmt: skip
    report(1.0, "done")
    return SteerTable(agent.name, evidence, directions, read_out, routes, fit_levels)


def default_site(opened: OpenedPolicy) -> str:
    """Cells of the last layer at every tick, since what is added to them lasts; hidden states where there are none."""
    try:
        select_sites(opened, CELLS)
    except UnknownSiteError:
        return HIDDEN
    return CELLS


def fit_directions(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    site: str,
    *,
    method: Method = "probe",
    convention: Convention = "entry",
    per_level: int = 4,
    seed: int = 0,
) -> tuple[PlanDirections, float | None]:
    """Directions of the agent's own plan at the last of the sites, and macro-F1 of the read-out on held-out levels.

    Raises: ShapeError (no squares there, or a class that never occurs); TooFewLevelsError (under 10).
    """
    last, concept = select_sites(opened, site)[-1], get_concept(CONCEPT[convention])
    watch = Watch([concept], {AGENT: (opened, last)}, {}, history=1)
    recording = record_states(opened, make_env, levels, watch, per_level=per_level, seed=seed)
    rows = list_rows(recording.floor, recording.level_ids)
    labels = rows.take(recording.labels[concept.name]["behaviour"].values)
    values = gather_windows(recording.activations[AGENT][last], rows, 1)
    if method == "mean-difference":
        return mean_difference_directions(values, labels, site=site, convention=convention), None
    split = split_by_level(rows.level_ids, seed=seed)
    probe = fit_probe(values, labels, level_ids=rows.level_ids, split=split, num_classes=len(concept.class_names))
    return probe_directions(probe.weights, probe.biases, site=site, convention=convention), probe.test_score
