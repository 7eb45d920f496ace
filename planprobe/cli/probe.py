"""`planprobe probe`: what can be read at every layer and tick, beside what could be read without a plan."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from planprobe.cli.arguments import (
    AgentSpec,
    ArgumentError,
    AsJson,
    Flag,
    TaskName,
    Threads,
    check_folder,
    check_held_out,
    check_least,
    open_agent,
    optional,
    parse,
    use_threads,
)
from planprobe.cli.output import interval_column, print_table, progress, say, show
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.core.protocols import Policy
    from planprobe.instruments.probes.table import ProbeTable
    from planprobe.subjects.agent import Agent

NUM_RANDOM_NETS, NUM_CLONE_LEVELS = 5, 300
ROWS = ("rows", "by_horizon", "subsets")
Source = Literal["behaviour", "optimal", "alternative"]


@dataclass(frozen=True)
class Probe:
    """Fit linear read-outs of concepts at every chosen site, and score them against their controls.

    Each row is one site and read-out: the score on held-out levels (macro-F1 of classes, R² of numbers) with its 95 %
    interval, the best control (observation, history, geometry, untrained nets, twin, clone, shuffled labels, majority)
    and the difference, p adjusted over the table. Several concepts share one recording and one solver.

    Examples:
      planprobe probe drc12-rl-maze11-s0
      planprobe probe drc13-rl-sokoban7-s0 --concept box-push-direction --source optimal
      planprobe probe drc13-rl-sokoban7-s0 --concept all --clone --seeds 5 --out results/probes
      planprobe probe runs/mine --sites 'ticks.*.0.hook_c' --kernels 1 3 --num-levels 400 --json
    """

    agent: AgentSpec
    concept: Annotated[tuple[str, ...], optional("NAME ...", "agent-approach-direction")] = (
        "agent-approach-direction",
    )
    """What to read: names of planprobe.CONCEPTS (agent-approach-direction, next-box, action-ahead-3, steps-left, ...);
    all: the battery."""
    source: Source = "behaviour"
    """Labels from what the agent goes on to do, from a solver, or from the second-best way through a maze."""
    sites: Annotated[tuple[str, ...], optional("GLOB ...", "ticks.*.*.hook_h")] = ("ticks.*.*.hook_h",)
    """Where to read; planprobe agents show AGENT lists sites."""
    kernels: Annotated[tuple[int, ...], arg(metavar="INT ...")] = (1,)
    """Odd window sizes of the read-out of squares."""
    readouts: Annotated[tuple[str, ...], optional("NAME ...", "pooled agent flat")] = ("pooled", "agent", "flat")
    """Read-outs of whole states: pooled, flat, agent, around."""
    levels: Annotated[str, arg(metavar="NAME")] = "test"
    """Level set of the agent's task."""
    num_levels: Annotated[int, arg(metavar="INT")] = 150
    """How many; 60 % fit, 20 % tune, 20 % score."""
    per_level: Annotated[int, arg(metavar="INT")] = 4
    """States of each level's episode."""
    mdl: Flag = False
    """Also the description length: bits a label in an online code, beside an untrained net's."""
    clone: Flag = False
    """Train a memoryless net to imitate the agent, as a control. A few minutes."""
    seeds: Annotated[int, arg(metavar="INT")] = 1
    """Splits of the levels, pooled."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Of states, splits and controls."""
    out: Annotated[Path | None, optional("FOLDER", "not saved")] = None
    """Where probe.json and its tables go."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, probe, print."""
    options, began = parse(Probe, arguments, verb="probe"), time.monotonic()
    check_least(options, num_levels=1, per_level=1, seeds=1)
    if any(kernel < 1 or kernel % 2 == 0 for kernel in options.kernels):
        raise ArgumentError(f"--kernels {' '.join(map(str, options.kernels))}: windows have an odd size.")
    check_held_out(options)
    if options.out is not None:
        check_folder(options.out)
    use_threads(options.threads)
    agent = open_agent(options.agent, task=options.task)
    tables = _probe(agent, options)
    if options.out is not None:
        say(f"Saved: {_save(agent, tables, options, options.out, seconds=time.monotonic() - began)}")
    if options.json:
        records = [_record(agent, table, options) for table in tables]
        show(records[0] if len(records) == 1 else {"tables": records}, [], as_json=True)
        return 0
    for table in tables:
        _print(agent, table, options)
    return 0


