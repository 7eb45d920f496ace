"""`planprobe probe`: what can be read at every layer and tick, beside what could be read without a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from planprobe.cli.arguments import AgentSpec, ArgumentError, AsJson, Threads, open_agent, optional, parse, use_threads
from planprobe.cli.output import print_table, progress, say, show
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.core.protocols import Policy
    from planprobe.instruments.probe_table import ProbeTable
    from planprobe.subjects.agent import Agent

NUM_RANDOM_NETS = 2


@dataclass(frozen=True)
class Probe:
    """Fit linear read-outs of a concept at every chosen site, and score them against their controls.

    Each row is one site and kernel: macro-F1 on held-out levels with its 95 % interval, the best control (observation,
    history, untrained nets, shuffled labels, control task, majority) and the difference, p adjusted over the table.

    Examples:
      planprobe probe drc12-rl-maze11-s0
      planprobe probe drc13-rl-sokoban7-s0 --concept box-push-direction --source optimal
      planprobe probe runs/mine --sites 'ticks.*.0.hook_c' --kernels 1 3 --num-levels 400 --json
    """

    agent: AgentSpec
    concept: Annotated[str, arg(metavar="NAME")] = "agent-approach-direction"
    """What to read: agent-approach-direction, agent-exit-direction, box-push-direction, ..."""
    source: Literal["behaviour", "optimal"] = "behaviour"
    """Labels from what the agent goes on to do, or from a solver."""
    sites: Annotated[tuple[str, ...], optional("GLOB ...", "ticks.*.*.hook_h")] = ("ticks.*.*.hook_h",)
    """Where to read; planprobe agents show AGENT lists sites."""
    kernels: Annotated[tuple[int, ...], arg(metavar="INT ...")] = (1,)
    """Odd window sizes of the read-out."""
    levels: Annotated[str, arg(metavar="NAME")] = "test"
    """Level set of the agent's task."""
    num_levels: Annotated[int, arg(metavar="INT")] = 150
    """How many; 60 % fit, 20 % tune, 20 % score."""
    per_level: Annotated[int, arg(metavar="INT")] = 4
    """States of each level's episode."""
    seeds: Annotated[int, arg(metavar="INT")] = 1
    """Splits of the levels, pooled."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Of states, splits and controls."""
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, probe, print."""
    options = parse(Probe, arguments, verb="probe")
    for name in ("num_levels", "per_level", "seeds"):
        if getattr(options, name) < 1:
            raise ArgumentError(f"--{name.replace('_', '-')} {getattr(options, name)}: needs at least one.")
    if any(kernel < 1 or kernel % 2 == 0 for kernel in options.kernels):
        raise ArgumentError(f"--kernels {' '.join(map(str, options.kernels))}: windows have an odd size.")
    use_threads(options.threads)
    agent = open_agent(options.agent)
    table = _probe(agent, options)
    if options.json:
        show(_record(agent, table, options), [], as_json=True)
        return 0
    title = f"{agent.name}: {table.concept}, {options.source} labels"
    print_table(map(_short, _rows(table.rows, options)), title=title)
    say(f"{table.num_states} states of {table.num_levels} levels; the agent solves {table.solve_rate:.0%} of them.")
    for note in table.notes:
        say(f"Note: {note}")
    return 0


def _probe(agent: Agent, options: Probe) -> ProbeTable:
    from planprobe.instruments.concepts import get_concept
    from planprobe.instruments.hooks import open_policy
    from planprobe.instruments.probe_table import probe_table
    from planprobe.subjects.envs.plans import observation_planner

    concept = get_concept(options.concept)
    planner = None
    if options.source == "optimal":
        planner = observation_planner(agent.task.kind, observation=agent.task.observation)
    levels = agent.levels(options.levels, options.num_levels)
    with progress(f"probing {agent.name}") as on_progress:
        return probe_table(
            open_policy(agent.net, name=agent.name), agent.make_env, levels, concept, sites=list(options.sites),
            kernels=options.kernels, random_policies=_untrained(agent), planner=planner,
            per_level=options.per_level, seeds=options.seeds, seed=options.seed,
            on_progress=lambda fraction, text: on_progress(fraction, 1, text),
        )  # fmt: skip


def _untrained(agent: Agent) -> list[Policy]:
    """Nets of the same architecture with random weights; none where no recipe tells the architecture."""
    from planprobe.verdict.material import untrained_net

    if agent.folder is None:
        return []
    levels = agent.levels("test", 1)
    return [untrained_net(agent.recipe, agent.make_env, levels, seed=seed) for seed in range(1, NUM_RANDOM_NETS + 1)]


def _rows(rows: list[Row], options: Probe) -> list[Row]:
    return [row for row in rows if row["labels"] == options.source]


def _record(agent: Agent, table: ProbeTable, options: Probe) -> dict:
    return {
        "agent": agent.name, "concept": table.concept, "classes": list(table.class_names), "source": options.source,
        "num_levels": table.num_levels, "num_states": table.num_states, "solve_rate": table.solve_rate,
        "rows": _rows(table.rows, options), "by_horizon": _rows(table.by_horizon, options),
        "subsets": _rows(table.subsets, options), "notes": table.notes,
    }  # fmt: skip


def _short(row: Row) -> Row:
    """What fits on a line; --json has all of it."""

    def interval(name: str) -> str:
        numbers = [row.get(key) for key in (name, f"{name}_low", f"{name}_high")]
        value, low, high = ("-" if number is None else f"{number:.3f}" for number in numbers)
        return f"{value}  [{low}, {high}]"

    return {
        "site": row["site"], "kernel": row["kernel"], "macro-F1": interval("macro_f1"),
        "best control": row["best_control"], "beyond it": interval("delta"), "p (Holm)": row["p_holm"],
    }  # fmt: skip
