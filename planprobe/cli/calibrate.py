"""`planprobe calibrate`: how often would the verdict be wrong?"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from planprobe.cli.arguments import AsJson, check_folder, check_least, optional, parse, split_task
from planprobe.cli.output import print_table, progress, say, show
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.core.records import Effect
    from planprobe.verdict.rates import Rates

OUT = Path("results/calibration")
WRONG, RIGHT = "wrongly positive", "rightly positive"


@dataclass(frozen=True)
class Calibrate:
    """Run the whole battery on organisms, agents whose answer is known by construction, and count the errors.

    Each organism takes as long as a study of it. What was judged before, by this version and budget, is kept, so a
    calibration can be stopped and goes on.

    Examples:
      planprobe calibrate
      planprobe calibrate --tasks maze9 --seeds 525 526 --families wavefront reflex --workers 2 --json
    """

    tasks: tuple[str, ...] = ("maze9",)
    """Tasks to make organisms for: maze9, maze11, sokoban7, or with trials: hidden-goal5, doors4, maze-trial7."""
    families: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: all that the task has)")] = ()
    """Some families only: wavefront, reflex, table, bystander, ..."""
    seeds: tuple[int, ...] = (520, 521, 522, 523, 524)
    """One organism a seed, family and task. By default those of the rates that studies of boards rest on."""
    budget: Literal["smoke", "quick", "full"] = "quick"
    """As of a study; rates hold for the budget that they were measured with."""
    out: Annotated[Path, optional("FOLDER", str(OUT))] = OUT
    """Where one file a case, the rates and the figure go."""
    workers: int = 1
    """Cases judged side by side, one process and thread each."""
    json: AsJson = False


def run(arguments: list[str]) -> int:
    """Parse, calibrate, print the rates."""
    options = parse(Calibrate, arguments, verb="calibrate")
    check_folder(options.out)
    check_least(options, workers=1)
    rates = _calibrate(options)
    rows = rate_rows(rates)
    if options.json:
        from dataclasses import asdict

        show({"folder": str(options.out), **asdict(rates)}, [], as_json=True)
    else:
        print_table(rows, title=f"calibration, {rates.budget} budget")
    say(f"Cases, rates and figure: {options.out}")
    return 0


def _calibrate(options: Calibrate) -> Rates:
    from planprobe.verdict.calibrate import battery, calibrate, calibration_cases, case_rows, rates_file
    from planprobe.verdict.figures import save_figure
    from planprobe.verdict.figures.calibration import calibration

    cases = calibration_cases(
        tasks=[split_task(task) for task in options.tasks], seeds=options.seeds, families=_check(options.families)
    )
    # workers are started afresh: a forked torch deadlocks where its parent has used threads
    with progress("calibrating") as on_progress, _pool(options.workers) as pool:
        rates = calibrate(cases, options.out, budget=options.budget, executor=pool, on_progress=on_progress)
    kinds = battery(cases[0].task)
    rows = case_rows(options.out, budget=options.budget, kinds=kinds)
    save_figure(calibration(rows), options.out / "figures" / rates_file(kinds).name)
    return rates


def _pool(workers: int) -> ProcessPoolExecutor:
    import multiprocessing

    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    from planprobe.cli.arguments import use_threads

    use_threads(1)


def _check(families: tuple[str, ...]) -> tuple[str, ...]:
    from planprobe.core.errors import UnknownAgentError, unknown_name
    from planprobe.subjects.organisms import FAMILIES, TRAINED

    for family in families:
        if family not in FAMILIES | TRAINED:
            raise unknown_name("organism", family, FAMILIES | TRAINED, error=UnknownAgentError)
    return families


def rate_rows(rates: Rates) -> list[Row]:
    """One row a detector, then the verdict as a whole."""
    rows: list[Row] = [
        {"what": name, WRONG: _text(each.false_positives), RIGHT: _text(each.true_positives)}
        for name, each in rates.detectors.items()
    ]
    rows.append({"what": "reading is right", RIGHT: _text(rates.verdict_right)})
    rows.append({"what": "of those beyond 'cannot say'", RIGHT: _text(rates.given_right)})
    rows.append({"what": "non-planners called 'plans'", WRONG: _text(rates.called_planner)})
    rows.append({"what": "planners said not to plan", WRONG: _text(rates.planner_denied)})
    rows.append({"what": "type is right", RIGHT: _text(rates.type_right)})
    rows.append({"what": "true account ruled out", WRONG: _text(rates.account_denied)})
    return rows


def _text(rate: Effect | None) -> str:
    if rate is None:
        return "not measured"
    return f"{round(rate.value * rate.n)} of {rate.n}  [{rate.low:.2f}, {rate.high:.2f}]"
