"""Calibration: the whole battery on agents whose answer is known, so that a verdict comes with its error rates.

Each organism is measured exactly as a trained agent is, by the same stages, budget and rules. What a detector claims is
true of some families and false of others, by construction; on a few it is silent, and those do not count. Each case is
a file of its own, so a calibration that was stopped goes on where it was.

There are two batteries, one for boards and one for tasks with trials, and a calibration is of one of them. That for
trials asks neither D1 nor D7, so it never says of anybody that it plans, or that it does not, and 'cannot say' of most:
there the detectors' own rates are what counts, how often what more it says is right, and how often a planner is said to
adapt without planning.

Seeds that were looked at while detectors and thresholds were made: 0 to 2, 100, 101, 200, 201, 300 to 304, 400 to 402,
and, before the battery for boards became what it is, 500 to 504. No rate is reported on them. A family that was trained
counts with every seed of which there are weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.records import Effect, Outcome, Row
from planprobe.core.store import write_json
from planprobe.instruments.statistics.proportions import proportion
from planprobe.subjects.agent import Agent
from planprobe.subjects.organisms import FAMILIES, TRAINED, make_organism
from planprobe.subjects.organisms.families import (
    ADAPTS,
    BOARDS,
    DOES_NOT_PLAN,
    PLANS,
    TASK_KINDS,
    TRIALS,
    UNUSED,
    named_task,
    task_size,
)
from planprobe.subjects.organisms.trained import trained_seeds
from planprobe.subjects.recipe import Recipe
from planprobe.verdict.accounts import weigh_accounts
from planprobe.verdict.budgets import get_budget
from planprobe.verdict.criteria import MIN_SOLVE_RATE
from planprobe.verdict.judge import settled_outcome
from planprobe.verdict.rates import (
    BOARD_BATTERY,
    RATES_FILE,
    TRIAL_BATTERY,
    TRIAL_RATES_FILE,
    DetectorRates,
    Rates,
    battery_version,
    save_rates,
)
from planprobe.verdict.results import finite
from planprobe.verdict.study import take_evidence
from planprobe.verdict.trial_study import take_trial_evidence
from planprobe.verdict.truths import ACCOUNT_OF, TRUE_OF, TRUE_OF_TRIALS, claim_holds

CASES_FOLDER = "cases"
DENIALS = (ADAPTS, DOES_NOT_PLAN, UNUSED)  # readings that say of an agent that it does not plan


@dataclass(frozen=True)
class Case:
    """One organism to be judged."""

    family: str
    task: str
    size: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.family}-{self.task}{self.size}-s{self.seed}"


@dataclass(frozen=True)
class JudgedCase:
    """What the battery said of one organism, beside the truth. rows: one a detector."""

    case: Case
    answer: str
    kind: str
    reading: str
    planning_type: str
    solve_rate: float
    seconds: float
    rows: list[Row]


def calibration_cases(
    *,
    tasks: Sequence[tuple[str, int]] = (("maze", 9),),
    seeds: Iterable[int] = range(5),
    families: Iterable[str] = (),
) -> list[Case]:
    """Every family that exists for a task, with every seed.

    Raises: RecipeError (a task that has no organisms, tasks of both batteries, or no organism at all).
    """
    for kind, _ in tasks:
        if kind not in TASK_KINDS:
            raise unknown_name("task", kind, TASK_KINDS, where="a calibration", error=RecipeError)
    _check_one_battery(kind for kind, _ in tasks)
    wanted = tuple(families) or (*FAMILIES, *TRAINED)
    cases = [
        Case(family, kind, task_size(named_task(kind, size)), seed)
        for kind, size in tasks
        for family in wanted
        for seed in _seeds_of(family, kind, size, seeds)
    ]
    if not cases:
        raise RecipeError(
            f"no organism of {', '.join(wanted)} for {', '.join(kind for kind, _ in tasks) or 'no task'}: "
            "nothing to judge."
        )
    return cases


def _seeds_of(family: str, kind: str, size: int, seeds: Iterable[int]) -> Iterable[int]:
    """Those asked for, of a family that is built for the task; all that there are of one that was trained on it."""
    if family in TRAINED:
        return trained_seeds(family, kind, task_size(named_task(kind, size)))
    return seeds if kind in FAMILIES[family].tasks else ()


def judge_case(case: Case, budget: str) -> JudgedCase:
    """Run the battery on one organism."""
    organism = make_organism(case.family, named_task(case.task, case.size), case.seed)
    built = Agent(case.name, organism.policy, Recipe(name=case.name, task=organism.task))
    agent = replace(organism.agent, name=case.name) if organism.agent else built
    take = take_evidence if case.task in BOARDS else take_trial_evidence
    verdict = take(agent, get_budget(budget)).verdict
    rows: list[Row] = [
        {
            "detector": item.detector, "outcome": item.outcome, "effect": item.effect.value,
            "beyond": item.beyond_controls.value, "low": item.beyond_controls.low, "high": item.beyond_controls.high,
            "power": item.power,
        }
        for item in verdict.evidence
    ]  # fmt: skip
    run = verdict.provenance["run"]
    return JudgedCase(
        case, organism.answer, organism.kind, verdict.reading, verdict.planning_type, run["solve_rate"],
        run["seconds"], rows,
    )  # fmt: skip


def calibrate(
    cases: Sequence[Case],
    out: str | Path,
    *,
    budget: str = "quick",
    executor: Executor | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Rates:
    """Judge every case that has not been judged yet, and write the rates to a file in `out`, named as `rates` reads it.

    A calibration adds up: the rates are of all cases in the folder that are of this version, budget and battery.

    Args: executor: any; cases are independent, and each writes its own file. None judges them one after another.
    on_progress(done, total, name of the case).
    Raises: RecipeError (no case, or cases of both batteries).
    """
    if not cases:
        raise RecipeError(
            "a calibration of no organism: nothing to judge.\n  Next: calibration_cases() lists them all."
        )
    _check_one_battery(case.task for case in cases)
    folder = Path(out) / CASES_FOLDER
    waiting = [case for case in cases if not _is_done(folder, case, budget)]
    tell = on_progress or (lambda done, total, text: None)
    done = len(cases) - len(waiting)
    tell(done, len(cases), "judged before")
    if executor is None:
        finished: Iterable[str] = (_judge_and_save(case, budget, folder) for case in waiting)
    else:
        futures = [executor.submit(_judge_and_save, case, budget, folder) for case in waiting]
        finished = (future.result() for future in as_completed(futures))
    for name in finished:
        done += 1
        tell(done, len(cases), name)
    kinds = battery(cases[0].task)
    rates = find_rates([each for each in _load_cases(folder, budget) if each.case.task in kinds], budget)
    save_rates(Path(out) / rates_file(kinds).name, rates)
    return rates


def battery(kind: str) -> tuple[str, ...]:
    """All kinds of task that are judged by the battery that judges this one."""
    return BOARDS if kind in BOARDS else TRIALS


def _check_one_battery(kinds: Iterable[str]) -> None:
    named = list(dict.fromkeys(kinds))
    if len({battery(kind) for kind in named}) > 1:
        raise RecipeError(
            f"{', '.join(named)}: boards and trials have a battery each, with rates of its own.\n"
            "  Next: calibrate the ones, then the others; both may go to the same folder."
        )


def rates_file(kinds: tuple[str, ...]) -> Path:
    """Where studies look for the rates of a battery, given by the kinds of task that it judges."""
    return RATES_FILE if kinds == BOARDS else TRIAL_RATES_FILE


def find_rates(judged: Sequence[JudgedCase], budget: str) -> Rates:
    """Rates with Wilson's intervals over organisms of one battery."""
    on_trials = any(each.case.task in TRIALS for each in judged)
    detectors = {name: _detector_rates(name, judged) for name in (TRUE_OF_TRIALS if on_trials else TRUE_OF)}
    said_plans = [each for each in judged if each.answer == PLANS and each.reading == PLANS and _has_type(each)]
    return Rates(
        version=TRIAL_BATTERY if on_trials else BOARD_BATTERY,
        budget=budget,
        tasks=tuple(sorted({each.case.task for each in judged})),
        detectors=detectors,
        verdict_right=_share(is_right(each) for each in judged),
        given_right=_share(is_right(each) for each in judged if each.reading != "cannot say"),
        called_planner=_share(each.reading == PLANS for each in judged if each.answer != PLANS),
        planner_denied=_share(each.reading in DENIALS for each in judged if each.answer == PLANS),
        type_right=_share(each.kind == each.planning_type for each in said_plans),
        account_denied=_share(not own_account_stands(each) for each in judged if each.case.family in ACCOUNT_OF),
    )