def _probe(agent: Agent, options: Probe) -> list[ProbeTable]:
    from planprobe.instruments.concepts.catalog import expand_concepts
    from planprobe.instruments.hooks import open_policy, select_sites
    from planprobe.instruments.probes.state_rows import READOUTS
    from planprobe.instruments.probes.table import probe_tables
    from planprobe.subjects.envs.geometry import observation_geometry
    from planprobe.subjects.envs.plans import observation_planner

    concepts = expand_concepts(options.concept)
    if unknown := set(options.readouts) - set(READOUTS):
        raise ArgumentError(f"--readouts {' '.join(sorted(unknown))}: there are {', '.join(READOUTS)}.")
    task = agent.task
    planners: dict = {}
    if options.source == "optimal" or any("distance" in concept.needs for concept in concepts):
        planners["planner"] = observation_planner(task.kind, observation=task.observation)
    if options.source == "alternative":
        planners["alternative"] = observation_planner(task.kind, plan="alternative", observation=task.observation)
    levels = agent.levels(options.levels, options.num_levels)
    opened = open_policy(agent.net, name=agent.name)
    select_sites(opened, list(options.sites))  # a misspelt site should not wait for a clone to be trained
    with progress(f"probing {agent.name}") as on_progress:
        tables = probe_tables(
            opened, agent.make_env, levels, concepts, sites=list(options.sites), kernels=options.kernels,
            readouts=options.readouts, random_policies=_untrained(agent), twin=_twin(agent),
            clone=_clone(agent, options), geometry=observation_geometry(observation=task.observation),
            per_level=options.per_level, description_length=options.mdl, seeds=options.seeds, seed=options.seed,
            on_progress=lambda share, text: on_progress(share, 1, text), **planners,
        )  # fmt: skip
    shown = [table for table in tables.values() if _rows(table.rows, options)]
    if not shown:
        raise ArgumentError(f"--concept {' '.join(options.concept)}: nothing to read by {options.source} labels here.")
    for concept in concepts:
        if concept.name not in tables:
            say(f"Note: '{concept.name}' has one and the same label on these levels; it was left out.")
    return shown


def _untrained(agent: Agent) -> list[Policy]:
    """Nets of the same architecture with random weights; none where no recipe tells the architecture."""
    from planprobe.verdict.material import untrained_net

    if agent.folder is None:
        return []
    levels = agent.levels("test", 1)
    return [untrained_net(agent.recipe, agent.make_env, levels, number) for number in range(NUM_RANDOM_NETS)]


def _twin(agent: Agent) -> Policy | None:
    """The memoryless agent of the zoo that was trained on the same levels, where there is one."""
    from planprobe.subjects.zoo import find_twin, load_agent

    name = find_twin(agent)
    return None if name is None else load_agent(name).net


def _clone(agent: Agent, options: Probe) -> Policy | None:
    from planprobe.subjects.training.imitate import clone_policy

    if not options.clone:
        return None
    net, agreement = clone_policy(agent.net, agent.make_env, agent.levels("train", NUM_CLONE_LEVELS), seed=options.seed)
    say(f"The clone takes the agent's action on {agreement:.0%} of unseen states.")
    return net


def _rows(rows: list[Row], options: Probe) -> list[Row]:
    return [row for row in rows if row["labels"] == options.source]


def _record(agent: Agent, table: ProbeTable, options: Probe) -> dict:
    return {
        "agent": agent.name, "concept": table.concept, "classes": list(table.class_names), "source": options.source,
        "measure": table.measure, "num_levels": table.num_levels, "num_states": table.num_states,
        "solve_rate": table.solve_rate, "rows": _rows(table.rows, options),
        "by_horizon": _rows(table.by_horizon, options), "subsets": _rows(table.subsets, options), "notes": table.notes,
    }  # fmt: skip


def _save(agent: Agent, tables: list[ProbeTable], options: Probe, out: Path, *, seconds: float) -> Path:
    """Rows of all concepts and of every kind of label, with what is needed to make them again."""
    from planprobe.cli.saving import describe_run, save_run

    sets = {"probed": agent.levels(options.levels, options.num_levels)}
    told = [_record(agent, table, options) for table in tables]
    facts = {"concepts": [{key: value for key, value in each.items() if key not in ROWS} for each in told]}
    rows = {name: [row for table in tables for row in getattr(table, name)] for name in ROWS}
    record = describe_run(agent, options, sets, seconds=seconds) | facts
    return save_run(out, "probe", record, {name: part for name, part in rows.items() if part})


def _print(agent: Agent, table: ProbeTable, options: Probe) -> None:
    title = f"{agent.name}: {table.concept}, {options.source} labels"
    print_table((_short(row, table.measure) for row in _rows(table.rows, options)), title=title)
    say(f"{table.num_states} states of {table.num_levels} levels; the agent solves {table.solve_rate:.0%} of them.")
    for note in table.notes:
        say(f"Note: {note}")


def _short(row: Row, measure: str) -> Row:
    """What fits on a line; --json has all of it."""
    score = "macro-F1" if measure == "macro_f1" else "R²"
    return {
        "site": row["site"], "read-out": row["readout"], score: interval_column(row, measure),
        "best control": row["best_control"], "beyond it": interval_column(row, "delta"), "p (Holm)": row["p_holm"],
    }  # fmt: skip
