"""`planprobe patch`: put parts of a clean run into a corrupted one, and see whether its move comes back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from planprobe.cli.arguments import (
    AgentSpec,
    ArgumentError,
    AsJson,
    Flag,
    TaskName,
    Threads,
    check_least,
    optional,
    parse,
)
from planprobe.cli.instrument import Measured, run_instrument
from planprobe.cli.output import effect_text, interval_column, interval_text, print_table, progress, say
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.instruments.addresses import Channels
    from planprobe.subjects.agent import Agent
    from planprobe.verdict.patch_table import PatchTable

MOST_ROWS = 40  # of a map, printed; --json and --out have all


@dataclass(frozen=True)
class Patch:
    """Exact activation patching on pairs of levels that differ in one thing and have another best first move.

    An agent that plays trials is given pairs of histories that differ in what is hidden (psi: the goal, the open door,
    the arm that pays, what actions do) and end on the same view, where another action is best.

    Each row is one part of the run: its effect on the present move, 0 = corrupted run, 1 = clean run, with its 95 %
    interval over levels, beside the first-order estimate (attribution patching). Measures: logit difference of the two
    best moves, KL from the clean policy, log-odds among legal moves, agreement with the clean route.

    Examples:
      planprobe patch drc12-rl-maze11-s0
      planprobe patch drc12-rl-maze11-s0 --squares each --num-exact 200 --out results/patched
      planprobe patch drc12-rl-maze11-s0 --change toggle-wall --sites 'ticks.{-1}.*.hook_h' --path 1 2 3 4 6 8
      planprobe patch drc13-rl-sokoban7-s0 --thinking-steps 2 --channels 0:8 8:16 --route-moves 8 --json
      planprobe patch gru128-rl2-goal5-s0 --sites 'ticks.0.0.hook_h' --out results/patched-psi
    """

    agent: AgentSpec
    change: Annotated[str | None, optional("NAME", "move-goal in mazes, swap-target in Sokoban, psi in trials")] = None
    """What differs in a pair: move-goal or toggle-wall (maze), swap-target or toggle-wall (Sokoban), psi (trials)."""
    sites: Annotated[tuple[str, ...], optional("GLOB ...", "ticks.*.*.hook_h")] = ("ticks.*.*.hook_h",)
    """Where; planprobe agents show AGENT lists sites. {0,2}, {1:3} and {-1} choose ticks or layers."""
    steps: Annotated[tuple[int, ...], optional("INT ...", "each by itself")] = ()
    """Clock steps, thinking steps first, each a patch of its own; of trials, steps since the trial began."""
    squares: Literal["all", "each"] = "all"
    """The whole board at once, or every square by itself."""
    channels: Annotated[tuple[str, ...], optional("all, each, or GROUP ...", "all")] = ("all",)
    """Groups such as 0:8 or 3,5,7."""
    path: Annotated[tuple[int, ...], optional("INT ...", "a map, not a path")] = ()
    """In place of a map: the square of the clean plan so many moves ahead, and as a control one off both plans."""
    source: Literal["patch", "zero", "mean", "resample"] = "patch"
    """What is put in: the clean run's activation, or an ablation of the corrupted run."""
    reverse: Flag = False
    """From the corrupted run into the clean one."""
    thinking_steps: Annotated[int, arg(metavar="INT")] = 0
    """Steps on the first observation before the move that is read."""
    route_moves: Annotated[int, arg(metavar="INT")] = 0
    """Also play on for so many moves, and measure agreement with the clean route."""
    no_attribution: Flag = False
    """Leave out the first-order estimates."""
    num_exact: Annotated[int | None, optional("INT", "all")] = None
    """Patch only so many exactly: half of them drawn at random, half those of the largest estimates."""
    only_right: Flag = False
    """Leave out pairs on which the agent misses the best move of either run."""
    levels: Annotated[str, arg(metavar="NAME")] = "test"
    """Level set of the agent's task that pairs are made of; of trials, the split of their layouts."""
    num_pairs: Annotated[int, arg(metavar="INT")] = 100
    """How many, each of another level."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Of pairs, resampled donors and intervals."""
    out: Annotated[Path | None, optional("FOLDER", "not saved")] = None
    """Where patch.json, its tables and its figures go."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, patch, print."""
    options = parse(Patch, arguments, verb="patch")
    channels = _check(options)
    return run_instrument("patch", options, partial(_patch, channels=channels), of_trials=None)