def _has_type(judged: JudgedCase) -> bool:
    """Whether the task has a ladder of candidates: without D3 no type is ever named."""
    return any(row["detector"] == "D3" for row in judged.rows)


def own_account_stands(judged: JudgedCase) -> bool:
    """Whether the account that is true of an organism was left standing."""
    found: dict[str, Outcome] = {}
    for row in judged.rows:
        low, power = (math.nan if row[key] is None else row[key] for key in ("low", "power"))
        found[row["detector"]] = settled_outcome(row["outcome"], low, power, judged.solve_rate)
    rows = weigh_accounts(found, in_trials=judged.case.task in TRIALS)
    return next(row["stands"] for row in rows if row["account"].startswith(ACCOUNT_OF[judged.case.family]))


def is_right(judged: JudgedCase) -> bool:
    """Whether the reading is the answer. Of one that has not learnt its task nothing negative may be said, so there
    'cannot say' is right where the answer is no."""
    if judged.reading == judged.answer:
        return True
    failed = judged.solve_rate < MIN_SOLVE_RATE.value
    return failed and judged.answer != PLANS and judged.reading == "cannot say"


def case_rows(folder: str | Path, *, budget: str, kinds: Sequence[str] = TASK_KINDS) -> list[Row]:
    """One row a judged organism and detector, of the cases that the rates are of: what table and figure are made of.

    kinds: of task that count.
    """
    rows: list[Row] = []
    for each in _load_cases(Path(folder) / CASES_FOLDER, budget):
        if each.case.task not in kinds:
            continue
        known = {"organism": each.case.name, "family": each.case.family, "answer": each.answer, "reading": each.reading}
        rows += [
            known | {"claim_holds": claim_holds(str(row["detector"]), each.case.family, each.case.task)} | row
            for row in each.rows
        ]
    return rows


