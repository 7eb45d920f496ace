"""`planprobe agents`: the zoo."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from planprobe.cli.arguments import (
    AgentSpec,
    ArgumentError,
    AsJson,
    Flag,
    Threads,
    open_agent,
    optional,
    parse_one_of,
    use_threads,
)  # fmt: skip
from planprobe.cli.output import print_table, progress, say, show, with_interval
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent


@dataclass(frozen=True)
class List:
    """What is in the zoo, with task, net and headline numbers.

    Examples:
      planprobe agents list
      planprobe agents list --json
    """

    json: AsJson = False


@dataclass(frozen=True)
class Show:
    """One agent: recipe, scorecard, and its sites with their shapes.

    Examples:
      planprobe agents show drc12-rl-maze11-s0
      planprobe agents show runs/mine --json
    """

    agent: AgentSpec
    json: AsJson = False


@dataclass(frozen=True)
class Verify:
    """Compute an agent's scorecard again and compare every number; exit code 1 where one moved.

    Examples:
      planprobe agents verify drc12-rl-maze11-s0
      planprobe agents verify drc12-rl-maze11-s0 --tolerance 0.005   # other hardware, other rounding
    """

    agent: AgentSpec
    tolerance: Annotated[float, arg(metavar="FLOAT")] = 0.0
    """Largest difference that still passes."""
    json: AsJson = False
    threads: Threads = None


@dataclass(frozen=True)
class Publish:
    """Turn a training run into an agent's folder: recipe, weights, scorecard and card.

    Examples:
      planprobe agents publish runs/mine
      planprobe agents publish runs/mine --zoo elsewhere --overwrite
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder of a training run."""
    zoo: Annotated[Path | None, optional("FOLDER", "the zoo")] = None
    """Folder of agents to publish into."""
    num_levels: Annotated[int, arg(metavar="INT")] = 1000
    """Levels of each held-out set in the scorecard."""
    overwrite: Flag = False
    """Replace an agent of that name."""
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse and hand over."""
    choices = {"list": List, "show": Show, "verify": Verify, "publish": Publish}
    options = parse_one_of(choices, arguments, verb="agents")
    return {List: _list, Show: _show, Verify: _verify, Publish: _publish}[type(options)](options)


def _list(options: List) -> int:
    from planprobe.subjects.zoo import list_agents, load_agent

    rows = [_headline(load_agent(name)) for name in list_agents()]
    show(rows, rows, as_json=options.json)
    if not rows:
        say("The zoo is empty. Next: planprobe train RECIPE.toml, then planprobe agents publish RUN.")
    return 0


def _headline(agent: Agent) -> Row:
    return _trial_headline(agent) if agent.recipe.plays_trials else _level_headline(agent)


def _trial_headline(agent: Agent) -> Row:
    from planprobe.subjects.trial_scores import find_trial_score

    def score(**where) -> Any:
        row = find_trial_score(agent.metrics, **where)
        return row and row["value"]

    return {
        "name": agent.name, "task": agent.trial_task.kind, "net": agent.recipe.net.kind, "frames": agent.frames,
        "return": score(), "memory reset": score(memory="reset each step"),
    }  # fmt: skip


def _level_headline(agent: Agent) -> Row:
    from planprobe.subjects.envs.catalog import level_set_names
    from planprobe.subjects.scorecard import FIRST_MOVE, RESET, SOLVED, find_score

    def score(measure: str = SOLVED, **where) -> Any:
        row = find_score(agent.metrics, measure, **where)
        return row and row["value"]

    harder = level_set_names(agent.task)[-1]
    measure = FIRST_MOVE if harder == "far" else SOLVED
    return {
        "name": agent.name, "task": f"{agent.task.kind}{agent.task.size}", "net": agent.recipe.net.kind,
        "frames": agent.frames, "solved": score(), "memory reset": score(**asdict(RESET)),
        "harder": f"{harder}, {measure}", "no thinking": score(measure, levels=harder),
        "8 thinking steps": score(measure, levels=harder, thinking_steps=8),
    }  # fmt: skip


def _show(options: Show) -> int:
    from planprobe.instruments.hooks import open_policy

    agent = open_agent(options.agent)
    sites = {name: list(shape) for name, shape in open_policy(agent.net, name=agent.name).sites().items()}
    recipe, folder = agent.recipe.to_table(), agent.folder and str(agent.folder)
    record = {"agent": agent.name, "frames": agent.frames, "folder": folder, "recipe": recipe,
              "metrics": agent.metrics, "sites": sites}  # fmt: skip
    if options.json:
        show(record, [], as_json=True)
        return 0
    facts = {key: record[key] for key in ("agent", "frames", "folder")}
    for part in ("task", "inputs", "net", "training"):
        facts |= {f"{part}.{key}": value for key, value in recipe.get(part, {}).items()}
    print_table(({"key": key, "value": str(value)} for key, value in facts.items()), title="Recipe")
    if agent.metrics:
        print_table(map(with_interval, agent.metrics["rows"]), title="Scorecard")
    print_table(({"site": name, "shape": str(tuple(shape))} for name, shape in sites.items()), title="Sites")
    return 0


def _verify(options: Verify) -> int:
    from planprobe.cli.main import FAILED_CHECK
    from planprobe.subjects.zoo import verify_agent

    if options.tolerance < 0:
        raise ArgumentError(f"--tolerance {options.tolerance}: needs 0 or more.")
    use_threads(options.threads)
    with progress(f"playing with {options.agent}") as on_progress:
        found = verify_agent(options.agent, tolerance=options.tolerance, on_progress=on_progress)
    summary: Row = {"agent": found.agent, "passed": found.passed, "rows": found.num_rows}
    if options.json:
        show({**summary, "differences": found.differences}, [], as_json=True)
    else:
        print_table([{**summary, "moved": len(found.differences)}])
        if found.differences:
            print_table(found.differences, title="Numbers that moved")
    return 0 if found.passed else FAILED_CHECK


def _publish(options: Publish) -> int:
    from planprobe.subjects.zoo import publish_agent

    if options.num_levels < 1:
        raise ArgumentError(f"--num-levels {options.num_levels}: needs at least one.")
    use_threads(options.threads)
    with progress(f"measuring {options.run}") as on_progress:
        folder = publish_agent(
            options.run, options.zoo, num_levels=options.num_levels, overwrite=options.overwrite,
            on_progress=on_progress,
        )  # fmt: skip
    row: Row = {"agent": folder.name, "folder": str(folder)}
    show(row, [row], as_json=options.json)
    return 0
