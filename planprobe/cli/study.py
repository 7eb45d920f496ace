"""`planprobe study`: does this agent plan inside?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from planprobe.cli.arguments import (
    AgentSpec,
    ArgumentError,
    AsJson,
    TaskName,
    Threads,
    check_folder,
    open_agent,
    optional,
    parse,
    use_threads,
)
from planprobe.cli.output import effect_text, print_table, progress, say, show
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.core.records import Evidence, Verdict
    from planprobe.subjects.agent import Agent

RESULTS = Path("results")


@dataclass(frozen=True)
class Study:
    """The whole battery on one agent: verdict, evidence with controls, figures, and one HTML report.

    D1 thinking gain, D2 distance law, D3 candidate law, D4 decodable plan, D5 plan refinement, D6 order of decoding, D7
    plan steering, D9 necessity, D10 revaluation, judged by rules fixed beforehand. An agent that plays trials:
    whether it adapts (D11), how (D8, D10), by which belief (D12) and by which choices (D13, D14), as its task allows.

    Examples:
      planprobe study drc12-rl-maze11-s0
      planprobe study runs/mine --out results/mine --budget full
      planprobe study my_agent:make --task maze9 --budget smoke --json
    """

    agent: AgentSpec
    out: Annotated[Path | None, optional("FOLDER", "results/NAME")] = None
    """Where verdict, evidence, figures and report go."""
    budget: Literal["smoke", "quick", "full"] = "quick"
    """How many levels and control draws: smoke shows that it runs, quick takes minutes, full gives every control."""
    twin: Annotated[str | None, optional("AGENT", "the zoo's memoryless agent of this task, if any")] = None
    """A memoryless agent trained on the same task, a control of D4; 'none' for none."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, study, print the verdict."""
    options = parse(Study, arguments, verb="study")
    use_threads(options.threads)
    agent = open_agent(options.agent, task=options.task)
    out = options.out or RESULTS / agent.name.replace(":", ".")
    check_folder(out)
    verdict = _study(agent, _find_twin(agent, options.twin), out, options)
    if options.json:
        show(_plain(verdict, out), [], as_json=True)
    else:
        _print(verdict, out)
    return 0


def _study(agent: Agent, twin: Agent | None, out: Path, options: Study) -> Verdict:
    from planprobe.verdict.budgets import get_budget
    from planprobe.verdict.study import study
    from planprobe.verdict.trial_study import study_trials

    with progress(f"studying {agent.name}") as on_progress:
        if agent.recipe.plays_trials:
            return study_trials(
                agent, out=out, budget=get_budget(options.budget),
                progress=lambda share, text: on_progress(share, 1, text),
            )  # fmt: skip
        return study(
            agent, out=out, budget=get_budget(options.budget), twin=twin,
            progress=lambda share, text: on_progress(share, 1, text),
        )  # fmt: skip


def _find_twin(agent: Agent, spec: str | None) -> Agent | None:
    from planprobe.subjects.zoo import find_twin

    if agent.recipe.plays_trials and spec not in (None, "none"):
        raise ArgumentError(f"--twin {spec}: {agent.name} plays trials, whose battery asks for no twin.")
    if agent.recipe.plays_trials or spec == "none":
        return None
    found = spec or find_twin(agent)
    return open_agent(found) if found else None


def _plain(verdict: Verdict, out: Path) -> dict:
    """The verdict as verdict.json holds it: tables of rows stay in the folder."""
    import json

    from planprobe.verdict.results import VERDICT_FILE

    return {"folder": str(out), **json.loads((out / VERDICT_FILE).read_text())}


def _print(verdict: Verdict, out: Path) -> None:
    from planprobe.verdict.judge import headline
    from planprobe.verdict.report import REPORT_FILE

    print(f"{headline(verdict)}\n")
    print_table(_short(item) for item in verdict.evidence)
    for title, lines in (("Because", verdict.reasons), ("Missing", verdict.missing)):
        if lines:
            print(f"{title}:")
            print("".join(f"  - {line}\n" for line in lines))
    if verdict.selection:
        print(f"Selection or control? {verdict.selection}\n")
    print_table({**row, "stands": "stands" if row["stands"] else "ruled out"} for row in verdict.accounts)
    say(f"Report: {out / REPORT_FILE}")


def _short(item: Evidence) -> Row:
    return {
        "detector": f"{item.detector} {item.name.replace('_', ' ')}", "effect": effect_text(item.effect),
        "unit": item.effect.unit, "beyond controls": effect_text(item.beyond_controls), "power": item.power,
        "outcome": item.outcome,
    }  # fmt: skip
