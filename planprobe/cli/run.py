"""`planprobe run`: one experiment, its tables, its figures, and what they show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from planprobe.cli.arguments import AsJson, Threads, check_folder, open_agent, optional, parse, use_threads
from planprobe.cli.output import print_table, progress, say, show, with_interval
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.experiments.record import Findings

RESULTS = Path("results") / "experiments"
SHOWN_ROWS = 40  # longer tables are written, and not printed


@dataclass(frozen=True)
class Run:
    """Run an experiment by name; without a name, list what there is and what each asks.

    Some play agents of the zoo, or yours; some train small nets of their own. Results: findings.json and findings.md,
    tables as parquet, figures.

    Examples:
      planprobe run
      planprobe run adaptation --agents gru128-rl2-goal5-s0 gru128-rl2-goal5-s1
      planprobe run ingredients --budget full --out results/ingredients
    """

    name: Annotated[Positional[str | None], arg(metavar="NAME", help_behavior_hint="(default: list them)")] = None
    """adaptation, ingredients, one-maze, environment-memory, ..."""
    agents: Annotated[tuple[str, ...], optional("AGENT ...", "those that the experiment names")] = ()
    """Names in the zoo, folders, training runs, or package.module:factory."""
    out: Annotated[Path | None, optional("FOLDER", "results/experiments/NAME")] = None
    """Where the results go."""
    budget: Literal["smoke", "quick", "full"] = "quick"
    """How much: smoke shows that it runs, quick takes minutes on one core, full is what a claim should rest on."""
    seed: int = 0
    """Of every draw."""
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, run, write, print."""
    options = parse(Run, arguments, verb="run")
    if options.name is None:
        return _list(options)
    from planprobe.experiments.catalog import get_entry

    get_entry(options.name)
    out = options.out or RESULTS / options.name
    check_folder(out)
    use_threads(options.threads)
    findings = _run(options.name, options)
    from planprobe.experiments.writing import write_findings

    record = write_findings(out, findings)
    if options.json:
        _show_json(record)
    else:
        _print(findings, out)
    return 0


def _run(name: str, options: Run) -> Findings:
    from planprobe.experiments.catalog import run_experiment

    agents = [open_agent(spec) for spec in options.agents] or None
    with progress(name) as on_progress:
        return run_experiment(
            name, agents, budget=options.budget, seed=options.seed,
            progress=lambda share, text: on_progress(share, 1, text),
        )  # fmt: skip


def _list(options: Run) -> int:
    from planprobe.experiments.catalog import EXPERIMENTS

    rows: list[Row] = [
        {
            "experiment": name,
            "asks": entry.question,
            "of": "nets that it trains" if entry.trains else ", ".join(entry.agents) or "nets that it trains, or yours",
        }
        for name, entry in EXPERIMENTS.items()
    ]
    show(rows, rows, as_json=options.json)
    return 0


def _show_json(record: Path) -> None:
    import json

    show({"folder": str(record.parent), **json.loads(record.read_text())}, [], as_json=True)


def _print(findings: Findings, out: Path) -> None:
    from planprobe.experiments.writing import TEXT_FILE

    for name, rows in findings.tables.items():
        if len(rows) <= SHOWN_ROWS:
            print_table(map(with_interval, rows), title=name)
        else:
            say(f"Table '{name}' has {len(rows)} rows: in the folder.")
    print("".join(f"- {note}\n" for note in findings.notes))
    say(f"Tables, figures and text: {out / TEXT_FILE}")