def _check(options: Patch) -> Any:
    """Refuse numbers that cannot be; the channel groups as `patch_table` takes them."""
    check_least(options, num_pairs=2, thinking_steps=0, route_moves=0)
    if options.path and options.squares != "all":
        raise ArgumentError("--path chooses its own squares: leave --squares out.")
    if options.num_exact is not None and (options.no_attribution or options.source != "patch"):
        raise ArgumentError(
            "--num-exact chooses by attribution: it goes with --source patch, without --no-attribution."
        )
    if options.channels in (("all",), ("each",)):
        return options.channels[0]
    return [_parse_channels(text) for text in options.channels]


def _parse_channels(text: str) -> Channels:
    try:
        if ":" in text:
            start, stop = text.split(":")
            return slice(int(start) if start else None, int(stop) if stop else None)
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(f"--channels {text}: give all, each, or groups such as 0:8 or 3,5,7.") from None


def _patch(agent: Agent, options: Patch, *, channels: Any) -> Measured:
    from planprobe.verdict.figures.patching import draw_patching
    from planprobe.verdict.patch_table import patch_table

    same = ("change", "sites", "squares", "path", "source", "reverse", "thinking_steps", "route_moves", "num_exact",
            "only_right", "levels", "num_pairs", "seed")  # fmt: skip
    with progress(f"patching {agent.name}") as on_progress:
        table = patch_table(
            agent, steps=options.steps or None, channels=channels, attribution=not options.no_attribution,
            on_progress=on_progress, **{name: getattr(options, name) for name in same},
        )  # fmt: skip
    agreement = None if table.agreement is None else asdict(table.agreement)
    facts = {**table.pair_facts(), "rank_agreement": agreement, "notes": table.notes}
    tables = {"rows": table.rows, "baselines": table.baselines} | ({"screen": table.screen} if table.screen else {})
    return Measured(table.level_sets(), facts, tables, partial(_print, agent, table, options), draw_patching)


def _print(agent: Agent, table: PatchTable, options: Patch) -> None:
    print_table(map(_short_baseline, table.baselines), title=f"{agent.name}: both runs of {table.change} pairs")
    rows = [row for row in table.rows if row["measure"] == "logit-difference"]
    shown = sorted(rows, key=lambda row: -abs(row["raw"] or 0))[:MOST_ROWS] if len(rows) > MOST_ROWS else rows
    measures = [row["measure"] for row in table.baselines]
    by_patch = [table.rows[place :: len(rows)] for place in range(len(rows))]  # rows come measure by measure
    lines = [_short(group) for group in by_patch if group[0] in shown]
    what = "source" if options.source != "patch" else "clean run"
    print_table(lines, title=f"put in from the {what}: 0 = corrupted, 1 = clean ({', '.join(measures)})")
    if len(shown) < len(rows):
        say(f"The {len(shown)} largest of {len(rows)}; --json and --out have all.")
    if table.agreement is not None and table.agreement.value == table.agreement.value:  # nan: too few patches
        say(f"Attribution against exact patches: rank correlation {effect_text(table.agreement)}.")
    for note in table.notes:
        say(f"Note: {note}")


def _short_baseline(row: Row) -> Row:
    return {
        "measure": row["measure"], "corrupted": row["corrupted"], "clean": row["clean"],
        "clean - corrupted": interval_column(row, "gap", sign="+"), "unit": row["unit"], "levels": row["num_levels"],
    }  # fmt: skip


def _short(group: list[Row]) -> Row:
    """One patch, its measures side by side."""
    first = group[0]
    known = (
        "measure",
        "value",
        "low",
        "high",
        "raw",
        "raw_low",
        "raw_high",
        "unit",
        "num_levels",
        "reason",
        "estimate",
    )
    short: Row = {key: value for key, value in first.items() if key not in known and value is not None}
    for row in group:
        short[str(row["measure"])] = str(row["reason"]) or interval_text(
            row["value"], row["low"], row["high"], sign="+"
        )
    return short | {"estimate": first.get("estimate"), "levels": first["num_levels"]}