def _detector_rates(detector: str, judged: Sequence[JudgedCase]) -> DetectorRates:
    said = [
        (claim_holds(detector, each.case.family, each.case.task), row["outcome"] == "supported")
        for each in judged
        for row in each.rows
        if row["detector"] == detector
    ]
    return DetectorRates(
        detector,
        false_positives=_share(positive for holds, positive in said if holds is False),
        true_positives=_share(positive for holds, positive in said if holds is True),
    )


def _share(outcomes: Iterable[bool]) -> Effect | None:
    values = np.array(list(outcomes), dtype=bool)
    return proportion(values, unit="fraction of organisms") if len(values) else None


def _judge_and_save(case: Case, budget: str, folder: Path) -> str:
    judged = judge_case(case, budget)
    write_json(folder / f"{case.name}.json", finite({"key": _key(case, budget), **asdict(judged)}))
    return case.name


def _key(case: Case, budget: str) -> dict[str, Any]:
    return {"version": battery_version(case.task), "budget": asdict(get_budget(budget)), "case": asdict(case)}


def _is_done(folder: Path, case: Case, budget: str) -> bool:
    """A case counts as judged where its file is whole, of this version, and of the same budget."""
    try:
        document = json.loads((folder / f"{case.name}.json").read_text())
    except (OSError, ValueError):
        return False
    return document.get("key") == json.loads(json.dumps(_key(case, budget)))


def _load_cases(folder: Path, budget: str) -> list[JudgedCase]:
    """All that were judged with this version and budget, by name."""
    judged = [_read_case(json.loads(path.read_text())) for path in sorted(folder.glob("*.json")) if _is_whole(path)]
    return [each for each in judged if _is_done(folder, each.case, budget)]


def _is_whole(path: Path) -> bool:
    try:
        return "case" in json.loads(path.read_text())
    except (OSError, ValueError):
        return False


def _read_case(document: dict[str, Any]) -> JudgedCase:
    values = {key: value for key, value in document.items() if key != "key"}
    values["case"] = Case(**values["case"])
    return JudgedCase(**values)
